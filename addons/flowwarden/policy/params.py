"""`params`: dotted paths into an operation's parameters, and the patterns that their values are held against."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .facts import UNKNOWN, Facts, Hit
from .globs import Globs

_NUMBER = re.compile(r"(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?)")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_HUGE = 10**1000  # Python refuses to write out integers much larger
_DEEP = 64  # parameters nested deeper than this are not read


class _Unread:
    """Stands for a value that is there and cannot be read."""


UNREAD = _Unread()


def _opened(value: str) -> Any:
    """A text that holds a JSON document (policies, schemas), read; UNREAD if it is none. Duplicate keys are UNREAD too."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in items}) != len(items):
            raise ValueError("duplicate key")
        return dict(items)

    try:
        read = json.loads(value, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return UNREAD
    return read if isinstance(read, dict | list) else UNREAD


def leaves(value: Any, depth: int = 0) -> Iterator[Any]:
    """Every single value in and below a value. Lists and mappings are walked; empty ones have none."""
    if depth > _DEEP:
        yield UNREAD
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from leaves(inner, depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from leaves(inner, depth + 1)
    else:
        yield value


def select(value: Any, path: tuple[str, ...], depth: int = 0) -> Iterator[Any]:
    """The values at a path. Lists on the way are walked, `*` stands for any key, JSON in texts is opened."""
    if depth > _DEEP:
        yield UNREAD
        return
    if isinstance(value, list | tuple):
        for inner in value:
            yield from select(inner, path, depth + 1)
        return
    if not path:
        yield from leaves(value)
        return
    if isinstance(value, str):
        value = _opened(value)
        if isinstance(value, list):
            yield from select(value, path, depth + 1)
            return
    if not isinstance(value, Mapping):
        if value is not None:
            yield UNREAD
        return
    head, rest = path[0], path[1:]
    if head == "*":
        for inner in value.values():
            yield from select(inner, rest, depth + 1)
    elif head in value:
        yield from select(value[head], rest, depth + 1)


def text_of(value: Any) -> str | None:
    """A value as the text that globs see: `true`, `10`, `0.5`; None if it has none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, int) and abs(value) >= _HUGE:
        return None
    if isinstance(value, str | int | float):
        return str(value)
    return value.isoformat() if hasattr(value, "isoformat") else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True)
class Param:
    """One path and its patterns. `absent` says that a parameter left out is meant too (a pattern of null)."""

    path: tuple[str, ...]
    globs: Globs
    numbers: tuple[tuple[Callable[[float, float], bool], float], ...] = ()
    absent: bool = False
    off: bool = False  # `false` is among the patterns: a flag left out may be off
    key: str = "params"

    @classmethod
    def of(cls, path: str, patterns: Iterable[Any]) -> Param:
        """ValueError for a path or a pattern that makes no sense."""
        segments = tuple(path.split("."))
        if not all(segments):
            raise ValueError(f"{path!r} is not a dotted path such as Tags.Value")
        texts: list[str] = []
        numbers: list[tuple[Callable[[float, float], bool], float]] = []
        absent = off = False
        for pattern in patterns:
            if pattern is None:
                absent = True
                continue
            text = text_of(pattern)
            if text is None:
                raise ValueError(f"{pattern!r} is neither text, number, true, false nor null")
            if match := _NUMBER.fullmatch(text):
                numbers.append((_COMPARE[match[1]], float(match[2])))
            else:
                texts.append(text)
            off = off or pattern is False
        return cls(segments, Globs(texts), tuple(numbers), absent, off)

    def hit(self, value: Any) -> Hit:
        if value is None:
            return self.absent
        text = text_of(value)
        if text is None:
            return None
        if self.globs(text):
            return True
        if not self.numbers:
            return False
        number = _number(value)
        return None if number is None else any(compare(number, limit) for compare, limit in self.numbers)

    def hits(self, facts: Facts) -> Iterable[Hit]:
        if facts.call.params is None:
            return UNKNOWN
        found = [self.hit(value) for value in select(facts.call.params, self.path)]
        if found:
            return found
        if self.absent:
            return (True,)
        return UNKNOWN if self.off else ()
