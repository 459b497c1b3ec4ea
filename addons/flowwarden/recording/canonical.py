"""RFC 8785 canonical JSON for evidence records, on a fast path of the standard library.

The C encoder of `json` writes what RFC 8785 asks for as long as there are no floats, no integers beyond 2^53 and no keys
outside ASCII; everything else takes the slower rfc8785 package. Both give the same bytes where both may be used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import rfc8785

SAFE_INTEGER = 2**53 - 1
_MOST = 1 << 20  # values of one record; what holds itself has no end
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, check_circular=False).encode


_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def parsed(text: bytes) -> Any:
    """A canonical line as a value; ValueError for anything else. No white space, so less to look for than json.loads."""
    line = text.decode()
    try:
        found, end = _scan(line, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(line):
        raise ValueError("more than one value in a line")
    return found


def canonical(record: Mapping[str, Any]) -> bytes:
    """The record as one canonical line, without its newline.

    Integers beyond 2^53 become strings, a lone surrogate becomes its escape as text, and bytes, sets and other objects
    their `str`: what an agent sends must never keep a record from being written.
    """
    if _plain(record):
        try:
            return _encode(record).encode("utf-8")
        except UnicodeEncodeError:
            pass
    return rfc8785.dumps(_tamed(record))


def _plain(record: Any) -> bool:
    """Whether the fast encoder's output is canonical for this value."""
    pending = [record]
    for value in pending:  # it grows meanwhile
        kind = type(value)
        if kind is str or value is None or kind is bool:
            continue
        if kind is dict and len(pending) < _MOST:
            for key in value:
                if type(key) is not str or not key.isascii():
                    return False
            pending += value.values()
        elif (kind is list or kind is tuple) and len(pending) < _MOST:
            pending += value
        elif kind is not int or not -SAFE_INTEGER <= value <= SAFE_INTEGER:
            return False
    return True


def _tamed(value: Any) -> Any:
    """The value with everything that RFC 8785 refuses turned into text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -SAFE_INTEGER <= value <= SAFE_INTEGER else str(value)
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # infinities and NaN have no JSON form
    if isinstance(value, Mapping):
        return {_text(str(key)): _tamed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tamed(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(_text(str(item)) for item in value)
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("latin-1")
    return _text(str(value))


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
