"""Which of many patterns occur in a text: google-re2 Sets, in lanes that keep their automata small.

They work on Latin-1 bytes (a UTF-8 Set misses text with one bad byte). `Set.Match` gives None both for "nothing" and for
"could not run", so that every text is searched with a canary behind it: no canary found, no answer given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import re2

from .model import Mask, refuse

CANARY = b"\n\x00flowwarden-canary\x00\n"
_CANARY_PATTERN = rb"\x00flowwarden-canary\x00"
_SET_MEMORY = 64 << 20  # bytes of each Set's automaton at most

# A lane is a Set of its own. The states of one automaton multiply where patterns that are all half matched meet in one
# text; those of several only add up. What a lane holds was chosen by its speed on texts that no automaton had seen before.
PREFIXED, WORDED, SHORT, TRIGGERS = range(4)
_PREFIXED = re.compile(rb"\\b[A-Za-z0-9]{2,}|-----|https")
_NAMED = re.compile(rb"\(\?i\)(?:\\b)?(\(\?:[a-zA-Z|_-]+\)|[a-zA-Z]+)\[[^\]]*\]\{0,[0-9]+\}")
_SHORT_NAME = 3  # letters: cf, dd or ibm is in any base64 or hexadecimal text
_TOKEN = re.compile(
    rb"\\[xpP]\{[^}]*\}|\\.|\[\^?\]?(?:\[:[a-z^]+:\]|\\.|[^\]\\])*\]|\{([0-9]+)(?:,([0-9]*))?\}|.", re.S
)
_COUNTED = 8
_BROAD = re.compile(rb"\\[^bdwsntr\W_]|\[:\^")  # \S, \W, \D, \x80, \pL and the like


def options(memory: int, captures: bool) -> Any:
    """re2 options for patterns over bytes: Latin-1, silent, as much memory as `memory` bytes."""
    made = re2.Options()
    made.encoding = re2.Options.Encoding.LATIN1
    made.max_mem = memory
    made.never_capture = not captures
    made.log_errors = False
    return made


class Searcher:
    """Compiled patterns that fail closed. `add` before `compile`; `find` gives the indexes that occur."""

    def __init__(self) -> None:
        self._lanes: dict[int, tuple[Any, list[int]]] = {}
        self._ready: list[tuple[Any, int, list[int]]] = []
        self._size = 0

    def add(self, pattern: bytes, lane: int = PREFIXED) -> int:
        if lane not in self._lanes:
            self._lanes[lane] = (re2.Set.SearchSet(options(_SET_MEMORY, False)), [])
        found, indexes = self._lanes[lane]
        found.Add(pattern)
        indexes.append(self._size)
        self._size += 1
        return self._size - 1

    def add_mask(self, mask: Mask) -> int:
        """Looks for a mask's pattern, or for what is always there where the pattern is, and quicker to look for."""
        return self.add(*first_look(mask))

    def compile(self) -> None:
        """Compiles the Sets and lets the canary sing in each: found where it is, not found where it is not."""
        for found, indexes in self._lanes.values():
            canary = int(found.Add(_CANARY_PATTERN))
            found.Compile()
            sung = all(canary in (found.Match(text + CANARY) or ()) for text in (b"", b"caf\xe9 ", b"0" * 70_000))
            if not sung or canary in (found.Match(b"flowwarden-canary") or ()):
                raise refuse("MaskEngine", "the pattern set does not find its canary")
            self._ready.append((found, canary, indexes))

    def find(self, text: bytes) -> list[int]:
        """Indexes of the patterns that occur; Refusal if a Set could not run."""
        probe = text + CANARY
        out: list[int] = []
        for lane, canary, indexes in self._ready:
            found = lane.Match(probe)
            if found is None or canary not in found:
                raise refuse("MaskEngine", "the pattern set could not search this answer")
            if len(found) > 1:
                out += [indexes[index] for index in found if index != canary]
        return out


def first_look(mask: Mask) -> tuple[bytes, int]:
    """What the first pass looks for, for a mask, and in which lane."""
    if mask.engine == "regex":
        return b"(?i)" + _any_of(mask.keywords), PREFIXED
    if _PREFIXED.match(mask.pattern):
        return mask.pattern, PREFIXED
    if mask.pattern.startswith(b"(?i)"):
        named = _NAMED.match(mask.pattern)
        if named and any(len(name) <= _SHORT_NAME for name in re.findall(rb"[a-zA-Z_-]+", named[1])):
            return loosened(mask.pattern), SHORT
        return mask.pattern, WORDED
    return (_any_of(mask.keywords), PREFIXED) if mask.keywords else (loosened(mask.pattern), SHORT)


def broad(pattern: bytes) -> bool:
    """Whether a pattern may match bytes that are no ASCII text."""
    return any(_is_broad(token[0]) for token in _TOKEN.finditer(pattern))


def _is_broad(token: bytes) -> bool:
    if token == b"." or token.startswith(b"[^") or not token.isascii():
        return True
    return _BROAD.search(token) is not None


def loosened(pattern: bytes) -> bytes:
    """A pattern that matches wherever this one does, and counts no repeats above a few: its automaton has few states."""
    return _TOKEN.sub(_uncounted, pattern)


def _uncounted(token: re.Match[bytes]) -> bytes:
    if token[1] is None:
        return token[0]
    least, most = int(token[1]), token[2]
    if most is None and least <= _COUNTED:
        return token[0]
    return b"{%d,}" % min(least, _COUNTED)


def _any_of(keywords: Sequence[bytes]) -> bytes:
    return b"|".join(re2.escape(word) for word in keywords)
