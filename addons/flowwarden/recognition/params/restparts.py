"""URI labels, query, headers and payload of the REST protocols as parameters.

https://smithy.io/2.0/spec/http-bindings.html
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import jsonbody, xmlbody
from .values import Malformed, Shape, Shapes, from_text, shape_of, timestamp

Query = Mapping[str, list[str]]
Fields = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a request that carry parameters. `body` None: not read. `known` are the query names of the model."""

    labels: Mapping[str, str]
    query: Query
    fields: Fields
    body: bytes | None
    known: frozenset[str] = frozenset()


def read(reference: str, shapes: Shapes, parts: Parts, xml: bool) -> dict[str, Any]:
    """All parameters of one request; a streaming payload is left out, and so is a body that was not read."""
    shape = shapes[reference]
    found: dict[str, Any] = {}
    for member, spec in shape["members"].items():
        where = spec.get("location")
        if where == "uri":
            name = spec.get("locationName", member)
            if name in parts.labels:
                found[member] = from_text(parts.labels[name], shape_of(spec["shape"], shapes)["type"], member)
        elif where == "querystring":
            _query(member, spec, shapes, parts, found)
        elif where == "header":
            _header(member, spec, shapes, parts.fields, found)
        elif where == "headers":
            _headers(member, spec, parts.fields, found)
    if parts.body is not None:
        _payload(reference, shapes, parts.body, xml, found)
    return found


def _query(member: str, spec: Shape, shapes: Shapes, parts: Parts, found: dict[str, Any]) -> None:
    name = spec.get("locationName", member)
    shape = shape_of(spec["shape"], shapes)
    if shape["type"] == "map":
        rest = {key: values for key, values in parts.query.items() if key not in parts.known}
        if rest:
            listed = shape_of(shape["value"]["shape"], shapes)["type"] == "list"
            found[member] = {key: list(values) if listed else values[0] for key, values in rest.items()}
    elif name in parts.query:
        values = parts.query[name]
        if shape["type"] == "list":
            kind = shape_of(shape["member"]["shape"], shapes)["type"]
            found[member] = [from_text(value, kind, member) for value in values]
        elif len(values) > 1:
            raise Malformed(f"{member} is there twice")
        elif values[0] or shape["type"] == "string":
            found[member] = from_text(values[0], shape["type"], member)


def _header(member: str, spec: Shape, shapes: Shapes, fields: Fields, found: dict[str, Any]) -> None:
    values = [_utf8(value) for value in fields.get(spec.get("locationName", member).lower(), ())]
    if not values:
        return
    shape = shape_of(spec["shape"], shapes)
    if shape["type"] == "list":
        kind = shape_of(shape["member"]["shape"], shapes)["type"]
        found[member] = [from_text(value, kind, member) for value in _split(",".join(values), kind)]
        return
    if len(values) > 1:
        raise Malformed(f"The header of {member} is there twice")
    text = values[0].strip()
    if spec.get("jsonvalue"):
        found[member] = _json_value(text, member)
    elif text or shape["type"] == "string":
        found[member] = (
            timestamp(text, member) if shape["type"] == "timestamp" else from_text(text, shape["type"], member)
        )


def _utf8(text: str) -> str:
    """SDKs write header values in UTF-8; what is none stays latin-1."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _headers(member: str, spec: Shape, fields: Fields, found: dict[str, Any]) -> None:
    prefix = spec.get("locationName", "").lower()
    values = {name[len(prefix) :]: _utf8(",".join(texts)) for name, texts in fields.items() if name.startswith(prefix)}
    if values:
        found[member] = values


def _split(text: str, kind: str) -> list[str]:
    """A list in a header: items with a comma or quote are quoted; HTTP dates hold one comma each."""
    pieces: list[str] = []
    current, quoted, escaped = "", False, False
    for letter in text:
        if escaped:
            current, escaped = current + letter, False
        elif quoted and letter == "\\":
            escaped = True
        elif letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            pieces.append(current.strip())
            current = ""
        else:
            current += letter
    pieces.append(current.strip())
    if kind == "timestamp" and len(pieces) % 2 == 0 and not any(piece[:1].isdigit() for piece in pieces[::2]):
        return [f"{day}, {rest}" for day, rest in zip(pieces[::2], pieces[1::2], strict=True)]
    return pieces


def _json_value(text: str, member: str) -> Any:
    try:
        return json.loads(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise Malformed(f"The header of {member} has to be base64 of JSON") from None


def _payload(reference: str, shapes: Shapes, body: bytes, xml: bool, found: dict[str, Any]) -> None:
    shape = shapes[reference]
    payload = shape.get("payload")
    if payload:
        spec = shape["members"][payload]
        target = shape_of(spec["shape"], shapes)
        if spec.get("streaming") or target.get("streaming") or target.get("eventstream"):
            return
        if target["type"] == "blob":
            if body:
                found[payload] = body
        elif target["type"] == "string":
            found[payload] = _text(body, payload)
        elif body.strip():
            found[payload] = _tree(spec["shape"], shapes, body, xml, payload)
        return
    inside = [member for member, spec in shape["members"].items() if "location" not in spec]
    if inside and body.strip():
        found.update(_tree(reference, shapes, body, xml, ""))


def _tree(reference: str, shapes: Shapes, body: bytes, xml: bool, where: str) -> Any:
    if xml:
        return xmlbody.read(xmlbody.parse(body), reference, shapes, where)
    return jsonbody.read(jsonbody.parse(body), reference, shapes, where)


def _text(body: bytes, member: str) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed(f"{member} has to be UTF-8") from None
