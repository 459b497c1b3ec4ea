"""XML bodies (restXml) as parameters. No DTD, no entities, bounded depth: https://docs.python.org/3/library/xml.html#xml-security"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from .values import DEPTH, Malformed, Shape, Shapes, from_text, shape_of


@dataclass(slots=True)
class Element:
    """One element, its name without namespace prefix."""

    name: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""


def parse(body: bytes) -> Element:
    """The root element of a UTF-8 document; Malformed for anything else."""
    top = Element("", {})
    stack = [top]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > DEPTH:
            raise Malformed("The body is nested too deeply")
        element = Element(name.rpartition(":")[2], attributes)
        stack[-1].children.append(element)
        stack.append(element)

    def end(_name: str) -> None:
        stack.pop()

    def text(data: str) -> None:
        stack[-1].text += data

    def refuse(*_: object) -> None:
        raise Malformed("The body has a document type or an entity")

    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = refuse
    try:
        body.decode("utf-8")
        parser.Parse(body, True)
    except (expat.ExpatError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed("The body is not XML in UTF-8") from None
    return top.children[0]


def read(element: Element, reference: str, shapes: Shapes, where: str = "", depth: int = 0) -> Any:
    """An element as the shape says; Malformed for members that the model does not know."""
    shape = shape_of(reference, shapes)
    kind = shape["type"]
    if depth > DEPTH:
        raise Malformed("The body is nested too deeply")
    if kind == "structure":
        return structure(element, shape, shapes, where, depth)
    if kind == "list":
        return _list(element, shape, shapes, where, depth)
    if kind == "map":
        return _map(element.children, shape, shapes, where, depth, "entry")
    if element.children:
        raise Malformed(f"{where} has to be one value")
    text = element.text if kind == "string" else element.text.strip()
    return from_text(text, kind, where)


def structure(element: Element, shape: Shape, shapes: Shapes, where: str, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names: dict[str, tuple[str, Shape]] = {}
    for member, spec in shape["members"].items():
        if "location" in spec:
            continue
        inner = shape_of(spec["shape"], shapes)
        name = spec.get("locationName", member)
        if spec.get("xmlAttribute"):
            _attribute(element, name, member, found)
            continue
        if inner["type"] == "list" and (inner.get("flattened") or spec.get("flattened")):
            name = spec.get("locationName") or inner["member"].get("locationName") or member
        names[name] = (member, spec)
    for child in element.children:
        if child.name not in names:
            raise Malformed(f"{where or 'The body'} has an element that the model does not know")
        member, spec = names[child.name]
        _member(child, member, spec, shapes, found, f"{where}.{member}" if where else member, depth)
    return found


def _attribute(element: Element, name: str, member: str, found: dict[str, Any]) -> None:
    local = name.rpartition(":")[2]
    values = [value for key, value in element.attributes.items() if key.rpartition(":")[2] == local]
    if values:
        found[member] = values[0]


def _member(
    child: Element, member: str, spec: Shape, shapes: Shapes, found: dict[str, Any], where: str, depth: int
) -> None:
    inner = shape_of(spec["shape"], shapes)
    flat = inner.get("flattened") or spec.get("flattened")
    if flat and inner["type"] == "list":
        found.setdefault(member, []).append(read(child, inner["member"]["shape"], shapes, where, depth + 1))
    elif flat and inner["type"] == "map":
        found.setdefault(member, {}).update(_map([child], inner, shapes, where, depth, child.name))
    elif member in found:
        raise Malformed(f"{where} is there twice")
    else:
        found[member] = read(child, spec["shape"], shapes, where, depth + 1)


def _list(element: Element, shape: Shape, shapes: Shapes, where: str, depth: int) -> list[Any]:
    inner = shape["member"]
    name = inner.get("locationName", "member")
    if any(child.name != name for child in element.children):
        raise Malformed(f"{where} has to be a list of {name}")
    return [read(child, inner["shape"], shapes, where, depth + 1) for child in element.children]


def _map(entries: list[Element], shape: Shape, shapes: Shapes, where: str, depth: int, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in entries:
        parts = {child.name: child for child in entry.children}
        key = parts.get(shape["key"].get("locationName", "key"))
        value = parts.get(shape["value"].get("locationName", "value"))
        if entry.name != name or key is None or value is None or len(entry.children) != 2 or key.text in found:
            raise Malformed(f"{where} has an entry that is not one key with one value")
        found[key.text] = read(value, shape["value"]["shape"], shapes, where, depth + 1)
    return found
