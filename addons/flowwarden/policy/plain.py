"""Plain denies: actions that rules deny whatever the request, which a lease's session policy can deny as well."""

from __future__ import annotations

from ..types import Principal
from .ruleset import RuleSet

_PLAIN = frozenset({"id", "effect", "reason", "actions", "groups"})


def denies(rules: RuleSet, principal: Principal) -> tuple[str, ...]:
    """Action globs in the order of the rules. IAM has no wildcard for a service's prefix: such globs are left out."""
    found: dict[str, None] = {}
    for rule in rules.rules:
        if rule.effect != "deny" or not rule.source.keys() <= _PLAIN or "actions" not in rule.source:
            continue
        groups = rule.source.get("groups")
        if groups is not None and not principal.groups & frozenset([groups] if isinstance(groups, str) else groups):
            continue
        actions = rule.source["actions"]
        for action in [actions] if isinstance(actions, str) else actions:
            if "*" not in str(action).partition(":")[0] and ":" in str(action):
                found[str(action)] = None
    return tuple(found)
