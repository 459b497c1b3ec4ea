"""CBOR bodies (smithy-rpc-v2-cbor) as parameters. A decoder of its own: it refuses duplicate keys and bounds depth.

RFC 8949; https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html
"""

from __future__ import annotations

import struct
from typing import Any

from .values import DEPTH, Malformed, Shape, Shapes, moment, shape_of

_BREAK = object()
_SIMPLE = {20: False, 21: True, 22: None, 23: None}


def parse(body: bytes) -> Any:
    """One CBOR item that fills the body; Malformed otherwise."""
    if not body:
        return {}
    try:
        value, end = _item(body, 0, 0)
    except (IndexError, struct.error, UnicodeDecodeError, OverflowError):
        raise Malformed("The body is not CBOR") from None
    if end != len(body) or value is _BREAK:
        raise Malformed("The body is not one CBOR item")
    return value


def _item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > DEPTH:
        raise Malformed("The body is nested too deeply")
    major, info = data[at] >> 5, data[at] & 31
    at += 1
    if major == 7:
        return _simple(data, at, info)
    endless = info == 31
    if endless and major in {0, 1, 6}:
        raise Malformed("The body is not CBOR")
    size, at = (0, at) if endless else _argument(data, at, info)
    if major == 0:
        return size, at
    if major == 1:
        return -1 - size, at
    if major in {2, 3}:
        return _text(data, at, size, major, endless)
    if major == 4:
        return _array(data, at, size, endless, depth)
    if major == 5:
        return _mapping(data, at, size, endless, depth)
    return _tagged(data, at, size, depth)


def _argument(data: bytes, at: int, info: int) -> tuple[int, int]:
    if info < 24:
        return info, at
    if info > 27:
        raise Malformed("The body is not CBOR")
    size = 1 << (info - 24)
    piece = data[at : at + size]
    if len(piece) != size:
        raise Malformed("The body ends early")
    return int.from_bytes(piece), at + size


def _simple(data: bytes, at: int, info: int) -> tuple[Any, int]:
    if info in _SIMPLE:
        return _SIMPLE[info], at
    if info == 31:
        return _BREAK, at
    forms = {25: ">e", 26: ">f", 27: ">d"}
    if info not in forms:
        raise Malformed("The body has a value that Smithy does not use")
    size = struct.calcsize(forms[info])
    return struct.unpack(forms[info], data[at : at + size])[0], at + size


def _text(data: bytes, at: int, size: int, major: int, endless: bool) -> tuple[Any, int]:
    if not endless:
        piece = data[at : at + size]
        if len(piece) != size:
            raise Malformed("The body ends early")
        return (piece if major == 2 else piece.decode("utf-8")), at + size
    pieces = []
    while data[at] != 0xFF:
        if data[at] >> 5 != major or data[at] & 31 == 31:
            raise Malformed("The body is not CBOR")
        size, at = _argument(data, at + 1, data[at] & 31)
        piece, at = _text(data, at, size, major, False)
        pieces.append(piece)
    return (b"".join(pieces) if major == 2 else "".join(pieces)), at + 1


def _array(data: bytes, at: int, size: int, endless: bool, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while endless or len(found) < size:
        value, at = _item(data, at, depth + 1)
        if value is _BREAK:
            if endless:
                return found, at
            raise Malformed("The body is not CBOR")
        found.append(value)
    return found, at


def _mapping(data: bytes, at: int, size: int, endless: bool, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while endless or len(found) < size:
        key, at = _item(data, at, depth + 1)
        if key is _BREAK and endless:
            return found, at
        if not isinstance(key, str) or key in found:
            raise Malformed("The body has a key that is no text, or is there twice")
        value, at = _item(data, at, depth + 1)
        if value is _BREAK:
            raise Malformed("The body is not CBOR")
        found[key] = value
    return found, at


def _tagged(data: bytes, at: int, tag: int, depth: int) -> tuple[Any, int]:
    value, at = _item(data, at, depth + 1)
    if tag == 1 and isinstance(value, int | float) and not isinstance(value, bool):
        return moment(value, "A timestamp"), at
    if tag in {2, 3} and isinstance(value, bytes):
        size = int.from_bytes(value)
        return (size if tag == 2 else -1 - size), at
    raise Malformed("The body has a tag that Smithy does not use")


def read(value: Any, reference: str, shapes: Shapes, where: str = "", depth: int = 0) -> Any:
    """A CBOR value as the shape says. Members that the model does not know are kept as they are."""
    shape = shape_of(reference, shapes)
    kind = shape["type"]
    if kind == "structure":
        return _structure(value, shape, shapes, where, depth)
    if kind == "list":
        _expect(isinstance(value, list), where, "a list")
        inner = shape["member"]["shape"]
        return [None if item is None else read(item, inner, shapes, where, depth + 1) for item in value]
    if kind == "map":
        _expect(isinstance(value, dict), where, "a map")
        inner = shape["value"]["shape"]
        return {
            key: None if item is None else read(item, inner, shapes, where, depth + 1) for key, item in value.items()
        }
    return _scalar(value, kind, where)


def _structure(value: Any, shape: Shape, shapes: Shapes, where: str, depth: int) -> dict[str, Any]:
    _expect(isinstance(value, dict), where or "The body", "a map")
    members = shape["members"]
    found = {}
    for name, item in value.items():
        if item is None:
            continue
        if name not in members:
            if name.lower() in {member.lower() for member in members}:
                raise Malformed(f"{where or 'The body'} has a member whose name differs from the model's in case only")
            found[name] = item
        else:
            found[name] = read(item, members[name]["shape"], shapes, name, depth + 1)
    return found


def _scalar(value: Any, kind: str, where: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in {"integer", "long"}:
        _expect(number and (isinstance(value, int) or value.is_integer()), where, "a whole number")
        return int(value)
    if kind in {"float", "double"}:
        _expect(number, where, "a number")
    elif kind == "timestamp":
        return moment(value, where) if number else value
    elif kind == "string":
        _expect(isinstance(value, str), where, "text")
    elif kind == "blob":
        _expect(isinstance(value, bytes), where, "bytes")
    elif kind == "boolean":
        _expect(isinstance(value, bool), where, "true or false")
    return value


def _expect(fine: bool, where: str, what: str) -> None:
    if not fine:
        raise Malformed(f"{where} has to be {what}")
