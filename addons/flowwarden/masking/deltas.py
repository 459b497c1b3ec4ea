"""Text that comes in pieces over many events (a model's words): masked across the borders of the events.

The pieces are joined; an event waits while its text, or a part of it, may be the beginning of a secret: while fewer than
three words follow it, or a private key is open. What waits is bounded by twice the longest match; a mask stands in the
event in which its secret starts, and what follows of the secret is left out of the events behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .model import Span
from .patterns import Patterns
from .values import Run

_WORDS = 3
_SPACE = frozenset(b" \n")
_LONG = ((b"-----BEGIN ", b"-----END "), (b"PuTTY-User-Key-File-", b"Private-MAC: "), (b"Private-MAC:", b"\n"))
Render = Callable[[bytes | None], bytes]
"""Writes an event with a new text in its place; None: as it came."""


@dataclass(slots=True)
class _Waiting:
    render: Render
    text: bytes


class Joiner:
    """Holds events back until their text is known to be clean or masked."""

    def __init__(self, patterns: Patterns, run: Run) -> None:
        self._patterns = patterns
        self._run = run
        self._waiting: deque[_Waiting] = deque()
        self._before = b""  # the end of what has left, as context
        self._covered = 0  # bytes of the first waiting text that belong to a secret whose mask has left
        self._size = 0  # bytes that wait
        self._look_at = 0  # how many have to wait before it is worth looking again
        self._most = max(4096, patterns.longest * 2)

    def add(self, render: Render, text: bytes | None) -> bytes:
        """Takes an event and the text in it (None: it has none); gives the events that may leave now."""
        if text is None and not self._waiting:
            return render(None)
        self._waiting.append(_Waiting(render, text or b""))
        self._size += len(text or b"")
        if self._size <= self._most and (self._size < self._look_at or not (text and _SPACE.intersection(text))):
            return b""  # without another word nothing becomes safe
        return self._release(False)

    def finish(self) -> bytes:
        """All that waits."""
        return self._release(True)

    def _release(self, final: bool) -> bytes:
        texts = [waiting.text for waiting in self._waiting]
        joined = b"".join(texts)
        spans = self._spans(joined)
        safe = len(joined) if final or len(joined) > self._most else _safe(joined)
        for span in spans:
            if span.end == len(joined) and not final and len(joined) <= self._most:
                safe = min(safe, span.start)
        out: list[bytes] = []
        at = 0
        while self._waiting and at + len(texts[0]) <= safe:
            text, waiting = texts.pop(0), self._waiting.popleft()
            out.append(waiting.render(self._new(text, at, spans, joined)))
            at += len(text)
        self._size -= at
        self._look_at = 0 if at else self._size + self._size // 8
        self._before = (self._before + joined[:at])[-160:]
        ends = [span.end for span in spans if span.start < at]
        self._covered = max([0, self._covered - at, *(end - at for end in ends)])
        return b"".join(out)

    def _spans(self, joined: bytes) -> list[Span]:
        shift = len(self._before)
        found = self._patterns.spans(self._before + joined)
        spans = [Span(max(0, s.start - shift), s.end - shift, s.mask) for s in found if s.end > shift]
        while spans and spans[0].start < self._covered:
            self._covered = max(self._covered, spans.pop(0).end)
        return [s for s in spans if not self._run.keep(joined[s.start : s.end].decode("utf-8", "replace"))]

    def _new(self, text: bytes, at: int, spans: list[Span], joined: bytes) -> bytes | None:
        """The text of one event: the mask stands in the event where the secret starts, the others lose their part."""
        end = at + len(text)
        parts: list[bytes] = []
        done = min(end, max(at, self._covered))
        cut = done > at
        for span in spans:
            if span.end <= at or span.start >= end:
                continue
            cut = True
            if span.start >= at:
                new = self._run.mask(span.mask, joined[span.start : span.end]) or b""
                parts += (text[done - at : span.start - at], new)
            done = min(end, span.end)
        return b"".join(parts) + text[done - at :] if cut else None


def _safe(joined: bytes) -> int:
    """How much of a text cannot be the beginning of a secret that goes on: all but its last words."""
    place = len(joined)
    for _ in range(_WORDS):
        cut = max(joined.rfind(b" ", 0, place), joined.rfind(b"\n", 0, place))
        if cut < 0:
            return 0
        place = cut
    for opens, closes in _LONG:
        opened = joined.rfind(opens)
        if opened >= 0 and closes not in joined[opened:]:
            place = min(place, opened)
    return place
