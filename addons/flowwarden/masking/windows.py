"""Text of any length, masked in windows: what is found depends on the text alone, never on how it was cut into chunks.

A window is a block and a stretch beyond it as long as the longest match, so that whatever starts in the block ends within
the window. Bytes before the block stay as context. A match longer than that stretch cannot be told from a longer one: the
stream is refused there.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote_to_bytes

from . import inner
from .model import Mask, Span, refuse
from .patterns import Patterns, merged
from .replacing import mask_of_length
from .stretches import Stretches
from .values import (
    ENTITY_CODE,
    ESCAPE_CODE,
    PERCENT_CODE,
    RUNS,
    Run,
    Values,
    base64_runs,
    coded_runs,
    open_base64,
    unescaped,
    unreferenced,
)

BLOCK = 128 << 10
CONTEXT = 128
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MEMBER = re.compile(rb'"[ \t\r\n]*+:[ \t\r\n]*+\Z')  # before a value in JSON


@dataclass(frozen=True, slots=True)
class Unit:
    """A stretch `start`..`end` to replace, found by a match that began at `begins`. `new` gives None for what is kept."""

    begins: int
    start: int
    end: int
    mask: Mask
    new: Callable[[], bytes | None]


class Windows:
    """Masks a text fed in pieces. Memory: one window and the piece. `feed` and `finish` give what may leave."""

    def __init__(self, values: Values, run: Run, block: int = BLOCK) -> None:
        self._patterns: Patterns = values.patterns
        self._values = values
        self._run = run
        self._block = block
        self._secrets_only = all(mask.kind == "secret" for mask in self._patterns.masks)  # those have some length
        self.hold = max(256, self._patterns.longest * 4 // 3 + 64)
        self._buffer = bytearray()
        self._at = 0  # where in the buffer the next block starts; before it is context

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes; gives those that are done."""
        self._buffer += data
        out: list[bytes] = []
        size = self._block + self.hold
        while len(self._buffer) - self._at >= size:
            with memoryview(self._buffer) as view:
                window = bytes(view[: self._at + size])
            out.append(self._step(window, self._at + self._block))
        return b"".join(out)

    def finish(self) -> bytes:
        """The rest."""
        window = bytes(self._buffer)
        return self._step(window, len(window), final=True) if len(window) > self._at else b""

    def _step(self, window: bytes, cut: int, final: bool = False) -> bytes:
        self._run.budget.check()
        at = self._at
        units = self._units(window)
        if not final:
            cut = self._aligned(window, cut)
        out: list[bytes] = []
        done, until = at, cut
        for unit in units:
            if unit.begins >= until:
                break
            if unit.end >= len(window) and not final:
                raise refuse("MaskLimit", "a secret in this stream is longer than any that a rule expects")
            if unit.end <= done:
                continue
            new = unit.new() if unit.start >= done else self._run.mask(unit.mask, window[done : unit.end])
            if new is None:
                continue
            out += (window[done : max(done, unit.start)], new)
            done = unit.end
            until = max(until, unit.end)
        out.append(window[done:until])
        keep_from = max(0, until - CONTEXT)
        del self._buffer[:keep_from]
        self._at = until - keep_from
        return b"".join(out)

    def _aligned(self, window: bytes, cut: int) -> int:
        """A cut that leaves a run of base64 at a whole group, so that the rest still decodes."""
        head = window[self._at : cut]
        run = len(head) - len(head.rstrip(_BASE64_BYTES))
        return cut - run % 4

    def _units(self, window: bytes) -> list[Unit]:
        at = self._at
        first = max(0, at - 1)
        stretches = Stretches(window, self._secrets_only)  # with the context, in which one may begin
        found = self._patterns.find_secrets(stretches.text)
        if not found:
            return []
        spans: list[tuple[int, Span]] = []
        for index in found:
            finder = self._patterns.finder(index)
            if finder is None or not (stretches.whole or finder.occurs(stretches.text)):
                continue
            for begins, _, span in finder.spans(window, first):
                if span.start >= at:
                    spans.append((begins, span))
                else:
                    spans += [(b, s) for b, _, s in finder.spans(window, at) if s.start < span.end]
        units = [
            Unit(
                begins,
                span.start,
                span.end,
                span.mask,
                partial(self._new, span.mask, window, span.start, span.end),
            )
            for begins, span in merged(spans)
        ]
        if self._values.base64_trigger in found:
            units += self._coded(window)
        if self._values.percent_trigger in found:
            units += self._with_codes(window, stretches, PERCENT_CODE, unquote_to_bytes)
        if self._values.entity_trigger in found:
            units += self._with_codes(window, stretches, ENTITY_CODE, unreferenced)
        if self._values.escape_trigger in found:
            units += self._with_codes(window, stretches, ESCAPE_CODE, unescaped)
        units.sort(key=lambda unit: (unit.start, -unit.end))
        return units

    def _new(self, mask: Mask, window: bytes, start: int, end: int) -> bytes | None:
        """The mask, or where a JSON number stands in an object, another that says nothing: what reads it goes on reading."""
        made = self._run.mask(mask, window[start:end])
        if made is None or not self._run.same_length or _NUMBER.fullmatch(window, start, end) is None:
            return made
        named = _MEMBER.search(window, max(0, start - CONTEXT), start) is not None
        return b"0".ljust(end - start) if named else made

    def _coded(self, window: bytes) -> list[Unit]:
        """Secrets inside base64: the groups of four that hold them are replaced, the rest of the run stays as it is."""
        units: list[Unit] = []
        if not self._may_hold(b"\n".join(base64_runs(window[self._at :]))):
            return units
        for match in RUNS.finditer(window, self._at):
            self._run.budget.tick()
            start, end = match.span()
            coded = window[start:end]
            opened = open_base64(coded)
            if opened is None:
                continue
            decoded = opened[0]
            spans = self._spans(decoded) if opened[1] is inner.same else []
            if not spans and (mask := self._deep(decoded)) is not None:
                units.append(Unit(start, start, end, mask, partial(self._run.mask, mask, coded)))
            for begins, span in spans:
                first, last = span.start // 3, -(-span.end // 3)
                new = partial(self._regroup, coded, decoded, span, last * 4 >= len(coded))
                at, to = start + first * 4, min(start + last * 4, end)
                units.append(Unit(start + begins // 3 * 4, at, to, span.mask, new))
        return units

    def _regroup(self, coded: bytes, decoded: bytes, span: Span, at_end: bool) -> bytes | None:
        first, last = span.start // 3, -(-span.end // 3)
        head, tail = decoded[first * 3 : span.start], decoded[span.end : last * 3]
        new = self._run.mask(span.mask, decoded[span.start : span.end])
        if new is None:
            return None
        fill = 0 if self._run.same_length or at_end else -(len(head) + len(new) + len(tail)) % 3
        plain = head + (new[:-1] + b"*" * fill + new[-1:] if fill else new) + tail  # whole groups within a run
        made = base64.urlsafe_b64encode(plain) if b"-" in coded or b"_" in coded else base64.b64encode(plain)
        return made if coded.endswith(b"=") or not at_end else made.rstrip(b"=") if len(coded) % 4 else made

    def _may_hold(self, joined: bytes) -> bool:
        """Whether anything may be in what several encodings hide: one look at all of it, before each is taken apart."""
        found = self._patterns.find_secrets(joined)
        return bool(found) and self._values.suspicious(joined, found)

    def _deep(self, text: bytes) -> Mask | None:
        """The mask of a secret under further encodings; what holds it is then hidden as a whole."""
        scratch = Run(off=self._run.off, keep=self._run.keep)
        if not self._patterns.find_secrets(text) or self._values.mask(text, scratch, layer=1) is None:
            return None
        return next((mask for mask in self._patterns.masks if mask.id in scratch.counts), None)

    def _with_codes(
        self, window: bytes, stretches: Stretches, form: re.Pattern[bytes], decode: Callable[[bytes], bytes]
    ) -> list[Unit]:
        """Secrets in which single bytes are written %XX, or \\u00XX."""
        runs = list(coded_runs(form, window, self._at, stretches.find))
        if not runs or not self._may_hold(b"\n".join([decode(window[start:end]) for start, end in runs])):
            return []
        units: list[Unit] = []
        for begins, ends in runs:
            self._run.budget.tick()
            plain = decode(window[begins:ends])
            spans = self._spans(plain)
            places = _places(form, window[begins:ends], begins) if spans else []
            if len(places) != len(plain) + 1 or not spans:
                if (mask := self._deep(plain)) is not None:
                    units.append(Unit(begins, begins, ends, mask, partial(self._run.mask, mask, window[begins:ends])))
                continue
            for match, span in spans:
                start, end = places[span.start], places[span.end]
                new = partial(self._url_mask, span, plain, end - start)
                units.append(Unit(places[match], start, end, span.mask, new))
        return units

    def _spans(self, text: bytes) -> list[tuple[int, Span]]:
        """What to hide in a decoded text, merged and in order, each with where its match begins."""
        return merged(list(self._patterns.matches(text, self._patterns.find_secrets(text))))

    def _url_mask(self, span: Span, plain: bytes, length: int) -> bytes | None:
        new = self._run.mask(span.mask, plain[span.start : span.end])
        return mask_of_length(span.mask, length) if new is not None and self._run.same_length else new


def _places(form: re.Pattern[bytes], text: bytes, offset: int) -> list[int]:
    """Where each byte of the decoded text (and its end) stands in one with codes, if each code is one byte."""
    places: list[int] = []
    at = 0
    for match in form.finditer(text):
        places += range(offset + at, offset + match.start() + 1)
        at = match.end()
    places += range(offset + at, offset + len(text) + 1)
    return places


_BASE64_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
