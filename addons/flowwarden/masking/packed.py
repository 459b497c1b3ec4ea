"""What is compressed and must keep its bytes: looked into as it passes, and cut where a secret is inside.

A mask inside a compressed body would change its length. So nothing leaves before all that it decodes to has been searched;
the bytes themselves are never touched, and checksums of them stay true. A body that is in hand as a whole need not be cut:
`masked` makes it again, as long as it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..errors import Refusal
from . import repack
from .coders import Undo
from .model import Core, refuse
from .values import Run

_STEP = 16 << 10  # encoded bytes at a time: what they may decode to is bounded with them
_MAGIC = ((b"\x1f\x8b\x08", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"))
_SUFFIXES = (".gz", ".tgz", ".taz", ".svgz", ".zst", ".zstd", ".tzst", ".bz2", ".tbz", ".tbz2", ".xz", ".txz")
_TYPES = frozenset(
    {"application/gzip", "application/x-gzip", "application/zstd", "application/x-bzip2", "application/x-xz"}
)


def coding(head: bytes) -> str:
    """The compression that the first bytes show and that can be undone, empty for anything else."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


def named(key: str, content_type: str = "", content_encoding: str = "") -> bool:
    """Whether an object's key, content type or content coding says that it is compressed."""
    main = content_type.partition(";")[0].strip().lower()
    return key.lower().endswith(_SUFFIXES) or main in _TYPES or bool(content_encoding)


def unpacked(key: str) -> str:
    """An object's key without the suffix of a compression."""
    suffix = next((suffix for suffix in _SUFFIXES if key.lower().endswith(suffix)), "")
    return key[: len(key) - len(suffix)] if suffix else key


def found(run: Run) -> Refusal:
    """The refusal of a compressed body that holds a secret."""
    names = ", ".join(sorted(run.counts))
    why = f"the body is compressed and holds a secret ({names}) that cannot be masked inside it: keep it uncompressed"
    return refuse("CompressedSecret", why, names)


class Packed:
    """A compressed stream. `unreadable` is called when it turns out not to be one; what is left passes unless it raises."""

    def __init__(self, undo: Undo, inner: Core, run: Run, unreadable: Callable[[], None]) -> None:
        """`inner` searches what is decoded, and has to keep its length."""
        self._undo = undo
        self._inner = inner
        self._run = run
        self._unreadable = unreadable
        self._held: deque[tuple[bytes, int]] = deque()  # encoded bytes, and how much is decoded behind them
        self._judged = 0  # decoded bytes that were searched
        self._counted = run.counts.total()  # in the header fields, say
        self._through = False

    def feed(self, data: bytes) -> bytes:
        if self._through:
            return data
        for start in range(0, len(data), _STEP):
            piece = data[start : start + _STEP]
            if self._through:
                self._held.append((piece, 0))
            else:
                self._take(piece)
        return self._released()

    def _take(self, piece: bytes) -> None:
        try:
            for decoded in self._undo.feed(piece):
                self._search(self._inner.feed(decoded))
        except Refusal as refusal:
            if refusal.code not in {"UnreadableAnswer", "TooLarge"}:
                raise
            self._search(self._inner.finish())
            self._unreadable()
            self._through = True
        self._held.append((piece, self._undo.given))

    def _search(self, passed: bytes) -> None:
        self._judged += len(passed)
        if self._run.counts.total() > self._counted:
            raise found(self._run)

    def _released(self) -> bytes:
        out: list[bytes] = []
        while self._held and (self._through or self._held[0][1] <= self._judged):
            out.append(self._held.popleft()[0])
        return b"".join(out)

    def finish(self) -> bytes:
        """The rest: a body that stops in the middle (a part of an object) can be decoded no further by anyone."""
        if not self._through:
            self._search(self._inner.finish())
            self._through = True
        return self._released()


def masked(body: bytes, inner: Core, run: Run, most: int) -> bytes | None:
    """A whole compressed body with its secrets masked, exactly as long as before; None where it cannot be made so.

    `inner` masks what is decoded, of `most` bytes at most, and keeps its length. Refusal for what cannot be decoded.
    """
    name = coding(body)
    undo = Undo(name, most)
    plain = b"".join(undo.feed(body))
    undo.finish()
    text = inner.feed(plain) + inner.finish()
    return repack.fitted(name, text, len(body), run.budget.check) if len(text) == len(plain) else None


def opener(inner: Core, run: Run, unreadable: Callable[[], None], most: int | None = None) -> Callable[[str], Core]:
    """What makes the reader of a compression by its name, once the first bytes have told it."""

    def unpack(name: str) -> Core:
        run.same_length = True
        return Packed(Undo(name, most), inner, run, unreadable)

    return unpack
