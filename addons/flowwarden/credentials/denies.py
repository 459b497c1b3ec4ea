"""The deny rules that a session policy can say as well, as IAM's patterns, in as few characters as their actions allow.

A pattern is the shortest start of a name that only denied actions have, of all that AWS publishes: it denies nothing that
the rules do not deny, not even an action that IAM asks for behind another (kms:Decrypt behind s3:GetObject).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ..policy import catalogue
from ..policy.conditions import Actions
from ..policy.facts import Facts, judge
from ..policy.globs import Globs
from ..policy.overlap import reach
from ..policy.shell import Shell
from ..policy.sql import Sql
from ..policy.statements import SHELL, SQL
from ..types import Call, Principal, Request

if TYPE_CHECKING:
    from ..policy.rule import Rule

_WHO = frozenset({"groups", "principals", "agents"})
_IAM_ACTION = re.compile(r"\*|[a-zA-Z0-9-]+:[A-Za-z0-9*?]+")  # IAM has no wildcard in the service's prefix
_NOTHING = Request("GET", "https", "", 443, "/")


@dataclass(frozen=True, slots=True)
class Denies:
    """What a session policy should deny, in IAM's patterns.

    `needed`: actions that another rule of the principal would let through, so that the deny alone stands before them;
    `by` are the ids of the rules that deny them. `others`: actions that no rule lets through anyway, in the rules' order.
    """

    needed: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    by: tuple[str, ...] = ()


def compiled(rules: Iterable[Rule], principal: Principal, *, closed: bool = True) -> Denies:
    """The denies of a principal whose only conditions are who and which actions.

    What depends on parameters, resources, regions, time, SQL or shell stays with the gateway, which decides by the whole
    rules in any case. `closed`: what no rule matches is denied. Blocking for some 0.3 s when it is asked for the first time.
    """
    facts = Facts(principal, Call(aws=True), _NOTHING)
    mine = [
        rule for rule in rules if all(judge(each.hits(facts), False) for each in rule.conditions if each.key in _WHO)
    ]
    plain = tuple(
        (rule.id, actions)
        for rule in mine
        if rule.effect == "deny"
        and {each.key for each in rule.conditions} <= _WHO | {"actions"}
        and (actions := _actions(rule)) is not None
    )
    permits = tuple(found for rule in mine if rule.effect != "deny" and (found := _permit(rule)) is not None)
    return _compiled(plain, permits, closed)


@lru_cache(maxsize=64)
def _compiled(plain: tuple[tuple[str, Actions], ...], permits: tuple[Actions, ...], closed: bool) -> Denies:
    first: dict[str, int] = {}  # action -> the first rule that denies it
    for number, (_, actions) in enumerate(plain):
        for name in reach(actions, False):
            first.setdefault(name, number)
    unpublished = {text: number for number, (_, actions) in enumerate(plain) for text in _unpublished(actions)}
    let_through = frozenset[str]().union(*(reach(each, False) for each in permits)) if closed else frozenset(first)
    needed = let_through & first.keys()
    patterns = _patterns(needed, first.keys())
    others = [text for text in _patterns(first.keys(), first.keys()) if not _covered(text, patterns)]
    numbers = {first[name] for name in needed} | set(unpublished.values())
    return Denies(
        needed=(*unpublished, *sorted(patterns, key=lambda text: (_order(text, first), text))),
        others=tuple(sorted(others, key=lambda text: (_order(text, first), text))),
        by=tuple(plain[number][0] for number in sorted(numbers)),
    )


def _permit(rule: Rule) -> Actions | None:
    """The actions that an allow or approve may let through; None for a rule about other traffic."""
    actions = _actions(rule)
    if actions is not None:
        return actions
    for kind, calls in ((Sql, SQL), (Shell, SHELL)):
        if any(isinstance(each, kind) for each in rule.conditions):
            services = sorted({call.partition(":")[0] for call in calls})
            return Actions(Globs([f"{service}:*" for service in services], fold=True))
    return None if rule.names_hosts and not rule.speaks_of_aws else Actions()


def _actions(rule: Rule) -> Actions | None:
    return next((each for each in rule.conditions if isinstance(each, Actions)), None)


def _unpublished(actions: Actions) -> list[str]:
    """Patterns of a rule that match nothing that AWS publishes: they are said as they stand."""
    if actions.include is None:
        return []
    excluded = actions.exclude or (lambda _text: False)
    return [
        text
        for text in actions.include.texts
        if _IAM_ACTION.fullmatch(text) and not excluded(text) and not catalogue.matching(text)
    ]


def _patterns(wanted: Iterable[str], denied: Iterable[str]) -> list[str]:
    """The fewest starts of names that match every wanted action, and of the published ones none but denied ones."""
    found: list[str] = []
    denied_names = _by_service(denied)
    for service, names in _by_service(wanted).items():
        spared = set(catalogue.actions(service)) - {name.lower() for name in denied_names[service]}
        found += [f"{service}:{text}" for text in _starts("", names, spared)]
    return found


def _starts(start: str, names: Sequence[str], spared: set[str]) -> list[str]:
    """Patterns for the names that all begin with `start`, none of which matches a spared name (in lower case)."""
    if not spared:
        return [f"{start}*"] if len(names) > 1 or len(start) + 1 < len(names[0]) else list(names)
    at = len(start)
    found = [name for name in names if len(name) == at]
    branches: dict[str, list[str]] = {}
    for name in names:
        if len(name) > at:
            branches.setdefault(name[: at + 1].lower(), []).append(name)
    for prefix, branch in branches.items():
        found += _starts(branch[0][: at + 1], branch, {name for name in spared if name.startswith(prefix)})
    return found


def _by_service(actions: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for action in sorted(actions):
        service, _, name = action.partition(":")
        found.setdefault(service, []).append(name)
    return found


def _covered(pattern: str, patterns: Iterable[str]) -> bool:
    return any(pattern == other or (other.endswith("*") and pattern.startswith(other[:-1])) for other in patterns)


def _order(pattern: str, first: dict[str, int]) -> int:
    """The first rule that denies something of a pattern."""
    return min((first[name] for name in catalogue.matching(pattern) if name in first), default=0)
