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
    if reference is None:
        members: dict[str, Any] = {}
        names: dict[str, tuple[str, str, Shape]] = {}
    else:
        members = shape_of(reference, shapes)["members"]
        names = _names(members, shapes, ec2)
    lowered = {name.lower() for name in names}
    found: dict[str, Any] = {}
    for key, node in _tree(form).items():
        known = names.get(key)
        if known:
            found[known[0]] = _value(node, known[1], known[2], shapes, ec2, known[0], 0)
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


def _names(members: Shape, shapes: Shapes, ec2: bool) -> dict[str, tuple[str, str, Shape]]:
    """Name in the form → (member, shape, member's own traits)."""
    names = {}
    for member, spec in members.items():
        name = _query_name(member, spec, ec2)
        shape = shape_of(spec["shape"], shapes)
        if not ec2 and shape["type"] == "list" and (shape.get("flattened") or spec.get("flattened")):
            name = shape["member"].get("locationName") or name
        names[name] = (member, spec["shape"], spec)
    return names


def _query_name(member: str, spec: Shape, ec2: bool) -> str:
    if ec2:
        if "queryName" in spec:
            return str(spec["queryName"])
        name = str(spec.get("locationName", ""))
        return name[0].upper() + name[1:] if name else member
    return str(spec.get("locationName", member))


def _value(node: Any, reference: str, traits: Shape, shapes: Shapes, ec2: bool, where: str, depth: int) -> Any:
    shape = shape_of(reference, shapes)
    kind = shape["type"]
    if depth > DEPTH:
        raise Malformed("The form is nested too deeply")
    if kind == "structure":
        return _structure(node, shape, shapes, ec2, where, depth)
    if kind == "list":
        return _list(node, shape, traits, shapes, ec2, where, depth)
    if kind == "map":
        return _map(node, shape, traits, shapes, ec2, where, depth)
    if isinstance(node, dict):
        raise Malformed(f"{where} has to be one value")
    return from_text(node, kind, where)


def _structure(node: Any, shape: Shape, shapes: Shapes, ec2: bool, where: str, depth: int) -> dict[str, Any]:
    if node == "":
        return {}
    if not isinstance(node, dict):
        raise Malformed(f"{where} has to be a structure")
    names = _names(shape["members"], shapes, ec2)
    found = {}
    for key, below in node.items():
        if key not in names:
            raise Malformed(f"{where} has a member that the model does not know")
        member, reference, traits = names[key]
        found[member] = _value(below, reference, traits, shapes, ec2, f"{where}.{member}", depth + 1)
    return found


def _list(node: Any, shape: Shape, traits: Shape, shapes: Shapes, ec2: bool, where: str, depth: int) -> list[Any]:
    if node == "":
        return []
    inner = shape["member"]
    if not ec2 and not (shape.get("flattened") or traits.get("flattened")):
        node = _only(node, inner.get("locationName", "member"), where)
    return [_value(item, inner["shape"], inner, shapes, ec2, where, depth + 1) for item in _numbered(node, where)]


def _map(node: Any, shape: Shape, traits: Shape, shapes: Shapes, ec2: bool, where: str, depth: int) -> dict[str, Any]:
    if node == "":
        return {}
    if not (shape.get("flattened") or traits.get("flattened")):
        node = _only(node, "entry", where)
    key_name = shape["key"].get("locationName", "key")
    value_name = shape["value"].get("locationName", "value")
    found: dict[str, Any] = {}
    for entry in _numbered(node, where):
        if (
            not isinstance(entry, dict)
            or not set(entry) <= {key_name, value_name}
            or not isinstance(entry.get(key_name), str)
        ):
            raise Malformed(f"{where} has an entry that is not a key with a value")
        if entry[key_name] in found:
            raise Malformed(f"{where} has a key twice")
        item = entry.get(value_name, "")
        found[entry[key_name]] = _value(item, shape["value"]["shape"], shape["value"], shapes, ec2, where, depth + 1)
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
