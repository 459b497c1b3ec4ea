"""Reading a recording: its records, and the frame of one flow. Needs nothing but the folder."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import StoreError
from . import messages
from .canonical import parsed
from .frames import decode
from .ledger import LOG


def records(folder: Path, *, offset: int = 0, torn: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each record with the offset behind it, from an offset on. A last line without its end is left out.

    StoreError where a line is not a record, unless `torn`: then reading ends there.
    """
    path = folder / LOG
    try:
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                record = _record(line)
                if record is None:
                    if torn:
                        return
                    raise StoreError(
                        f"{path} holds something that is not a record at offset {offset}", "Run `flowwarden verify`"
                    )
                offset += len(line)
                yield offset, record
    except FileNotFoundError:
        raise StoreError(f"there is no recording in {folder}") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None


def record_at(folder: Path, seq: int) -> dict[str, Any]:
    """One record by its number, found by halving: no more than some thirty lines are read. StoreError."""
    path = folder / LOG
    try:
        with path.open("rb") as file:
            low, high = 0, path.stat().st_size  # the record's line begins at or behind `low`, before `high`
            while low < high:
                middle = (low + high) // 2
                file.seek(max(0, middle - 1))
                if middle:
                    file.readline()  # what is left of the line before, or nothing if one ends here
                start = file.tell()
                record = _record(file.readline()) if start < high else None
                if record is None or record["seq"] > seq:
                    high = middle
                elif record["seq"] == seq:
                    return record
                else:
                    low = file.tell()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
    raise StoreError(f"there is no record {seq} in {path}")


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        found = parsed(line[:-1])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("seq"), int) and "type" in found else None


def inside(folder: Path, name: str) -> Path:
    """A file below the recording by the name that a record gives it. StoreError if it leads anywhere else."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise StoreError(f"{name!r} is not a file of this recording")
    return folder / name


def frame_bytes(folder: Path, at: dict[str, Any]) -> bytes:
    """A frame's bytes, checked against its record. StoreError."""
    path = inside(folder, str(at["file"]))
    try:
        with path.open("rb") as file:
            file.seek(at["offset"])
            data = file.read(at["length"])
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
    if sha256(data).hexdigest() != at["sha256"]:
        raise StoreError(f"{path} does not hold the recorded frame at offset {at['offset']}", "Run `flowwarden verify`")
    return data


def frame_state(folder: Path, at: dict[str, Any]) -> dict[str, Any]:
    """A frame as the state of its flow, with bodies put in from bodies/ by `full_bodies`. StoreError."""
    return decode(frame_bytes(folder, at))


def full_bodies(folder: Path, state: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    """Puts bodies that were too large for the frame back into a flow's state. StoreError if one is not what it was."""
    for body in outcome.get("bodies", ()):
        message = state.get(body["of"])
        if body["of"] == "websocket" and body["kept"] and message:
            message["messages"] = [*messages.decode(body_bytes(folder, body["sha256"])), *message["messages"]]
        elif body["kept"] and message:
            message["content"] = body_bytes(folder, body["sha256"])
    return state


def body_bytes(folder: Path, digest: str) -> bytes:
    """A body outside its frame, checked against its name. StoreError."""
    if len(digest) != 64 or not digest.isalnum():
        raise StoreError(f"{digest!r} is not the name of a body")
    path = folder / "bodies" / digest
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
    if sha256(data).hexdigest() != digest:
        raise StoreError(f"{path} is not the body that was recorded", "Run `flowwarden verify`")
    return data


def outcomes(folder: Path, session: str | None = None) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each flow that has an outcome as (what it was, how it ended), in the order in which they were decided on.

    What it was is the intent, or the outcome's `about` where the call was refused without one.
    """
    waiting: dict[int, tuple[dict[str, Any], dict[str, Any] | None]] = {}
    for _, record in records(folder):
        kind = record["type"]
        if session is not None and record.get("session") != session:
            continue
        if kind == "intent":
            waiting[record["seq"]] = (record, None)
        elif kind == "outcome":
            intent = record.get("intent")
            if intent is None:
                about = {
                    **record.get("about", {}),
                    "flow": record["flow"],
                    "seq": record["seq"],
                    "time": record["time"],
                }
                waiting[record["seq"]] = (about, record)
            elif intent in waiting:
                waiting[intent] = (waiting[intent][0], record)
        while waiting:
            first = next(iter(waiting))
            call, end = waiting[first]
            if end is None:
                break
            del waiting[first]
            yield call, end
    for call, end in waiting.values():
        if end is not None:
            yield call, end
