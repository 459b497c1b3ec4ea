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

    def refuse(*_: object) -> int:
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


def read(element: Element, reference: str, shapes: Shapes, where: str = "") -> Any:
    """An element as the shape says; Malformed for members that the model does not know."""
    return _Reader(shapes).value(element, reference, where)


class _Reader:
    """Reads elements by the service's shapes. `parse` has bounded the depth."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def value(self, element: Element, reference: str, where: str) -> Any:
        """One element as the shape says."""
        shape = shape_of(reference, self._shapes)
        kind = shape["type"]
        if kind == "structure":
            return self._structure(element, shape, where)
        if kind == "list":
            return self._list(element, shape, where)
        if kind == "map":
            return self._map(element.children, shape, "entry", where)
        if element.children:
            raise Malformed(f"{where} has to be one value")
        return from_text(element.text if kind == "string" else element.text.strip(), kind, where)

    def _structure(self, element: Element, shape: Shape, where: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        names: dict[str, tuple[str, Shape]] = {}
        for member, spec in shape["members"].items():
            if "location" in spec:
                continue
            if spec.get("xmlAttribute"):
                _attribute(element, spec["locationName"], member, found)
            else:
                names[self._name(member, spec)] = (member, spec)
        for child in element.children:
            if child.name not in names:
                raise Malformed(f"{where or 'The body'} has an element that the model does not know")
            member, spec = names[child.name]
            self._member(child, member, spec, found)
        return found

    def _name(self, member: str, spec: Shape) -> str:
        inner = shape_of(spec["shape"], self._shapes)
        flat = inner["type"] == "list" and (inner.get("flattened") or spec.get("flattened"))
        return str(spec.get("locationName") or (flat and inner["member"].get("locationName")) or member)

    def _member(self, child: Element, member: str, spec: Shape, found: dict[str, Any]) -> None:
        inner = shape_of(spec["shape"], self._shapes)
        flat = inner.get("flattened") or spec.get("flattened")
        if flat and inner["type"] == "list":
            found.setdefault(member, []).append(self.value(child, inner["member"]["shape"], member))
        elif flat and inner["type"] == "map":
            found.setdefault(member, {}).update(self._map([child], inner, child.name, member))
        elif member in found:
            raise Malformed(f"{member} is there twice")
        else:
            found[member] = self.value(child, spec["shape"], member)

    def _list(self, element: Element, shape: Shape, where: str) -> list[Any]:
        inner = shape["member"]
        name = inner.get("locationName", "member")
        if any(child.name != name for child in element.children):
            raise Malformed(f"{where} has to be a list of {name}")
        return [self.value(child, inner["shape"], where) for child in element.children]

    def _map(self, entries: list[Element], shape: Shape, name: str, where: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for entry in entries:
            parts = {child.name: child for child in entry.children}
            key = parts.get(shape["key"].get("locationName", "key"))
            value = parts.get(shape["value"].get("locationName", "value"))
            if entry.name != name or key is None or value is None or len(entry.children) != 2 or key.text in found:
                raise Malformed(f"{where} has an entry that is not one key with one value")
            found[key.text] = self.value(value, shape["value"]["shape"], where)
        return found


def _attribute(element: Element, name: str, member: str, found: dict[str, Any]) -> None:
    local = name.rpartition(":")[2]
    values = [value for key, value in element.attributes.items() if key.rpartition(":")[2] == local]
    if values:
        found[member] = values[0]
