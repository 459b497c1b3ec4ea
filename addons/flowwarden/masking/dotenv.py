"""Fields in dotenv text: a line `NAME=value` whose name is a field's, wherever text is found (objects, logs, strings)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from .model import Mask


def lines(masks: Iterable[Mask]) -> list[Mask]:
    """For each mask of fields, the same mask as a pattern over lines. Paths of several segments are no names of lines."""
    return [made for mask in masks if (made := _line(mask)) is not None]


def _line(mask: Mask) -> Mask | None:
    names = [_glob(field) for field in mask.fields if "." not in field and field.strip("*?")]
    if not names:
        return None
    pattern = rf"""(?m)^[ \t]{{0,8}}(?:export[ \t]{{1,4}})?(?i:{"|".join(names)})=["']?([^\r\n"']+)"""
    return replace(mask, pattern=pattern.encode(), check="line", bounded=False, limit=4096)


def _glob(field: str) -> str:
    return "".join("[A-Za-z0-9_]*" if c == "*" else "[A-Za-z0-9_]" if c == "?" else re.escape(c) for c in field)
