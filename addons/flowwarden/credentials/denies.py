"""Deny rules that a session policy can say as well: whose actions are denied whatever the request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..policy.conditions import Actions
from ..policy.facts import Facts, judge
from ..types import Call, Principal, Request

if TYPE_CHECKING:
    from ..policy.rule import Rule

_WHO = frozenset({"groups", "principals", "agents"})
_IAM_ACTION = re.compile(r"\*|[a-zA-Z0-9-]+:[A-Za-z0-9*?]+")  # IAM has no wildcard in the service's prefix
_NOTHING = Request("GET", "https", "", 443, "/")


def plain_denies(rules: Iterable[Rule], principal: Principal) -> list[str]:
    """The actions of a principal's deny rules that have no condition but who and which actions, in the rules' order.

    The gateway decides by the whole rules all the same; this is a second bound, at AWS. Patterns that IAM cannot say are
    left to the gateway.
    """
    found: dict[str, None] = {}
    facts = Facts(principal, Call(aws=True), _NOTHING)
    for rule in rules:
        if rule.effect != "deny" or not {condition.key for condition in rule.conditions} <= _WHO | {"actions"}:
            continue
        who = [condition for condition in rule.conditions if condition.key in _WHO]
        what = [condition for condition in rule.conditions if isinstance(condition, Actions)]
        if len(what) != 1 or what[0].include is None or what[0].exclude is not None or what[0].levels:
            continue
        if all(judge(condition.hits(facts), False) for condition in who):
            found.update((text, None) for text in what[0].include.texts if _IAM_ACTION.fullmatch(text))
    return list(found)
