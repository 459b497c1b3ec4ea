"""What a request's parameters add to its operation's actions: the rules under `conditions` of actions.json, and passed roles.

A rule is one of
  {"member": path, "actions": […]}                the member is there (`values`: with one of them; `contains`: with this text)
  {"each": path, "begins"|"key": …, "actions": […]}   what each value of a path needs, in place of the operation's own actions,
                                                  if every value is covered by a rule
  {"roles": [path, …], "actions": ["iam:PassRole"]}   one of these members names a role or instance profile
A path is dotted and goes through lists and maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Rule = Mapping[str, Any]
Params = Mapping[str, Any]

PROFILE = ":instance-profile/"  # marks what names an instance profile: the role in it is not known
_ROLE_ENDINGS = ("role", "rolename", "iaminstanceprofile", "instanceprofilename", "name", "roles", "override")
_EMPTY: tuple[Any, ...] = (None, "", [], {}, False)


def values_at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Every value that a path leads to."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from values_at(item, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping):
        if path[0] in value:
            yield from values_at(value[path[0]], path[1:])
        elif path[0] not in value and value and all(isinstance(item, Mapping) for item in value.values()):
            for item in value.values():  # a map, whose keys are the caller's
                if path[0] in item:
                    yield from values_at(item[path[0]], path[1:])


def added(rules: Sequence[Rule], params: Params) -> tuple[list[str], bool]:
    """(actions that these parameters need, whether they stand in place of the operation's own)."""
    found: list[str] = []
    for rule in rules:
        if ("member" in rule and _holds(rule, params)) or (
            "roles" in rule and any(True for _ in roles(rule["roles"], params))
        ):
            found.extend(rule["actions"])
    each = [rule for rule in rules if "each" in rule]
    instead = _each(each, params) if each else None
    return (found + instead, True) if instead else (found, False)


def _holds(rule: Rule, params: Params) -> bool:
    for value in values_at(params, tuple(rule["member"].split("."))):
        if "values" in rule:
            if value in rule["values"]:
                return True
        elif "contains" in rule:
            if rule["contains"] in str(value):
                return True
        elif value not in _EMPTY:
            return True
    return False


def _each(rules: Sequence[Rule], params: Params) -> list[str] | None:
    found: list[str] = []
    values = list(values_at(params, tuple(rules[0]["each"].split("."))))
    for value in values:
        fitting = [rule for rule in rules if _fits(rule, value)]
        if not fitting:
            return None
        for rule in fitting:
            found.extend(rule["actions"])
    return found or None


def _fits(rule: Rule, value: Any) -> bool:
    if "key" in rule:
        return isinstance(value, Mapping) and rule["key"] in value
    if not isinstance(value, str) or not value.isascii():
        return False
    first = value.split(None, 1)[:1]
    return bool(first) and first[0].lower() == rule["begins"]


def roles(paths: Sequence[str], params: Params) -> Iterator[str]:
    """The roles and instance profiles that these members name: ARNs, or bare names where the member takes a name."""
    for path in paths:
        parts = tuple(path.split("."))
        for value in values_at(params, parts):
            if not isinstance(value, str) or not value:
                continue
            if value.startswith("arn:"):
                if ":role/" in value or ":instance-profile/" in value:
                    yield value
            elif parts[-1].lower().endswith(_ROLE_ENDINGS) and ":" not in value:
                yield f"{PROFILE}{value}" if "instanceprofile" in path.lower() else value
