"""Names and paths of fields and columns as globs: `*` within a segment, `**` for any segments, case does not matter.

A path such as `Environment.Variables.*` matches the end of a field's path; with `$.` in front it starts at the root. List
items are no segment of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

_SEPARATOR = "\x1f"


def _segment(glob: str) -> str:
    return "".join(f"[^{_SEPARATOR}]*" if c == "*" else f"[^{_SEPARATOR}]" if c == "?" else re.escape(c) for c in glob)


def path_regex(glob: str) -> str:
    """The glob of a path as a regular expression over segments joined by U+001F."""
    anchored = glob.startswith("$.")
    parts = glob[2:].split(".") if anchored else glob.split(".")
    made = "" if anchored else f"(?:.*{_SEPARATOR})?"
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            made += ".*" if last else f"(?:.*{_SEPARATOR})?"
        else:
            made += _segment(part) + ("" if last else _SEPARATOR)
    return made


class Globs[Meaning]:
    """Several path globs with what each of them means; the first that matches wins. Answers are cached."""

    def __init__(self, globs: Iterable[tuple[str, Meaning]]) -> None:
        globs = tuple(globs)
        self.globs = tuple(glob for glob, _ in globs)
        self._all = [(re.compile(path_regex(glob), re.I | re.S), meaning) for glob, meaning in globs]
        self.match: Callable[[tuple[str, ...]], Meaning | None] = lru_cache(maxsize=8192)(self.look_up)

    def __bool__(self) -> bool:
        return bool(self._all)

    def look_up(self, path: tuple[str, ...]) -> Meaning | None:
        """As `match`, without remembering the answer."""
        joined = _SEPARATOR.join(path)
        for pattern, meaning in self._all:
            if pattern.fullmatch(joined):
                return meaning
        return None


def trigger(globs: Iterable[str]) -> bytes:
    """An re2 pattern that occurs in every JSON text that has a field for one of the globs (b"" if there are none)."""
    words: set[str] = set()
    for glob in globs:
        named = [part for part in glob.removeprefix("$.").split(".") if part.strip("*?")]
        if named:
            word = max(named, key=len)  # every named segment occurs where the path does; the longest is the rarest
            words.add("".join('[^"]*' if c == "*" else '[^"]' if c == "?" else re.escape(c) for c in word))
        else:
            words.add('[^"]*')
    joined = "|".join(sorted(words))
    return f'(?i)"(?:{joined})"\\s*:'.encode() if words else b""


def name_matches(globs: Iterable[str], name: str) -> bool:
    """Whether a column's name matches one of the globs."""
    return any(re.fullmatch(_segment(glob), name, re.I | re.S) for glob in globs)
