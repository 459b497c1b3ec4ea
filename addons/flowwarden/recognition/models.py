"""Strips botocore's service models down to what recognising and reading a request needs. Runs when the cache is built."""

from __future__ import annotations

import gzip
import json
import os
from typing import Any

from botocore.loaders import Loader

Table = dict[str, Any]
ROOT: str = Loader.BUILTIN_DATA_PATH

_SHAPE_KEYS = (
    "payload",
    "flattened",
    "timestampFormat",
    "eventstream",
    "streaming",
    "document",
    "locationName",
    "xmlOrder",
)
_MEMBER_KEYS = (
    "location",
    "locationName",
    "queryName",
    "flattened",
    "xmlAttribute",
    "jsonvalue",
    "hostLabel",
    "streaming",
)
_BODILESS = ("uri", "querystring", "header", "headers")
_PLAIN = {"string", "integer", "long", "float", "double", "boolean", "blob", "timestamp"}


def service_names() -> list[str]:
    """Every service of the installed botocore, without loading a model."""
    return sorted(entry.name for entry in os.scandir(ROOT) if entry.is_dir() and _newest(entry.name, "service-2"))


def load(name: str, kind: str) -> Table:
    """A file of a service's newest version (`service-2`, `endpoint-rule-set-1`), or {} where there is none.

    botocore's own Loader takes five times as long, and would also obey a user's AWS_DATA_PATH, which is nobody's authority
    here. It is asked only where a model has corrections beside it.
    """
    path = _newest(name, kind)
    if path is None:
        return {}
    if os.path.exists(os.path.join(os.path.dirname(path), f"{kind}.sdk-extras.json")):
        strict = Loader(extra_search_paths=[ROOT], include_default_search_paths=False)
        return dict(strict.load_service_model(name, kind))
    with gzip.open(path, "rb") as file:
        found: Table = json.loads(file.read())
    return found


def load_text(name: str, kind: str) -> str:
    """The text of such a file. FileNotFoundError where there is none."""
    path = _newest(name, kind)
    if path is None:
        raise FileNotFoundError(f"{name}/{kind}")
    with gzip.open(path, "rb") as file:
        return file.read().decode("utf-8")


def load_json(name: str) -> Table:
    """A file of botocore's data folder itself (`partitions`, `endpoints`)."""
    with open(os.path.join(ROOT, f"{name}.json"), "rb") as file:
        found: Table = json.loads(file.read())
    return found


def _newest(name: str, kind: str) -> str | None:
    for version in sorted(os.listdir(os.path.join(ROOT, name)), reverse=True):
        path = os.path.join(ROOT, name, version, f"{kind}.json.gz")
        if os.path.exists(path):
            return path
    return None


def strip_service(name: str) -> Table:
    """One service's table: metadata, operations, and the shapes that their inputs reach."""
    model = load(name, "service-2")
    metadata = model["metadata"]
    shapes: Table = {}
    operations: Table = {}
    for operation, spec in model["operations"].items():
        source = spec.get("input", {}).get("shape")
        if source:
            _collect(source, model["shapes"], shapes)
        operations[operation] = _operation(spec, source, model["shapes"])
    return {
        "service": name,
        "version": metadata["apiVersion"],
        "protocols": metadata.get("protocols") or [metadata["protocol"]],
        "target": metadata.get("targetPrefix", ""),
        "json_version": metadata.get("jsonVersion", "1.0") if metadata.get("targetPrefix") else "",
        "signing": metadata.get("signingName") or metadata["endpointPrefix"],
        "operations": operations,
        "shapes": shapes,
    }


def _operation(spec: Table, source: str | None, shapes: Table) -> Table:
    kept: Table = {"method": spec["http"]["method"], "uri": spec["http"]["requestUri"], "body": _body(source, shapes)}
    if source:
        kept["input"] = source
    if spec.get("endpoint", {}).get("hostPrefix"):
        kept["prefix"] = spec["endpoint"]["hostPrefix"]
    if spec.get("authtype") == "none" or spec.get("auth") == ["smithy.api#noAuth"]:
        kept["unsigned"] = True
    if spec.get("deprecated"):
        kept["deprecated"] = True
    for flag, key in (("UseS3ExpressControlEndpoint", "express"), ("UseObjectLambdaEndpoint", "object_lambda")):
        if spec.get("staticContextParams", {}).get(flag, {}).get("value"):
            kept[key] = True
    return kept


def _body(source: str | None, shapes: Table) -> str:
    """`none`, `stream` or `whole`: what a REST operation's body holds (the RPC protocols always have it whole)."""
    if source is None:
        return "none"
    shape = shapes[source]
    payload = shape.get("payload")
    if payload:
        member = shape["members"][payload]
        target = shapes[member["shape"]]
        streams = member.get("streaming") or target.get("streaming") or target.get("eventstream")
        return "stream" if streams else "whole"
    inside = [member for member in shape["members"].values() if member.get("location") not in _BODILESS]
    return "whole" if inside else "none"


def _reference(name: str, shapes: Table) -> str:
    """A shape's name, or only its type where the type says everything."""
    shape = shapes[name]
    plain = shape["type"] in _PLAIN and not any(shape.get(key) for key in _SHAPE_KEYS)
    return f"={shape['type']}" if plain else name


def _collect(name: str, shapes: Table, kept: Table) -> None:
    pending = [name]
    while pending:
        current = pending.pop()
        if current in kept or _reference(current, shapes) != current:
            continue
        shape = shapes[current]
        small: Table = {"type": shape["type"]}
        small.update({key: shape[key] for key in _SHAPE_KEYS if shape.get(key)})
        if "members" in shape:
            small["members"] = {member: _member(spec, shapes, pending) for member, spec in shape["members"].items()}
            small["required"] = list(shape.get("required", ()))
        for part in ("member", "key", "value"):
            if part in shape:
                small[part] = _member(shape[part], shapes, pending)
        kept[current] = small


def _member(spec: Table, shapes: Table, pending: list[str]) -> Table:
    pending.append(spec["shape"])
    small: Table = {"shape": _reference(spec["shape"], shapes)}
    small.update({key: spec[key] for key in _MEMBER_KEYS if spec.get(key)})
    if shapes[spec["shape"]].get("enum"):
        small["enum"] = True
    return small
