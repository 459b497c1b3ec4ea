"""All patterns of a masker as one index, and a finder that says where each occurs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import re2
import regex

from .checks import passes
from .model import Mask, Span, refuse
from .searcher import TRIGGERS, Searcher, broad, options

ALARM = -1  # the index that stands for every alarm
_FINDER_MEMORY = 64 << 20
_HARDEST = 1.5  # seconds that all `regex` searches of one text may take


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


def first(compiled: Any, text: bytes, start: int = 0) -> int:
    """Where the first match of an re2 pattern begins, from `start` on; -1 if there is none."""
    spans = compiled._regexp.Match(re2._Anchor.UNANCHORED, text, start, len(text)) if start <= len(text) else ()
    return int(spans[0][0]) if spans else -1


class Finder:
    """Where one mask's pattern occurs, as the span of its group `secret` (or first group, or all of it)."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self._re2: Any = None
        self._regex: Any = None
        self._broad = mask.engine != "re2" or broad(mask.pattern)
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

    def occurs(self, text: bytes) -> bool:
        """Whether the pattern may match in data of which these are the stretches of text: never false where it does."""
        return self._broad or next(self._matches(text, 0), None) is not None

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


def merged(found: list[tuple[int, Span]]) -> list[tuple[int, Span]]:
    """Spans in order, overlapping ones made one, each with where its match begins (the earliest).

    A token's own shape gives the name before what only stands at `secret=`.
    """
    found.sort(key=lambda item: (item[1].start, -item[1].end))
    out: list[tuple[int, Span]] = []
    for begins, span in found:
        if out and span.start < out[-1][1].end:
            before, last = out[-1]
            name = span.mask if last.mask.check == "secret" else last.mask
            out[-1] = (min(begins, before), Span(last.start, max(span.end, last.end), name))
        else:
            out.append((begins, span))
    return out


class Patterns:
    """The patterns of a masker, and what else the same pass looks for.

    A trigger says that a text has to be unwrapped before it can be searched, an alarm that a careful reader is needed.
    """

    def __init__(self, masks: Sequence[Mask], triggers: Sequence[bytes] = (), alarms: Sequence[bytes] = ()) -> None:
        self.masks = tuple(masks)
        self._finders: dict[int, Finder] = {}
        self._searcher = Searcher()
        self._by_index = {self._searcher.add_mask(mask): mask for mask in masks}
        self.triggers = [self._searcher.add(trigger, TRIGGERS) for trigger in triggers]
        self._searcher.compile()
        self._alarmed = Searcher()
        for alarm in filter(None, alarms):
            self._alarmed.add(alarm)
        self._alarmed.compile()
        self.alarms = frozenset((*self._by_index, ALARM))
        self.longest = max((mask.limit for mask in masks), default=0)

    def find(self, text: bytes) -> list[int]:
        """Indexes of patterns and triggers that occur, and ALARM; empty for most texts."""
        found = self._searcher.find(text)
        if self._alarmed.find(text):
            found.append(ALARM)
        return found

    def find_secrets(self, text: bytes) -> list[int]:
        """The same without the alarms."""
        return self._searcher.find(text)

    def finder(self, index: int) -> Finder | None:
        """The finder of a pattern, made on first need; None for a trigger or an alarm."""
        found = self._finders.get(index)
        if found is None and index in self._by_index:
            found = self._finders[index] = Finder(self._by_index[index])
        return found

    def matches(self, text: bytes, found: Iterable[int]) -> Iterator[tuple[int, Span]]:
        """What to hide in a text in which these indexes were found, each with where its match begins; overlaps and all."""
        for index in found:
            finder = self.finder(index)
            for begins, _, span in finder.spans(text) if finder is not None else ():
                yield begins, span

    def spans(
        self, text: bytes, found: Iterable[int] | None = None, tick: Callable[[], None] | None = None
    ) -> list[Span]:
        """What to hide in a text, merged and in order. `tick` is called for each span found."""
        matches: list[tuple[int, Span]] = []
        for match in self.matches(text, self.find(text) if found is None else found):
            matches.append(match)
            if tick is not None:
                tick()
        return [span for _, span in merged(matches)]
