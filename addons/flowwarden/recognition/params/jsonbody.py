"""JSON bodies (awsJson1_0, awsJson1_1, restJson1) as parameters."""

from __future__ import annotations

import json
from typing import Any

from .values import DEPTH, Malformed, Shape, Shapes, blob, moment, shape_of, timestamp


def parse(body: bytes) -> Any:
    """JSON without duplicate names, NaN or Infinity; Malformed otherwise."""
    try:
        text = body.decode("utf-8")
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise Malformed("The body is not JSON without duplicate names") from None


def read(value: Any, reference: str, shapes: Shapes, where: str = "", depth: int = 0) -> Any:
    """A JSON value as the shape says. Members that the model does not know are kept as they are."""
    shape = shape_of(reference, shapes)
    kind = shape["type"]
    reader = _READERS[kind]
    if depth > DEPTH:
        raise Malformed("The body is nested too deeply")
    return reader(value, shape, shapes, where, depth)


def structure(value: Any, shape: Shape, shapes: Shapes, where: str, depth: int) -> Any:
    if shape.get("document"):
        return value
    if not isinstance(value, dict):
        raise Malformed(f"{where or 'The body'} has to be an object")
    known = _wire_names(shape)
    found: dict[str, Any] = {}
    for name, item in value.items():
        if item is None:
            continue
        member = known.get(name)
        if member is None:
            _no_twin(name, shape, where)
            found[name] = item
        else:
            found[member[0]] = read(item, member[1], shapes, member[0], depth + 1)
    return found


def _wire_names(shape: Shape) -> dict[str, tuple[str, str]]:
    """Name in the body → (member, shape). Kept in the shape itself, which is read many times."""
    names: dict[str, tuple[str, str]] | None = shape.get("\x00names")
    if names is None:
        names = {
            spec.get("locationName", member): (member, spec["shape"])
            for member, spec in shape["members"].items()
            if "location" not in spec
        }
        shape["\x00lower"] = {name.lower() for name in names}
        shape["\x00names"] = names
    return names


def _no_twin(name: str, shape: Shape, where: str) -> None:
    """Some of AWS's parsers ignore case: a name that differs from a known one in nothing else would pass unseen."""
    if name.lower() in shape["\x00lower"]:
        raise Malformed(f"{where or 'The body'} has a member whose name differs from the model's in case only")


def _list(value: Any, shape: Shape, shapes: Shapes, where: str, depth: int) -> list[Any]:
    if not isinstance(value, list):
        raise Malformed(f"{where} has to be a list")
    inner = shape["member"]["shape"]
    return [None if item is None else read(item, inner, shapes, where, depth + 1) for item in value]


def _map(value: Any, shape: Shape, shapes: Shapes, where: str, depth: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{where} has to be an object")
    inner = shape["value"]["shape"]
    return {name: None if item is None else read(item, inner, shapes, where, depth + 1) for name, item in value.items()}


def _string(value: Any, shape: Shape, shapes: Shapes, where: str, depth: int) -> str:
    if not isinstance(value, str):
        raise Malformed(f"{where} has to be text")
    return value


def _integer(value: Any, shape: Shape, shapes: Shapes, where: str, depth: int) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Malformed(f"{where} has to be a whole number")
    return value


def _float(value: Any, shape: Shape, shapes: Shapes, where: str, depth: int) -> float:
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"{where} has to be a number")
    return value


def _boolean(value: Any, shape: Shape, shapes: Shapes, where: str, depth: int) -> bool:
    if not isinstance(value, bool):
        raise Malformed(f"{where} has to be true or false")
    return value


def _blob(value: Any, shape: Shape, shapes: Shapes, where: str, depth: int) -> bytes:
    return blob(_string(value, shape, shapes, where, depth), where)


def _timestamp(value: Any, shape: Shape, shapes: Shapes, where: str, depth: int) -> Any:
    if isinstance(value, str):
        return timestamp(value, where)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"{where} has to be a point in time")
    return moment(value, where)


_READERS = {
    "structure": structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "integer": _integer,
    "long": _integer,
    "float": _float,
    "double": _float,
    "boolean": _boolean,
    "blob": _blob,
    "timestamp": _timestamp,
}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate name")
    return found


def _constant(name: str) -> Any:
    raise ValueError(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant)
