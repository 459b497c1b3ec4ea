"""All patterns of a masker as one index: a google-re2 Set says in one pass which patterns occur, a finder says where.

The Set works on Latin-1 bytes (a UTF-8 set misses text with one bad byte). `Set.Match` gives None both for "nothing" and
for "could not run", so that every text is searched with a canary behind it: no canary found, no answer given.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import re2
import regex

from .checks import passes
from .model import Mask, Span, refuse

CANARY = b"\n\x00flowwarden-canary\x00\n"
_CANARY_PATTERN = rb"\x00flowwarden-canary\x00"
_SET_MEMORY = 64 << 20  # bytes of each set's automaton at most
_PREFIXED = re.compile(rb"\\b[A-Za-z0-9]{2,}|-----|https")
_OTHERS = 4  # the lane of triggers and alarms
_FINDER_MEMORY = 64 << 20
_HARDEST = 1.5  # seconds that all `regex` searches of one text may take


def options(memory: int, captures: bool) -> Any:
    """re2 options for patterns over bytes: Latin-1, silent, as much memory as `memory` bytes."""
    made = re2.Options()
    made.encoding = re2.Options.Encoding.LATIN1
    made.max_mem = memory
    made.never_capture = not captures
    made.log_errors = False
    return made


def locate(compiled: Any, text: bytes, start: int = 0) -> Iterator[list[tuple[int, int]]]:
    """The spans (whole match, then groups; (-1, -1) for a group that took no part) of each match of an re2 pattern.

    Like `finditer`, at half its cost: that one makes three Python objects a match.
    """
    match, anchor, end = compiled._regexp.Match, re2._Anchor.UNANCHORED, len(text)
    while start <= end:
        spans = match(anchor, text, start, end)
        first, last = spans[0]
        if first < 0:
            return
        yield spans
        start = last if last > start else start + 1


class Searcher:
    """Compiled re2 Sets that fail closed. `add` before `compile`; `find` gives the indexes that occur.

    Patterns are spread over lanes, each a Set of its own: the states of one automaton multiply where patterns of different
    kinds meet in one text, those of several only add up.
    """

    def __init__(self) -> None:
        self._lanes: dict[int, tuple[Any, list[int]]] = {}
        self._ready: list[tuple[Any, int, list[int]]] = []
        self._size = 0

    def add(self, pattern: bytes, lane: int = 0) -> int:
        if lane not in self._lanes:
            self._lanes[lane] = (re2.Set.SearchSet(options(_SET_MEMORY, False)), [])
        found, indexes = self._lanes[lane]
        found.Add(pattern)
        indexes.append(self._size)
        self._size += 1
        return self._size - 1

    def compile(self) -> None:
        """Compiles the sets and lets the canary sing in each: found where it is, not found where it is not."""
        for found, indexes in self._lanes.values():
            canary = int(found.Add(_CANARY_PATTERN))
            found.Compile()
            sung = all(canary in (found.Match(text + CANARY) or ()) for text in (b"", b"caf\xe9 ", b"0" * 70_000))
            if not sung or canary in (found.Match(b"flowwarden-canary") or ()):
                raise refuse("MaskEngine", "the pattern set does not find its canary")
            self._ready.append((found, canary, indexes))

    def find(self, text: bytes) -> list[int]:
        """Indexes of the patterns that occur; Refusal if a set could not run."""
        probe = text + CANARY
        out: list[int] = []
        for lane, canary, indexes in self._ready:
            found = lane.Match(probe)
            if found is None or canary not in found:
                raise refuse("MaskEngine", "the pattern set could not search this answer")
            if len(found) > 1:
                out += [indexes[index] for index in found if index != canary]
        return out


def _lane(mask: Mask) -> tuple[bytes, int]:
    """What the first pass looks for, for a mask, and in which lane."""
    if mask.engine == "regex":
        return b"(?i)" + _any_of(mask.keywords), 2
    if _PREFIXED.match(mask.pattern):
        return mask.pattern, 0
    if mask.pattern.startswith(b"(?i)"):
        return mask.pattern, 1
    return (_any_of(mask.keywords), 2) if mask.keywords else (mask.pattern, 1)


class Finder:
    """Where one mask's pattern occurs, as the span of its group `secret` (or first group, or all of it)."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self._re2: Any = None
        self._regex: Any = None
        if mask.engine == "re2":
            self._re2 = re2.compile(mask.pattern, options(_FINDER_MEMORY, True))
            self._group = 1 if self._re2.groups else 0
        else:
            self._regex = regex.compile(mask.pattern)
            self._group = 1 if self._regex.groups else 0

    def spans(self, text: bytes, start: int = 0) -> Iterable[tuple[int, int, Span]]:
        """(match start, match end, span to hide) of every occurrence from `start` on that stands the mask's check."""
        mask = self.mask
        try:
            for spans in self._matches(text, start):
                begin, end = spans[self._group]
                if begin < 0 or begin == end:
                    begin, end = spans[0]
                if begin < end and passes(mask.check, mask.entropy, text[max(0, begin - 128) : begin], text[begin:end]):
                    yield spans[0][0], spans[0][1], Span(begin, end, mask)
        except TimeoutError:
            raise refuse("MaskTimeout", f"the pattern of {mask.id!r} takes too long on this answer", mask.id) from None

    def _matches(self, text: bytes, start: int) -> Iterator[list[tuple[int, int]]]:
        if self._re2 is not None:
            yield from locate(self._re2, text, start)
            return
        for match in self._regex.finditer(text, start, timeout=_HARDEST):
            yield [match.span(group) for group in range(self._group + 1)]


def catastrophic(pattern: bytes, pump_texts: Sequence[bytes]) -> bool:
    """Whether a backtracking engine takes more than a moment on any of the texts made to hurt this pattern."""
    compiled = regex.compile(pattern)
    started = time.perf_counter()
    for text in pump_texts:
        try:
            compiled.search(text, timeout=0.25)
        except TimeoutError:
            return True
        if time.perf_counter() - started > 1.0:
            return True
    return False


def merge(spans: list[Span]) -> list[Span]:
    """Spans in order, overlapping ones made one. A token's own shape gives the name before what only stands at `secret=`."""
    spans.sort(key=lambda span: (span.start, -span.end))
    merged: list[Span] = []
    for span in spans:
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            name = span.mask if last.mask.check == "secret" else last.mask
            merged[-1] = Span(last.start, max(span.end, last.end), name)
        else:
            merged.append(span)
    return merged


class Patterns:
    """The patterns of a masker, and what else the same pass looks for.

    A trigger says that a text has to be unwrapped before it can be searched, an alarm that a careful reader is needed.
    """

    def __init__(self, masks: Sequence[Mask], triggers: Sequence[bytes] = (), alarms: Sequence[bytes] = ()) -> None:
        self.masks = tuple(masks)
        self._searcher = Searcher()
        self._finders: dict[int, Finder] = {}
        self._by_index: dict[int, Mask] = {}
        for mask in masks:
            self._by_index[self._searcher.add(*_lane(mask))] = mask
        self.triggers = [self._searcher.add(trigger, _OTHERS) for trigger in triggers]
        others = {self._searcher.add(alarm, _OTHERS) for alarm in alarms if alarm}
        self.alarms = frozenset(self._by_index) | others
        self._no_secrets = frozenset(others)
        self._searcher.compile()
        self.longest = max((mask.limit for mask in masks), default=0)

    def find(self, text: bytes) -> list[int]:
        """Indexes of patterns, triggers and alarms that occur; empty for most texts."""
        return self._searcher.find(text)

    def find_secrets(self, text: bytes) -> list[int]:
        """The same without the alarms."""
        found = self._searcher.find(text)
        return [index for index in found if index not in self._no_secrets] if found else found

    def finder(self, index: int) -> Finder | None:
        """The finder of a pattern, made on first need; None for a trigger or an alarm."""
        found = self._finders.get(index)
        if found is None and index in self._by_index:
            found = self._finders[index] = Finder(self._by_index[index])
        return found

    def spans(
        self, text: bytes, found: Iterable[int] | None = None, tick: Callable[[], None] | None = None
    ) -> list[Span]:
        """What to hide in a text, merged and in order. `tick` is called for each span found."""
        spans: list[Span] = []
        for index in self.find(text) if found is None else found:
            finder = self.finder(index)
            for _, _, span in finder.spans(text) if finder is not None else ():
                spans.append(span)
                if tick is not None:
                    tick()
        return merge(spans) if len(spans) > 1 else spans


def _any_of(keywords: Sequence[bytes]) -> bytes:
    return b"|".join(re2.escape(word) for word in keywords)
