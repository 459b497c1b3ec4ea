"""What a start finds in the folder: where the log stands, which tails are torn, which intents have no outcome."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import StoreError
from . import note
from .canonical import parsed
from .clock import posix
from .disk import Disk
from .journal import replay
from .ledger import CHECKPOINTS, LOG, Head
from .merkle import leaf_hash
from .records import aftermath
from .resume import take
from .writer import LONGEST_UNSIGNED, MOST_UNSIGNED

LARGEST_TEAR = 64 << 20  # bytes behind the first bad line that can still be one torn batch
REPAIR = ".repair"
_NOTES = 64 << 10  # bytes at the end of the checkpoints that hold the last one for sure
_VERIFY = "Run `flowwarden verify` on it; to record anew, move the folder away"


@dataclass
class Found:
    """What a start has to put down: torn tails as gap records, intents without outcome."""

    head: Head = field(default_factory=Head)
    origin: str = ""
    key: str = ""
    gaps: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[dict[str, Any]] = field(default_factory=list)
    resumed: bool = False  # the log was read from its last checkpoint on
    torn: list[tuple[str, int]] = field(default_factory=list)
    renamed: list[tuple[Path, Path]] = field(default_factory=list)
    checkpointed: int = -1
    runs: int = 0
    start: str = ""  # time of the last unsigned `start`, the first record of a batch
    after_start: bool = False  # whether that run went on, which it does when its start is signed
    signed_time: float = 0.0
    stopped: bool = False  # the last record ends a run
    behind_stop: bool = False


def recover(folder: Path) -> Found:
    """Reads the log to its last good record and cuts torn tails of log, checkpoints and frame files.

    What is cut off is kept in bodies/ under its hash. StoreError if the log does not fit its own checkpoints, or is
    broken further from its end than a crash can explain: such a folder is evidence of something, and is left alone.
    """
    found = Found()
    try:
        replay(folder)
        last = _checkpoint(folder, found)
        root = _read_log(folder, last, found)
        _compare(folder, last, root, found)
        _cut_frames(folder, found)
        found.gaps += _left(folder)
        _keep_half_bodies(folder, found)
        gaps = [_keep_tail(folder, name, good) for name, good in found.torn]
        found.gaps += [gap for gap in gaps if gap not in found.gaps]
        _leave(folder, found.gaps)
        for part, whole in found.renamed:
            part.replace(whole)
            part.unlink(missing_ok=True)  # two names of one file stay two when one replaces the other
        for name, good in found.torn:
            _cut(folder / name, good)
    except OSError as error:
        raise StoreError(f"{folder} cannot be recovered: {error.strerror or error}") from error
    return found


def _read_log(folder: Path, last: note.Checkpoint | None, found: Found) -> bytes | None:
    """Walks the log, from the last checkpoint on if it can; gives the tree head at that checkpoint's size."""
    path = folder / LOG
    if not path.exists():
        return None
    good = _resume(folder, last, found)
    head = found.head
    root = head.tree.root() if last and head.seq == last.size else None
    with path.open("rb") as file:
        file.seek(good)
        for line in file:
            text = line[:-1]
            if not line.endswith(b"\n") or not _follows(text, head, found):
                break
            good += len(line)
            head.prev = sha256(text).hexdigest()
            head.tree.add(leaf_hash(text))
            head.seq += 1
            if last and head.seq == last.size:
                root = head.tree.root()
                found.start, found.after_start, found.signed_time = "", False, head.time
    _tear(folder, LOG, good, found)
    _unsigned(folder, head.seq - (last.size if last else 0), found)
    return root


def _ends_run(folder: Path, offset: int) -> bool:
    """Whether the record that ends at an offset is a `stop`; its line is a short one."""
    with (folder / LOG).open("rb") as file:
        file.seek(max(0, offset - 4096))
        line = file.read(min(offset, 4096)).split(b"\n")[-2:][0]
    return b'"type":"stop"' in line


def _unsigned(folder: Path, count: int, found: Found) -> None:
    """StoreError for an end that a gateway would have signed: to go on would be to sign what somebody put there."""
    if count > MOST_UNSIGNED or (count > 0 and found.after_start):
        raise StoreError(
            f"{folder / LOG} ends with {count} records that a gateway would have signed: checkpoints are missing",
            _VERIFY,
        )
    if found.behind_stop:
        raise StoreError(f"{folder / LOG} goes on behind the end of a run", _VERIFY)
    waited = found.head.time - found.signed_time
    if count > 0 and found.signed_time and waited > LONGEST_UNSIGNED:
        reason = f"{count} records in {waited:.0f} s had not been signed when the gateway ended"
        found.gaps.append({"reason": reason, "file": LOG, "offset": 0, "length": 0, "sha256": ""})


def _resume(folder: Path, last: note.Checkpoint | None, found: Found) -> int:
    """Takes up where the last checkpoint left off, if it can; the offset to read from."""
    left = take(folder, last.size, last.root) if last else None
    if left is None:
        return 0
    found.head, offset, more = left
    found.resumed = True
    found.signed_time = found.head.time
    found.stopped = _ends_run(folder, offset)
    found.origin, found.key, found.runs = str(more["origin"]), str(more["key"]), int(more["run"])
    return offset


def _follows(text: bytes, head: Head, found: Found) -> bool:
    """Takes in one record; False if it is not the one that comes next."""
    try:
        record = parsed(text)
        if record["seq"] != head.seq or record["prev"] != head.prev:
            return False
        head.time = posix(record["time"])
        _note(record, head, found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return True


def _note(record: dict[str, Any], head: Head, found: Found) -> None:
    kind = record["type"]
    if kind == "start":
        found.start, found.after_start = record["time"], False
    elif found.start and (record["time"] != found.start or not aftermath(record)):
        found.after_start = True
    if found.stopped and kind != "start":
        found.behind_stop = True
    found.stopped = kind == "stop"
    if kind == "intent":
        head.open[head.seq] = (record["flow"], record["session"])
    elif kind == "outcome":
        head.open.pop(record.get("intent") or -1, None)
        frame = record.get("frame")
        if frame:
            head.ends[frame["file"]] = frame["offset"] + frame["length"]
    elif kind == "start":
        found.origin = found.origin or record["origin"]
        found.key = record["key"]
        found.runs += 1
    elif kind == "key":
        found.key = record["new"]
    elif kind == "removal":
        for removed in record["files"]:
            head.ends.pop(removed["file"], None)


def _checkpoint(folder: Path, found: Found) -> note.Checkpoint | None:
    """The last whole checkpoint; what is torn behind it is cut off."""
    path = folder / CHECKPOINTS
    if not path.exists() or not path.stat().st_size:
        return None
    with path.open("rb") as file:
        start = max(0, path.stat().st_size - _NOTES)
        file.seek(start)
        data = file.read()
    end = _last_note_end(data)
    _tear(folder, CHECKPOINTS, start + end, found)
    texts = list(note.split(data[:end].decode("utf-8", "replace").splitlines(keepends=True)))
    if not texts and not start:
        return None
    try:
        last = note.parse(texts[-1])
    except (IndexError, StoreError):
        raise StoreError(f"{path} holds something that is not a checkpoint", _VERIFY) from None
    found.checkpointed = last.size
    return last


def _last_note_end(data: bytes) -> int:
    """Where the last signature line of a file of checkpoints ends, with the empty line behind it."""
    end = len(data)
    while end:
        start = data.rfind(b"\n", 0, end - 1) + 1
        line = data[start:end]
        if line.startswith("\u2014 ".encode()) and line.endswith(b"\n"):
            return min(end + 1, len(data)) if data[end : end + 1] == b"\n" else end
        end = start
    return 0


def _compare(folder: Path, last: note.Checkpoint | None, root: bytes | None, found: Found) -> None:
    """Whether the log is the one that its last checkpoint was signed over."""
    if last is None:
        return
    if last.size > found.head.seq:
        raise StoreError(
            f"{folder / LOG} has {found.head.seq} good records, but a checkpoint was signed over {last.size}", _VERIFY
        )
    if last.size and root != last.root:
        raise StoreError(f"{folder / LOG} is not the log that its last checkpoint was signed over", _VERIFY)


def _tear(folder: Path, name: str, good: int, found: Found) -> None:
    """Marks a file to be cut at its last good offset, once all of the folder has been looked at."""
    path = folder / name
    size = path.stat().st_size
    if size - good > LARGEST_TEAR:
        raise StoreError(f"{path} is broken at offset {good}, {size - good} bytes before its end", _VERIFY)
    if size > good:
        found.torn.append((name, good))


def _keep_tail(folder: Path, name: str, good: int) -> dict[str, Any]:
    """Keeps what will be cut off under its hash; gives the gap record that says so."""
    with (folder / name).open("rb") as file:
        file.seek(good)
        torn = file.read()
    return {"reason": "torn tail", "file": name, "offset": good, "length": len(torn), "sha256": _keep(folder, torn)}


def _cut(path: Path, good: int) -> None:
    with path.open("r+b") as file:
        file.truncate(good)
        os.fsync(file.fileno())


def _left(folder: Path) -> list[dict[str, Any]]:
    """The gaps of a repair that was itself cut short before they were recorded."""
    try:
        found = json.loads((folder / REPAIR).read_bytes())
        return [gap for gap in found if isinstance(gap, dict)]
    except (FileNotFoundError, ValueError):
        return []


def _leave(folder: Path, gaps: list[dict[str, Any]]) -> None:
    """Puts the gaps down beside the log before anything is cut; `start` removes them when the log holds them."""
    if gaps:
        fresh = folder / f"{REPAIR}.new"
        with fresh.open("wb") as file:
            file.write(json.dumps(gaps).encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / REPAIR)
        Disk().sync_folder(folder)


def _keep(folder: Path, data: bytes) -> str:
    """Puts what is cut off into bodies/, durably."""
    digest = sha256(data).hexdigest()
    bodies = folder / "bodies"
    bodies.mkdir(exist_ok=True)
    with (bodies / digest).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return digest


def _cut_frames(folder: Path, found: Found) -> None:
    """Frames behind the last recorded one: whole ones of open intents are kept, the rest is cut off."""
    from .frames import flow_id, whole_frames

    oldest = min((name.split("/")[1] for name in found.head.ends), default="")
    by_flow = {flow: (seq, session) for seq, (flow, session) in found.head.open.items()}
    frames: dict[int, dict[str, Any]] = {}
    for path in sorted((folder / "flows").glob("*/*.mitm")):
        name = path.relative_to(folder).as_posix()
        good = found.head.ends.get(name)
        if good is None:
            if found.resumed and path.parent.name < oldest:
                continue  # of a day that was over before the last checkpoint
            good = 0
        size = path.stat().st_size
        if size < good:
            found.gaps.append(
                {"reason": "frames are missing", "file": name, "offset": size, "length": good - size, "sha256": ""}
            )
            continue
        if size == good:
            continue
        with path.open("rb") as file:
            file.seek(good)
            tail = file.read()
        for start, end in whole_frames(tail):
            known = by_flow.get(flow_id(tail[start:end]))
            if known is None or known[0] in frames:
                break
            frames[known[0]] = {
                "file": name, "offset": good, "length": end - start, "sha256": sha256(tail[start:end]).hexdigest()
            }  # fmt: skip
            good += end - start
        _tear(folder, name, good, found)
    rest = [seq for seq in found.head.open if seq not in frames]
    for seq in (*frames, *rest):  # outcomes name the frames of a file in their order
        flow, session = found.head.open[seq]
        record: dict[str, Any] = {"flow": flow, "session": session, "intent": seq}
        if seq in frames:
            record["frame"] = frames[seq]
        found.unknown.append(record)


def _keep_half_bodies(folder: Path, found: Found) -> None:
    """Bodies whose stream a crash cut: what there is of them is kept under its hash."""
    for path in sorted((folder / "bodies").glob(".part-*")):
        digest = sha256()
        size = 0
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
        if size:
            found.renamed.append((path, path.with_name(digest.hexdigest())))
            found.gaps.append(
                {
                    "reason": "half a body",
                    "file": f"bodies/{path.name}",
                    "offset": 0,
                    "length": size,
                    "sha256": digest.hexdigest(),
                }
            )
        else:
            path.unlink()
