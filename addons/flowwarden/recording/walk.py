"""One walk over the evidence log for verify: each record's link, each frame and body that a record names."""

from __future__ import annotations

import fcntl
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StoreError
from .agree import Agreement
from .canonical import parsed
from .clock import posix
from .journal import FILE as JOURNAL
from .ledger import GENESIS, LOG
from .merkle import Frontier, leaf_hash
from .note import VerifierKey
from .read import inside
from .records import aftermath
from .rotate import rotated

if TYPE_CHECKING:
    from .verify import Report, Severity

_STEP = 8 << 20  # bytes between two signs of progress
_MOST_LINKS = 20  # broken links that are listed one by one
_OPEN = 64


@dataclass
class Walk:
    """What the log says, as far as the rest of verify needs it."""

    size: int = 0
    origin: str = ""
    roots: dict[int, bytes] = field(default_factory=dict)
    keys: list[tuple[int, VerifierKey]] = field(default_factory=list)  # from which tree size on
    first_time: float = 0.0
    last_time: float = 0.0
    times: dict[int, float] = field(default_factory=dict)  # of the record behind each signed size
    live: bool = False  # a gateway records, or was killed
    start: int = -1  # seq of the last `start`
    after_start: int = -1  # of the first record of that run that the gateway writes only when `start` is signed

    def key_at(self, size: int) -> VerifierKey | None:
        """The key that signs a checkpoint of this size."""
        at = bisect_right([start for start, _ in self.keys], size) - 1
        return self.keys[at][1] if at >= 0 else None

    def age(self, size: int) -> float:
        """Seconds that the records behind a size span."""
        if size >= self.size:
            return 0.0
        return max(0.0, self.last_time - self.times.get(size, self.first_time))


def walk(folder: Path, sizes: set[int], report: Report, progress: Callable[[int, int], None] | None) -> Walk:
    """Reads the whole log and what it names; StoreError only if there is no log."""
    return _Walker(folder, sizes, report, progress).run()


class _Walker:
    def __init__(
        self, folder: Path, sizes: set[int], report: Report, progress: Callable[[int, int], None] | None
    ) -> None:
        self.folder = folder
        self.sizes = sizes
        self.signed = max(sizes, default=0)
        self.report = report
        self.progress = progress
        self.seen = Walk()
        self.files = _Frames(folder, report, _live(folder))
        self.bodies: dict[str, int] = {}  # digest → seq that names it first
        self.removed: dict[str, str] = {}  # file → time of removal
        self.index = Agreement(folder)
        self.live = self.seen.live = _live(folder)
        self.open: dict[int, bool] = {}  # intents without outcome
        self._stopped = False
        self._told = 0
        self._root = b""  # of the records before a change of keys
        self._time = ""
        self._broken = 0
        self._total = 0

    def run(self) -> Walk:
        path = self.folder / LOG
        if self.progress:
            self._total = sum(entry.stat().st_size for entry in _files(self.folder))
        tree, prev, offset = Frontier(), GENESIS, 0
        try:
            with path.open("rb") as file:
                for line in file:
                    text = line[:-1]
                    record = self._record(text, line, tree.size, prev, offset)
                    prev = sha256(text).hexdigest()
                    if record is not None and record["type"] == "key":
                        self._root = tree.root()
                    tree.add(leaf_hash(text))
                    if record is not None:
                        self._take(record, tree.size - 1, offset)
                    if tree.size in self.sizes:
                        self.seen.roots[tree.size] = tree.root()
                        self.seen.times[tree.size] = self.seen.last_time
                    offset += len(line)
                    self.report.bytes += len(line)
                    if self.progress:
                        self._tell()
        except FileNotFoundError:
            raise StoreError(f"there is no recording in {self.folder}") from None
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from None
        self.seen.size = self.report.records = tree.size
        self._finish()
        return self.seen

    def _record(self, text: bytes, line: bytes, size: int, prev: str, offset: int) -> dict[str, Any] | None:
        """One line as a record, its place and its link checked."""
        try:
            record = parsed(text)
            seq, link = record["seq"], record["prev"]
            record["type"], record["time"]
        except (ValueError, KeyError, TypeError, RecursionError):
            if line.endswith(b"\n") or not self.live:
                self._link("not a record", size, offset)
            return None
        if seq != size:
            self._link(f"the record says that it is number {seq}", size, offset)
        elif link != prev:
            self._link(
                f"the record does not follow the one before it: number {size - 1} or {size} was changed", size, offset
            )
        if not line.endswith(b"\n") and not self.live:
            self._link("the last record is torn", size, offset)
        return record if isinstance(record, dict) else None

    def _link(self, what: str, seq: int, offset: int) -> None:
        self._broken += 1
        if self._broken <= _MOST_LINKS:
            self.report.add("invalid", what, LOG, seq, offset)

    def _take(self, record: dict[str, Any], seq: int, offset: int) -> None:
        """What a record means for the rest."""
        kind = record["type"]
        try:
            changed = record["time"] != self._time
            if changed:  # a batch has one time
                self._clock(record, seq)
            if self.seen.after_start <= self.seen.start < seq and (changed or not aftermath(record)):
                self.seen.after_start = seq
            if self._stopped and kind != "start":
                self.report.add("invalid", "a record behind the end of a run", LOG, seq, offset)
            self._stopped = kind == "stop"
            self.index.take(record)
            if kind == "intent":
                self.open[seq] = True
                return
            if kind == "outcome":
                self.open.pop(record.get("intent", -1), None)
                self._outcome(record, seq)
            elif kind in ("start", "stop"):
                self._run(record, seq)
            elif kind == "key":
                self._key(record, seq)
            elif kind == "gap":
                self._gap(record, seq)
            elif kind == "removal":
                self._removal(record, seq)
            elif kind == "anchor":
                self.report.anchors.append(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.report.add("invalid", f"a record of type {kind} that cannot be read: {error!r}", LOG, seq, offset)

    def _clock(self, record: dict[str, Any], seq: int) -> None:
        text = self._time = record["time"]
        now = posix(text)
        if not self.seen.first_time:
            self.seen.first_time = now
        if now < self.seen.last_time - 0.0005:
            if "clock_back_ms" in record:
                self.report.add("note", f"the clock was set back by {record['clock_back_ms']} ms", LOG, seq)
            else:
                self.report.add("invalid", "the record is older than the one before it", LOG, seq)
        self.seen.last_time = now

    def _run(self, record: dict[str, Any], seq: int) -> None:
        """A run's beginning or end. What is open at a stop, or long behind a start, was dropped without an outcome."""
        if record["type"] == "stop":
            self._dropped(seq)
            return
        self.seen.start = seq
        self.seen.origin = self.seen.origin or record["origin"]
        key = VerifierKey.parse(record["key"])
        if not self.seen.keys:
            self.seen.keys.append((0, key))
        elif key != self.seen.keys[-1][1]:
            self.report.add("invalid", "the gateway started with another key, and no record says why", LOG, seq)

    def _dropped(self, before: int) -> None:
        for seq in [seq for seq in self.open if seq < before]:
            del self.open[seq]
            self.report.add("invalid", "the intent has no outcome, not even that it is not known", LOG, seq)

    def _key(self, record: dict[str, Any], seq: int) -> None:
        old = self.seen.keys[-1][1]
        if rotated(record, old, self.seen.origin, self._root):
            self.seen.keys.append((seq + 1, VerifierKey.parse(record["new"])))
        else:
            self.report.add("invalid", "a change of keys that the old and the new key did not both sign", LOG, seq)

    def _outcome(self, record: dict[str, Any], seq: int) -> None:
        frame = record.get("frame")
        if frame:
            self.files.check(frame, seq)
        for body in record.get("bodies") or ():
            if body["kept"]:
                self.bodies.setdefault(body["sha256"], seq)

    def _gap(self, record: dict[str, Any], seq: int) -> None:
        self.report.add("note", f"a gap was recorded: {record.get('reason', '')}", record.get("file", ""), seq)
        if record.get("sha256"):
            self.bodies.setdefault(record["sha256"], seq)

    def _removal(self, record: dict[str, Any], seq: int) -> None:
        """Files go only when the record that says so is signed: what is not could be anybody's."""
        if seq >= self.signed:
            self.report.add("note", "a removal that is not signed yet, and does not count", LOG, seq)
            return
        for removed in record["files"]:
            self.removed[removed["file"]] = record["time"]
            self.report.removed.append({"time": record["time"], "reason": record.get("reason", ""), **removed})

    def _finish(self) -> None:
        if self._broken > _MOST_LINKS:
            self.report.add("invalid", f"{self._broken - _MOST_LINKS} more records are broken", LOG)
        if self.seen.start >= 0:
            self._dropped(self.seen.start)
        self.files.finish(self.removed)
        self._check_bodies()
        self._unreferenced()
        for what, seq in self.index.finish():
            self.report.add("invalid", what, "index.db", seq)

    def _check_bodies(self) -> None:
        for digest, seq in self.bodies.items():
            name = f"bodies/{digest}"
            if name in self.removed:
                continue
            try:
                size, found = _digest(inside(self.folder, name))
            except OSError:
                self.report.add("invalid", "the body is missing", name, seq)
                continue
            self.report.bodies += 1
            self.report.bytes += size
            if found != digest:
                self.report.add("invalid", "the body is not the one that was recorded", name, seq)
            self._tell()

    def _unreferenced(self) -> None:
        """Files that no record speaks of."""
        unknown: Severity = "note" if self.live else "invalid"
        for path in _files(self.folder):
            name = path.relative_to(self.folder).as_posix()
            if name.startswith("flows/") and name not in self.files.ends and path.stat().st_size:
                self.report.add(unknown, "no record refers to this file", name)
            elif name.startswith("bodies/") and name[7:] not in self.bodies and not name.startswith("bodies/.part-"):
                self.report.add(unknown, "no record refers to this body", name)
            elif name.endswith(".mitm") and not name.startswith("flows/"):
                self.report.add("invalid", "no record refers to this file", name)

    def _tell(self) -> None:
        if self.progress and self.report.bytes - self._told >= _STEP:
            self._told = self.report.bytes
            self.progress(self._told, self._total)


class _Frames:
    """Frames checked in the order of the log, so that whatever lies between two of them is noticed."""

    def __init__(self, folder: Path, report: Report, live: bool) -> None:
        self.folder = folder
        self._unknown: Severity = "note" if live else "invalid"  # of what a running gateway may be writing just now
        self.report = report
        self.ends: dict[str, int] = {}
        self.missing: dict[str, int] = {}
        self._open: OrderedDict[str, int] = OrderedDict()

    def check(self, frame: dict[str, Any], seq: int) -> None:
        """One frame: where it is and what it holds."""
        name, offset, length = frame["file"], frame["offset"], frame["length"]
        end = self.ends.get(name, 0)
        self.ends[name] = max(end, offset + length)
        try:
            handle = self._handle(name)
        except (OSError, StoreError):
            self.missing.setdefault(name, seq)
            return
        if offset > end:
            self.report.add("invalid", f"{offset - end} bytes that no record refers to", name, seq, end)
        elif offset < end:
            self.report.add("invalid", "two records name the same bytes", name, seq, offset)
        data = os.pread(handle, length, offset)
        self.report.frames += 1
        self.report.bytes += len(data)
        if len(data) < length:
            self.report.add("invalid", "the frame is cut off", name, seq, offset)
        elif sha256(data).hexdigest() != frame["sha256"]:
            self.report.add("invalid", "the frame is not the one that was recorded", name, seq, offset)

    def _handle(self, name: str) -> int:
        handle = self._open.get(name)
        if handle is None:
            handle = self._open[name] = os.open(inside(self.folder, name), os.O_RDONLY | os.O_CLOEXEC)
            if len(self._open) > _OPEN:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(name)
        return handle

    def finish(self, removed: dict[str, str]) -> None:
        """What is behind the last frames, and which files are gone though no record says so."""
        for handle in self._open.values():
            os.close(handle)
        for name, seq in self.missing.items():
            if name not in removed:
                self.report.add("invalid", "the file is missing", name, seq)
        for name, end in self.ends.items():
            if name in self.missing:
                continue
            size = (self.folder / name).stat().st_size
            if size > end:
                self.report.add(self._unknown, f"{size - end} bytes that no record refers to", name, offset=end)


def _live(folder: Path) -> bool:
    """Whether a gateway records to this folder right now, or was killed and the next start will repair it."""
    if (folder / JOURNAL).exists():
        return True
    try:
        handle = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _digest(path: Path) -> tuple[int, str]:
    digest, size = sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    """The files of a recording, the index and the lock left out."""
    found = [Path(root) / name for root, _, names in os.walk(folder) for name in names]
    return sorted(
        path for path in found if not path.name.startswith(("index.db", ".lock", ".repair", ".journal", ".resume"))
    )
