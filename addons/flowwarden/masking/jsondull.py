"""Stretches of JSON in which no name can be that of a masked field: passed at one go, by one regular expression.

Of each path only the last part is looked at, so that it is the same wherever the stretch stands. All names in it are ASCII
without escapes, no string begins as JSON of its own might, nothing is nested deeper than a few levels: whatever else there
is is left to the reader, token by token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_BLANK = r"[ \t\r\n]*+"
_NAME = r"[ !#-\[\]-~]{0,256}+"
_SCALAR = (
    r'"(?![ \t\r\n{\[\\])(?:[^"\\]++|\\["\\/bfnrtu])*+"|true|false|null|'
    r"-?(?:0|[1-9][0-9]{0,63}+)(?:\.[0-9]{1,64}+)?+(?:[eE][+-]?[0-9]{1,9}+)?+(?=[ \t\r\n,}\]])"
)
_LEVELS = 3
_MOST = 64  # globs: beyond them the expression is slower than the reader


@dataclass(frozen=True, slots=True)
class Dull:
    """Members of an object and items of an array, each with the comma behind it, and whole documents."""

    members: re.Pattern[bytes]
    items: re.Pattern[bytes]
    documents: re.Pattern[bytes]


@lru_cache(maxsize=64)
def without(globs: tuple[str, ...]) -> Dull | None:
    """What holds no field of the globs; None where every name may be one."""
    lasts = {glob.rpartition(".")[2] for glob in globs}
    if len(lasts) > _MOST or any(not last.strip("*?") for last in lasts):
        return None
    name = f'{_BLANK}"(?!(?i:{_names(lasts)})"){_NAME}"{_BLANK}:'
    value, container = _SCALAR, ""
    for _ in range(_LEVELS):
        item = f"{_BLANK}(?>{value}){_BLANK}"
        inside = f"(?:{name}{item}(?:,{name}{item})*+|{_BLANK})"
        container = rf"\{{{inside}\}}|\[(?:{item}(?:,{item})*+|{_BLANK})\]"
        value = f"{_SCALAR}|{container}"
    item = f"{_BLANK}(?>{value}){_BLANK}"
    forms = (f"(?:{name}{item},)++", f"(?:{item},)++", f"(?:{_BLANK}(?>{container}))++")
    return Dull(*(re.compile(form.encode(), re.S) for form in forms))


def _names(lasts: set[str]) -> str:
    """What matches every ASCII name that one of the globs matches, and perhaps some more."""
    ends = sorted("".join(map(_character, last.lstrip("*"))) for last in lasts if last.startswith("*"))
    others = sorted("".join(map(_character, last)) for last in lasts if not last.startswith("*"))
    return "|".join([rf'[^"\\]{{0,256}}(?:{"|".join(ends)})', *others] if ends else others)


def _character(char: str) -> str:
    if char == "*" or not char.isascii():  # a letter beyond ASCII may be another case of an ASCII one
        return r'[^"\\]{0,256}'
    return r'[^"\\]' if char == "?" else re.escape(char)
