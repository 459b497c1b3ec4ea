"""What the readers share: shapes, scalars from text, and the error for what does not fit the model."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

Shape = dict[str, Any]
Shapes = dict[str, Shape]

DEPTH = 64  # deeper structures than any AWS model's input; beyond it a body is refused

_PLAIN: Shapes = {
    f"={kind}": {"type": kind}
    for kind in ("string", "integer", "long", "float", "double", "boolean", "blob", "timestamp")
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:?\d\d)?)?")
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class Malformed(ValueError):
    """A body or value is not what the model says. The text names the member, never its value."""


def shape_of(reference: str, shapes: Shapes) -> Shape:
    """The shape that a reference names: `=string` is a plain scalar, anything else stands in the service's table."""
    return _PLAIN[reference] if reference[0] == "=" else shapes[reference]


def number(text: str, where: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise Malformed(f"{where} has to be a whole number")
    return int(text)


def real(text: str, where: str) -> float:
    if text in _SPECIAL:
        return _SPECIAL[text]
    if len(text) > 400 or not _NUMBER.fullmatch(text):
        raise Malformed(f"{where} has to be a number")
    return float(text)


def boolean(text: str, where: str) -> bool:
    if text not in {"true", "false", "True", "False"}:
        raise Malformed(f"{where} has to be true or false")
    return text in {"true", "True"}


def blob(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{where} has to be base64") from None


def moment(seconds: float, where: str) -> datetime:
    """Seconds since 1970 as an aware datetime in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise Malformed(f"{where} is no point in time") from None


def timestamp(text: str, where: str) -> datetime:
    """ISO 8601, seconds since 1970 or an HTTP date, as an aware datetime in UTC."""
    found = _ISO.fullmatch(text)
    try:
        if found:
            fraction = (found[3] or ".0")[:7]
            zone = (found[4] or "Z").upper().replace("Z", "+00:00")
            return datetime.fromisoformat(f"{found[1]}T{found[2] or '00:00:00'}{fraction}{zone}").astimezone(UTC)
        if _NUMBER.fullmatch(text):
            return moment(float(text), where)
        parsed = parsedate_to_datetime(text)
        return parsed.replace(tzinfo=parsed.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        raise Malformed(f"{where} is no point in time") from None


def from_text(text: str, kind: str, where: str) -> Any:
    """A scalar that travels as text (query, URI, header, XML)."""
    if kind == "string":
        return text
    if kind in {"integer", "long"}:
        return number(text, where)
    if kind == "boolean":
        return boolean(text, where)
    if kind == "timestamp":
        return timestamp(text, where)
    if kind in {"float", "double"}:
        return real(text, where)
    if kind == "blob":
        return blob(text, where)
    raise Malformed(f"{where} cannot be text")
