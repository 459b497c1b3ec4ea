"""Whether a recording is what was recorded: links, tree, checkpoints, keys, frames, bodies and index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import StoreError
from . import note
from .ledger import CHECKPOINTS, LOG
from .note import Checkpoint, VerifierKey
from .walk import Walk, walk
from .writer import LONGEST_UNSIGNED, MOST_UNSIGNED

if TYPE_CHECKING:
    from .anchor import Outside

Severity = Literal["invalid", "unproven", "note"]
Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that verify has to say. `seq` and `offset` are -1 where they do not apply."""

    severity: Severity
    what: str
    file: str = ""
    seq: int = -1
    offset: int = -1

    def __str__(self) -> str:
        where = self.file
        if self.seq >= 0:
            where += f" seq {self.seq}"
        if self.offset >= 0:
            where += f" offset {self.offset}"
        return f"{where.strip()}: {self.what}" if where else self.what


@dataclass
class Report:
    """What verify found. `tail_records` and `tail_seconds`: how much of the end only the disk's owner vouches for."""

    findings: list[Finding] = field(default_factory=list)
    records: int = 0
    frames: int = 0
    bodies: int = 0
    bytes: int = 0
    checkpoints: int = 0
    removed: list[dict[str, Any]] = field(default_factory=list)  # {time, file, sha256, reason}
    anchors: list[dict[str, Any]] = field(default_factory=list)
    tail_records: int = 0
    tail_seconds: float = 0.0
    key: str = ""
    proven: bool = False  # something from outside vouches for the beginning of the log

    @property
    def verdict(self) -> Literal["valid", "invalid", "unproven"]:
        if any(finding.severity == "invalid" for finding in self.findings):
            return "invalid"
        return "unproven" if any(finding.severity == "unproven" for finding in self.findings) else "valid"

    @property
    def exit_code(self) -> int:
        """0 valid, 1 invalid, 3 unproven."""
        return {"valid": 0, "invalid": 1, "unproven": 3}[self.verdict]

    def add(self, severity: Severity, what: str, file: str = "", seq: int = -1, offset: int = -1) -> None:
        self.findings.append(Finding(severity, what, file, seq, offset))


def verify(
    folder: Path,
    *,
    checkpoint: Path | None = None,
    public_key: VerifierKey | str | None = None,
    require_anchor: bool = False,
    outside: Outside | None = None,
    progress: Progress | None = None,
) -> Report:
    """Checks a whole recording.

    `checkpoint` is a copy that somebody kept elsewhere, `public_key` the key that the recording has to be signed with
    (without it the log's own first key is taken at its word). `require_anchor` asks for proof from outside. `outside` are
    the anchors to ask: for the checkpoints behind `anchor` records, and for any over more than the log has. Without it the
    recording's own word for its anchors proves nothing. StoreError only if there is no recording or the given checkpoint or key cannot be read; all else is a finding.
    """
    report = Report()
    key = VerifierKey.parse(public_key) if isinstance(public_key, str) else public_key
    kept = _kept(checkpoint)
    notes = _checkpoints(folder, report)
    sizes = {found.size for found, _ in notes} | {found.size for found in kept}
    seen = walk(folder, sizes, report, progress)
    kept += _fetched(seen, report, outside)
    _check_keys(seen, key, report)
    for found, offset in notes:
        _check(found, seen, report, CHECKPOINTS, offset)
    _check_order([found for found, _ in notes], report)
    for found in kept:
        _check(found, seen, report, str(checkpoint or "anchor"), -1)
    _unsigned(seen, notes, report, folder)
    _tail(seen, kept, report, require_anchor)
    return report


def _kept(path: Path | None) -> list[Checkpoint]:
    if path is None:
        return []
    try:
        found = [note.parse(text) for text in note.split(path.read_text(encoding="utf-8").splitlines(keepends=True))]
    except StoreError as error:
        raise StoreError(f"{path}: {error.message}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"the checkpoint {path} cannot be read: {reason}") from None
    if not found:
        raise StoreError(f"{path} holds no checkpoint")
    return found


def _fetched(seen: Walk, report: Report, outside: Outside | None) -> list[Checkpoint]:
    """The newest anchored checkpoint that can be had from outside; each that is not there is a finding."""
    if outside is None:
        return []
    try:
        beyond = outside.beyond(seen.origin, seen.size)
        if beyond is not None:
            return [note.parse(beyond)]
    except StoreError as error:
        report.add("unproven", f"whether more was anchored than the recording has cannot be asked: {error}")
    if not report.anchors:
        report.add("unproven", "no anchor was asked: the recording names no checkpoint that was anchored", LOG)
    for record in reversed(report.anchors):
        try:
            found = note.parse(outside.fetch(record))
        except StoreError as error:
            report.add("unproven", f"an anchor cannot be had: {error}", LOG, record["seq"])
            continue
        if found.size not in seen.roots and found.size <= seen.size:
            report.add(
                "invalid", f"the anchored checkpoint over {found.size} records is not in the recording", CHECKPOINTS
            )
            return []
        return [found]
    return []


def _checkpoints(folder: Path, report: Report) -> list[tuple[Checkpoint, int]]:
    """The recording's own checkpoints with their offsets."""
    path = folder / CHECKPOINTS
    found: list[tuple[Checkpoint, int]] = []
    offset = 0
    try:
        data = path.read_bytes()
    except OSError:
        report.add("invalid", "the checkpoints are missing", CHECKPOINTS)
        return found
    report.bytes += len(data)
    for text in note.split(data.decode("utf-8", "replace").splitlines(keepends=True)):
        at = data.find(text.encode(), offset)
        at = offset if at < 0 else at
        try:
            found.append((note.parse(text), at))
        except StoreError as error:
            report.add("invalid", str(error), CHECKPOINTS, offset=at)
        offset = at + len(text.encode())
    report.checkpoints = len(found)
    return found


def _check_keys(seen: Walk, key: VerifierKey | None, report: Report) -> None:
    """The chain of keys: the first one is the given one (or taken at its word), each other signed by the one before."""
    if not seen.keys:
        report.add("invalid", "no record names the key", seq=0)
        return
    report.key = str(seen.keys[-1][1])
    if key is None:
        report.add("note", "the key was taken from the recording itself: compare it with the one that was published")
    elif key not in [found for _, found in seen.keys]:
        report.add("invalid", f"the recording is not signed with the given key but with {seen.keys[0][1]}", seq=0)


def _check(found: Checkpoint, seen: Walk, report: Report, file: str, offset: int) -> None:
    """One checkpoint against the log: its signature by the key of its time, its size and its root."""
    if found.origin != seen.origin:
        report.add("invalid", f"a checkpoint of another log ({found.origin})", file, offset=offset)
        return
    key = seen.key_at(found.size)
    if key is None or not found.signed_by(key):
        report.add(
            "invalid",
            f"the checkpoint over {found.size} records does not bear the key's signature",
            file,
            offset=offset,
        )
        return
    root = seen.roots.get(found.size)
    if root is None:
        report.add(
            "invalid",
            f"a checkpoint was signed over {found.size} records, the log has {seen.size}: its end was cut off",
            file,
            seen.size,
            offset,
        )
    elif root != found.root:
        report.add(
            "invalid", f"the first {found.size} records are not those that were signed", file, found.size - 1, offset
        )


def _check_order(notes: list[Checkpoint], report: Report) -> None:
    for before, after in pairwise(notes):
        if after.size < before.size:
            report.add(
                "invalid", f"a checkpoint over {after.size} records stands behind one over {before.size}", CHECKPOINTS
            )


def _unsigned(seen: Walk, notes: list[tuple[Checkpoint, int]], report: Report, folder: Path) -> None:
    """The end that is not signed, and whether a gateway would have left it so. It may have signed more meanwhile."""
    late = _checkpoints(folder, Report()) if seen.live else []
    signed = min(max((found.size for found, _ in (*notes, *late)), default=0), seen.size)
    if seen.size > signed and seen.size:
        report.add("note", f"the last {seen.size - signed} records are not signed yet", seq=signed)
        if seen.size - signed > MOST_UNSIGNED or signed <= seen.start < seen.after_start:
            report.add(
                "invalid", "checkpoints are missing: a gateway would have signed this long ago", CHECKPOINTS, signed
            )
        elif not late and seen.age(signed) > LONGEST_UNSIGNED:
            what = f"nothing was signed for {seen.age(signed):.0f} s: checkpoints are missing, or the machine slept"
            report.add("unproven", what, CHECKPOINTS, signed)


def _tail(seen: Walk, kept: list[Checkpoint], report: Report, require_anchor: bool) -> None:
    """How long the end is that nothing from outside vouches for."""
    report.proven = bool(kept)
    anchored = max([found.size for found in kept] + [anchor["size"] for anchor in report.anchors], default=0)
    report.tail_records = max(0, seen.size - anchored)
    report.tail_seconds = seen.age(anchored)
    if require_anchor and not report.proven:
        report.add(
            "unproven",
            "nothing from outside vouches for this recording: no anchored checkpoint, and none of --checkpoint",
        )
