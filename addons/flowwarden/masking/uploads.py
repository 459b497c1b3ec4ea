"""Uploads that stream, as the recording keeps them: the bytes as sent but for masks, which are as long as what they hide.

What goes on the wire is not touched. The framing of aws-chunked bodies is taken off and put on again around the masks. A
compressed upload that holds a secret, and whatever cannot be masked, is left out: then hash and size tell of it.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING

from .model import Core, refuse
from .values import Run

if TYPE_CHECKING:
    from hashlib import _Hash as HASH

_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[^\r\n]*)?\r\n")
_LONGEST_LINE = 512
BLOCK = 128 << 10  # bytes that are searched at once; a client sends ten parts at a time, each with blocks of its own


class Framing:
    """The lines of an aws-chunked body, kept aside while what is between them is masked at its length."""

    def __init__(self) -> None:
        self._layout: deque[bytes | int] = deque()  # framing as it came, and lengths of what stands between
        self._line = b""
        self._left = 0
        self._over = False

    def take(self, data: bytes) -> bytes:
        """The payload in the next bytes. Refusal for what is no such framing."""
        out: list[bytes] = []
        for start, end in self.payload(data, keep=True):
            out.append(data[start:end])
            self._layout.append(end - start)
        return b"".join(out)

    def payload(self, data: bytes, *, keep: bool = False) -> Iterator[tuple[int, int]]:
        """Where in the next bytes payload stands; `keep`: it is to be wrapped again. Refusal for what is no such framing."""
        at = 0
        while at < len(data):
            if self._left:
                start, at = at, min(at + self._left, len(data))
                self._left -= at - start
                yield start, at
            elif self._over:
                self._layout.append(data[at:])
                at = len(data)
            else:
                at = self._header(data, at)
        if not keep:
            self._layout.clear()

    def _header(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        piece = data[at:] if end < 0 else data[at : end + 1]
        self._line += piece
        if len(self._line) > _LONGEST_LINE:
            raise refuse("UnreadableUpload", "a chunk's header is too long")
        if end >= 0:
            line, self._line = self._line, b""
            self._layout.append(line)
            self._size(line)
        return at + len(piece)

    def _size(self, line: bytes) -> None:
        if line == b"\r\n":
            return  # the end of a chunk's data
        found = _LINE.fullmatch(line)
        if found is None:
            raise refuse("UnreadableUpload", "a chunk has no header")
        self._left = int(found[1], 16)
        self._over = not self._left

    def wrap(self, masked: bytes) -> bytes:
        """Masked payload with its framing around it again."""
        out: list[bytes] = []
        at = 0
        while self._layout:
            part = self._layout.popleft()
            if isinstance(part, bytes):
                out.append(part)
                continue
            piece = masked[at : at + part]
            out.append(piece)
            at += len(piece)
            if len(piece) < part:
                self._layout.appendleft(part - len(piece))
                break
        return b"".join(out)


class Kept:
    """One upload on its way into the recording. `size` and `sha256` are of the bytes as sent.

    It never raises: what cannot be masked is not kept, and `withheld` says why.
    """

    def __init__(self, core: Core, run: Run, *, framed: bool) -> None:
        """`core` has to keep the length of what it masks."""
        self._core = core
        self._run = run
        self._framing = Framing() if framed else None
        self._kept = sha256()
        self._sent: HASH | None = None  # None: what was kept so far is what was sent, and need not be hashed twice
        self._ahead: deque[bytes] = deque()  # sent and not kept yet
        self._given = 0
        self.size = 0
        self.withheld = ""

    @property
    def sha256(self) -> str:
        """Of the bytes as sent, in hex."""
        return (self._sent or self._as_sent()).hexdigest()

    @property
    def kept_sha256(self) -> str:
        """Of the bytes to keep that were given so far, in hex."""
        return self._kept.hexdigest()

    @property
    def counts(self) -> Counter[str]:
        """How often each mask was used."""
        return self._run.counts

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes as sent, gives those to keep."""
        self.size += len(data)
        if self._sent is None:
            self._ahead.append(data)
        else:
            self._sent.update(data)
        return self._hashed(self._done(data))

    def finish(self) -> bytes:
        """The rest to keep. Afterwards `withheld` is final."""
        made = self._done(None)
        if not self.withheld and self._given != self.size:
            self.withheld = "masks changed its length"
        return self._hashed(made)

    def _hashed(self, made: bytes) -> bytes:
        if self._sent is None:
            if self.counts or self.withheld:
                self._sent = self._as_sent()
                self._ahead.clear()
            else:
                self._caught_up(len(made))
        self._kept.update(made)
        return made

    def _as_sent(self) -> HASH:
        """The hash of all that was sent, as long as no mask stands in what was kept."""
        digest = self._kept.copy()
        for part in self._ahead:
            digest.update(part)
        return digest

    def _caught_up(self, count: int) -> None:
        while count and self._ahead:
            part = self._ahead.popleft()
            if len(part) > count:
                self._ahead.appendleft(part[count:])
                return
            count -= len(part)

    def _done(self, data: bytes | None) -> bytes:
        if self.withheld:
            return b""
        try:
            made = self._masked(data)
        except Exception as error:
            self.withheld = getattr(error, "message", "") or type(error).__name__
            return b""
        self._given += len(made)
        return made

    def _masked(self, data: bytes | None) -> bytes:
        if data is None:
            rest = self._core.finish()
            return rest if self._framing is None else self._framing.wrap(rest)
        if self._framing is None:
            return self._core.feed(data)
        payload = self._framing.take(data)
        return self._framing.wrap(self._core.feed(payload) if payload else b"")
