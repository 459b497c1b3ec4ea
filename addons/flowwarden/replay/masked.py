"""Masks in what was recorded: where they stand, and what could stand in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..masking.replacing import MARKED

MASK = re.compile(MARKED.pattern.decode("ascii"))


def holds_mask(value: Any) -> bool:
    """Whether a mask stands anywhere in a structure."""
    if isinstance(value, str):
        return "[MASKED" in value and MASK.search(value) is not None
    if isinstance(value, bytes):
        return b"[MASKED" in value and MARKED.search(value) is not None
    if isinstance(value, Mapping):
        return any(holds_mask(item) for item in value.values())
    return isinstance(value, list | tuple) and any(holds_mask(item) for item in value)


def fits(recorded: Any, other: Any) -> bool:
    """Whether a structure is the recorded one, when each mask may stand for anything."""
    if isinstance(recorded, str) and holds_mask(recorded):
        if MASK.fullmatch(recorded):
            return True  # the whole value was hidden, whatever its type
        return isinstance(other, str) and _pattern(recorded).fullmatch(other) is not None
    if isinstance(recorded, Mapping) and isinstance(other, Mapping):
        return recorded.keys() == other.keys() and all(fits(item, other[name]) for name, item in recorded.items())
    if isinstance(recorded, list | tuple) and isinstance(other, list | tuple):
        return len(recorded) == len(other) and all(map(fits, recorded, other))
    return bool(recorded == other)


def _pattern(recorded: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, MASK.split(recorded))), re.DOTALL)
