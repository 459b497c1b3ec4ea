"""Retention: what is older than wanted is removed, and a record that stays says what it was, its hashes included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .clock import posix
from .read import inside, records

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
MOST_FILES = 500  # in one removal record


def expired(folder: Path, before: float) -> Iterator[dict[str, Any]]:
    """`removal` records for all that was recorded before a day's beginning (POSIX seconds of any moment in that day).

    Frame files go by the day in their name; a body goes when no flow since then names it. StoreError.
    """
    day = datetime.fromtimestamp(before, UTC).strftime("%Y-%m-%d")
    gone = _removed(folder)
    names = [
        path.relative_to(folder).as_posix()
        for path in sorted((folder / "flows").glob("*/*.mitm"))
        if _DAY.fullmatch(path.parent.name) and path.parent.name < day
    ]
    names += [f"bodies/{digest}" for digest in _old_bodies(folder, posix(day))]
    files = [_described(folder, name) for name in names if name not in gone or (folder / name).exists()]
    for at in range(0, len(files), MOST_FILES):
        yield {"reason": "retention", "before": f"{day}T00:00:00Z", "files": files[at : at + MOST_FILES]}


def _removed(folder: Path) -> set[str]:
    return {
        file["file"]
        for _, record in records(folder, torn=True)
        if record["type"] == "removal"
        for file in record["files"]
    }


def _old_bodies(folder: Path, before: float) -> list[str]:
    """Bodies that only records from before a moment name."""
    old: set[str] = set()
    for _, record in records(folder, torn=True):
        names = {body["sha256"] for body in record.get("bodies") or () if body["kept"]}
        if record["type"] == "gap" and record.get("sha256"):
            names.add(record["sha256"])
        if posix(record["time"]) < before:
            old |= names
        else:
            old -= names
    return sorted(digest for digest in old if (folder / "bodies" / digest).exists())


def _described(folder: Path, name: str) -> dict[str, Any]:
    digest, size = sha256(), 0
    try:
        with inside(folder, name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise StoreError(f"{folder / name} cannot be read: {error.strerror}") from None
    return {"file": name, "size": size, "sha256": digest.hexdigest()}


def remove(folder: Path, record: dict[str, Any]) -> int:
    """Deletes what a removal record names, once that record is durable; how many files it were. StoreError."""
    count = 0
    for file in record["files"]:
        path = inside(folder, file["file"])
        try:
            path.unlink(missing_ok=True)
            count += 1
            if path.parent.parent == folder / "flows" and not any(path.parent.iterdir()):
                path.parent.rmdir()
        except OSError as error:
            raise StoreError(f"{path} cannot be removed: {error.strerror}") from None
    return count
