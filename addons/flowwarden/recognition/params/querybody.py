"""Forms of the query and ec2 protocols as parameters: `Filter.1.Value.2=x` back into lists, maps and structures.

https://smithy.io/2.0/aws/protocols/aws-query-protocol.html, .../aws-ec2-query-protocol.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .values import DEPTH, Malformed, Shape, Shapes, from_text, shape_of

# A node of the form's tree is the text of a key, or the nodes below it; "" holds the text of a key that also has nodes.
Node = dict[str, Any]

_OWN = {"Action", "Version"}
# Signature version 2 and presigned requests carry their signature as parameters.
_SIGNATURE = {
    "AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp", "Expires", "SecurityToken",
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
    "X-Amz-Security-Token",
}  # fmt: skip


def read(form: Mapping[str, str], reference: str | None, shapes: Shapes, ec2: bool) -> dict[str, Any]:
    """A decoded form as parameters. Keys that the model does not know stay as they are."""
    reader = _Reader(shapes, ec2)
    names = reader.names(reference) if reference is not None else {}
    lowered = {name.lower() for name in names}
    found: dict[str, Any] = {}
    for key, node in _tree(form).items():
        known = names.get(key)
        if known:
            found[known[0]] = reader.value(node, known[1], known[0])
        elif key not in _OWN and key not in _SIGNATURE:
            if key.lower() in lowered or key.lower() in {"action", "version"}:
                raise Malformed("A parameter's name differs from the model's in case only")
            found[key] = node
    return found


def _tree(form: Mapping[str, str]) -> Node:
    root: Node = {}
    for key, text in form.items():
        parts = key.split(".")
        if len(parts) > DEPTH:
            raise Malformed("A parameter's name is nested too deeply")
        node = root
        for part in parts[:-1]:
            below = node.get(part)
            if not isinstance(below, dict):
                below = node[part] = {} if below is None else {"": below}
            node = below
        last = node.get(parts[-1])
        if isinstance(last, dict):
            last[""] = text
        else:
            node[parts[-1]] = text
    return root


class _Reader:
    """Reads nodes of the tree by the service's shapes. A name's length bounds the depth."""

    def __init__(self, shapes: Shapes, ec2: bool) -> None:
        self._shapes = shapes
        self._ec2 = ec2

    def names(self, reference: str) -> dict[str, tuple[str, Shape]]:
        """A structure's names in the form → (member, the member's own traits)."""
        shape = shape_of(reference, self._shapes)
        names: dict[str, tuple[str, Shape]] | None = shape.get("\x00form")
        if names is None:
            names = shape["\x00form"] = {
                self._name(member, spec): (member, spec) for member, spec in shape["members"].items()
            }
        return names

    def _name(self, member: str, spec: Shape) -> str:
        name = str(spec.get("locationName", ""))
        if self._ec2:
            return str(spec.get("queryName") or (name[0].upper() + name[1:] if name else member))
        shape = shape_of(spec["shape"], self._shapes)
        if shape["type"] == "list" and self._flat(shape, spec):
            name = shape["member"].get("locationName") or name
        return name or member

    @staticmethod
    def _flat(shape: Shape, traits: Shape) -> bool:
        return bool(shape.get("flattened") or traits.get("flattened"))

    def value(self, node: Any, traits: Shape, where: str) -> Any:
        """One node as the shape that `traits` refer to."""
        shape = shape_of(traits["shape"], self._shapes)
        kind = shape["type"]
        if kind == "structure":
            return self._structure(node, traits["shape"], where)
        if kind == "list":
            return self._list(node, shape, traits, where)
        if kind == "map":
            return self._map(node, shape, traits, where)
        if isinstance(node, dict):
            raise Malformed(f"{where} has to be one value")
        return from_text(node, kind, where)

    def _structure(self, node: Any, reference: str, where: str) -> dict[str, Any]:
        if node == "":
            return {}
        if not isinstance(node, dict):
            raise Malformed(f"{where} has to be a structure")
        names = self.names(reference)
        found = {}
        for key, below in node.items():
            if key not in names:
                raise Malformed(f"{where} has a member that the model does not know")
            member, traits = names[key]
            found[member] = self.value(below, traits, f"{where}.{member}")
        return found

    def _list(self, node: Any, shape: Shape, traits: Shape, where: str) -> list[Any]:
        if node == "":
            return []
        inner = shape["member"]
        if not self._ec2 and not self._flat(shape, traits):
            node = _only(node, inner.get("locationName", "member"), where)
        return [self.value(item, inner, where) for item in _numbered(node, where)]

    def _map(self, node: Any, shape: Shape, traits: Shape, where: str) -> dict[str, Any]:
        if node == "":
            return {}
        if not self._flat(shape, traits):
            node = _only(node, "entry", where)
        key_name, value_name = shape["key"].get("locationName", "key"), shape["value"].get("locationName", "value")
        found: dict[str, Any] = {}
        for entry in _numbered(node, where):
            key = entry.get(key_name) if isinstance(entry, dict) and set(entry) <= {key_name, value_name} else None
            if not isinstance(key, str) or key in found:
                raise Malformed(f"{where} has an entry that is not one key with one value")
            found[key] = self.value(entry.get(value_name, ""), shape["value"], where)
        return found


def _only(node: Any, name: str, where: str) -> Any:
    if not isinstance(node, dict) or set(node) != {name}:
        raise Malformed(f"{where} has to be a list of {name}.N")
    return node[name]


def _numbered(node: Any, where: str) -> list[Any]:
    if node == "":
        return []
    if not isinstance(node, dict) or not all(key.isascii() and key.isdigit() and len(key) < 8 for key in node):
        raise Malformed(f"{where} has to be a numbered list")
    places = {int(key): item for key, item in node.items()}
    if len(places) != len(node):
        raise Malformed(f"{where} has a place twice")
    return [places[place] for place in sorted(places)]
