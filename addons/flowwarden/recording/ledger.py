"""The evidence log itself, without threads: batches of records and frames become durable, or nothing of them counts."""

from __future__ import annotations

import errno
from asyncio import Future
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from . import note
from .canonical import canonical
from .clock import Stamps
from .disk import Appended, Disk
from .files import FrameFiles, frame_file
from .journal import LARGEST, Journal, Piece
from .merkle import Frontier, leaf_hash
from .note import Signer

LOG = "evidence.ndjson"
CHECKPOINTS = "checkpoints"
GENESIS = "0" * 64
PASSING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)  # what may be over in a while, and takes nothing with it that was durable


@dataclass(slots=True)
class Entry:
    """One record on its way to the disk, and who waits for it."""

    type: str
    record: dict[str, Any]
    frame: bytes | None = None
    session: str = ""
    waiter: Future[int] | None = None
    seq: int = -1
    error: Exception | None = None


@dataclass
class Head:
    """Where the log stands. `open` are the intents without outcome: seq → (flow, session)."""

    seq: int = 0  # of the next record
    prev: str = GENESIS
    time: float = 0.0
    tree: Frontier = field(default_factory=Frontier)
    open: dict[int, tuple[str, str]] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)  # of the frame files of the last days


class DiskError(Exception):
    """The disk refused. `passing` says that it may work again: nothing unsynced was lost."""

    def __init__(self, cause: OSError, doing: str, passing: bool) -> None:
        super().__init__(f"{doing}: {cause.strerror or cause}")
        self.passing = passing


class Ledger:
    """Appends batches. One thread at a time."""

    def __init__(
        self,
        folder: Path,
        head: Head,
        *,
        origin: str,
        signers: Sequence[Signer],
        clock: Callable[[], float],
        disk: Disk,
    ) -> None:
        self.folder = folder
        self.head = head
        self.origin = origin
        self.signers = list(signers)
        self.clock = clock
        self.disk = disk
        self.log = Appended(disk, folder / LOG)
        self.notes = Appended(disk, folder / CHECKPOINTS)
        self.files = FrameFiles(folder, disk)
        self.journal = Journal(folder, disk)
        self.checkpointed = -1  # the tree size that was signed last
        self.last_note = ""
        self.run = 0
        self._stamps = Stamps()

    def commit(self, entries: Sequence[Entry]) -> None:
        """Makes a batch durable and gives each entry its seq, or its `error` where it could not be written as JSON.

        DiskError: nothing of the batch counts. What stands behind the last durable offset is cut off by `undo`.
        """
        frames, lines, head = self._plan(entries)
        data = b"".join(lines)
        try:
            pieces = [(name, self.files.append(name, frame), frame) for name, frame in frames]
            pieces.append((LOG, self.log.append(data), data))
        except OSError as error:
            raise DiskError(error, "evidence cannot be written", error.errno in PASSING) from error
        try:
            self._secure(pieces)
        except OSError as error:  # the kernel may have dropped the pages: another fsync would lie
            raise DiskError(error, "evidence cannot be made durable", False) from error
        self.log.keep()
        self.head = head
        for entry in entries:
            if entry.error is not None:
                continue
            if entry.type == "intent":
                head.open[entry.seq] = (str(entry.record.get("flow", "")), str(entry.record.get("session", "")))
            elif entry.type == "outcome":
                head.open.pop(entry.record.get("intent") or -1, None)
                found = entry.record.get("frame")  # one that a crash left, and that a start names
                if found:
                    head.ends[found["file"]] = found["offset"] + found["length"]
        for name, offset, data in pieces[:-1]:
            head.ends[name] = offset + len(data)

    def _secure(self, pieces: Sequence[Piece]) -> None:
        """Makes what was written durable: a small batch in the journal, a large one in its files. OSError."""
        if self.journal.takes(pieces):
            self.journal.put(pieces)
            self.files.keep()
        else:
            self._sync()

    def _sync(self) -> None:
        """Makes everything durable in its own file; frames before the log that names them. OSError."""
        self.files.sync()
        self.log.sync()
        self.files.keep()
        self.journal.reset()

    def settle(self) -> None:
        """Makes everything durable in its own file, so that the journal is not needed. DiskError."""
        try:
            self._sync()
        except OSError as error:
            raise DiskError(error, "evidence cannot be made durable", False) from error

    def _plan(self, entries: Sequence[Entry]) -> tuple[list[tuple[str, bytes]], list[bytes], Head]:
        """Frames by file and lines of a batch, and where the log stands behind it; nothing is written yet."""
        old = self.head
        now = self.clock()
        stamp = self._stamps.text(now)
        head = Head(old.seq, old.prev, now, old.tree.copy(), old.open, old.ends)
        back = old.time - now
        frames: dict[str, list[bytes]] = {}
        lines: list[bytes] = []
        ends: dict[str, int] = {}
        for entry in entries:
            line = dict(entry.record)
            line["seq"], line["prev"], line["time"], line["type"] = head.seq, head.prev, stamp, entry.type
            if back > 0:
                line["clock_back_ms"] = max(1, round(back * 1000))
            try:
                if entry.frame is not None:
                    name = frame_file(stamp[:10], entry.session)
                    start = ends[name] if name in ends else self._end(name)
                    line["frame"] = {
                        "file": name,
                        "offset": start,
                        "length": len(entry.frame),
                        "sha256": sha256(entry.frame).hexdigest(),
                    }
                text = canonical(line)
            except (ValueError, TypeError, RecursionError) as error:
                entry.error = error
                continue
            if entry.frame is not None:
                frames.setdefault(name, []).append(entry.frame)
                ends[name] = start + len(entry.frame)
            back = 0
            entry.seq = head.seq
            head.seq += 1
            head.prev = sha256(text).hexdigest()
            head.tree.add(leaf_hash(text))
            lines.append(text + b"\n")
        return list(_joined(frames)), lines, head

    def _end(self, name: str) -> int:
        try:
            return self.files.get(name).end
        except OSError as error:
            raise DiskError(error, "a frame file cannot be opened", error.errno in PASSING) from error

    def checkpoint(self) -> bool:
        """Signs the tree head as it stands, if it was not signed already. DiskError."""
        size = self.head.tree.size
        if size == self.checkpointed:
            return False
        self.settle()
        text = note.signed(self.origin, size, self.head.tree.root(), self._stamps.text(self.clock()), self.signers)
        try:
            self.notes.append((text + "\n").encode())
        except OSError as error:
            raise DiskError(error, "a checkpoint cannot be written", error.errno in PASSING) from error
        try:
            self.notes.sync()
        except OSError as error:
            raise DiskError(error, "a checkpoint cannot be made durable", False) from error
        self.notes.keep()
        self.checkpointed = size
        self.last_note = text
        self._leave_resume()
        return True

    def _leave_resume(self) -> None:
        """Says where the log stands, with the ends of the frame files of the last two days, which alone can be torn."""
        from .resume import leave

        days = sorted({name.split("/")[1] for name in self.head.ends})[-2:]
        for name in [name for name in self.head.ends if name.split("/")[1] not in days]:
            del self.head.ends[name]
        key = str(self.signers[0].verifier)
        leave(self.folder, self.head, self.log.end, {"origin": self.origin, "key": key, "run": self.run})

    def undo(self) -> None:
        """Cuts everything back to the last durable offset, after a failed write. DiskError."""
        try:
            self.files.undo()
            self.log.undo()
            self.notes.undo()
        except OSError as error:
            raise DiskError(error, "the torn tail cannot be cut", error.errno in PASSING) from error

    def close(self, whole: bool = False) -> None:
        """Closes all files; with `whole` everything was settled and the journal may go."""
        try:
            self.journal.close(whole)
        except OSError:
            pass
        self.files.close()
        self.log.close()
        self.notes.close()


def _joined(frames: Mapping[str, list[bytes]]) -> Iterator[tuple[str, bytes]]:
    """What to write into each file: at one go, unless that would copy much."""
    for name, parts in frames.items():
        if sum(map(len, parts)) <= LARGEST:
            yield name, b"".join(parts)
        else:
            for part in parts:
                yield name, part
