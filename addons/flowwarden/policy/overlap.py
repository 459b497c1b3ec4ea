"""What rules can be proved to do to each other without a request: never match, or be swallowed by denies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from . import catalogue
from .conditions import Accounts, Actions, Agents, Groups, Hosts, Methods, Paths, Principals, Regions, Resources
from .facts import Condition
from .globs import Globs
from .rule import Rule
from .terms import together


@lru_cache(maxsize=4096)
def _named(globs: Globs) -> frozenset[str]:
    return frozenset(name for text in globs.texts for name in catalogue.matching(text))


@lru_cache(maxsize=1)
def _everything() -> frozenset[str]:
    return frozenset(catalogue.matching("*"))


@lru_cache(maxsize=4096)
def reach(condition: Actions, sure: bool) -> frozenset[str]:
    """The published actions that a condition matches: surely, or possibly."""
    names = _named(condition.include) if condition.include else _everything()
    if condition.exclude:
        names = names - _named(condition.exclude)
    if not condition.levels:
        return names
    hits = {name: condition.hit(catalogue.action(name)) for name in names}
    return frozenset(name for name, hit in hits.items() if (hit is True if sure else hit is not False))


def _actions(rule: Rule) -> Actions | None:
    return next((each for each in rule.conditions if isinstance(each, Actions)), None)


def never(rules: Iterable[Rule]) -> Iterator[tuple[Rule, str]]:
    """Rules that no published action can match, with the reason."""
    for rule in rules:
        actions = _actions(rule)
        if actions is None:
            continue
        names = reach(actions, rule.effect == "allow")
        if actions.include and not _named(actions.include):
            continue  # misspelt, which is said elsewhere
        if not names:
            yield rule, "it never matches: no action fulfils actions, not_actions and access_levels together"
            continue
        resources = next((each for each in rule.conditions if isinstance(each, Resources)), None)
        if resources and not resources.resources("*") and not any(catalogue.has_resources(name) for name in names):
            yield rule, "it never matches: none of its actions has resources, theirs is *"


def contested(rules: Sequence[Rule]) -> Iterator[tuple[Rule, str]]:
    """Approve rules that may match one call and name approvers that nobody can be: together they deny."""
    asking = [rule for rule in rules if rule.terms and (rule.terms.approver_groups or rule.terms.approver_principals)]
    for number, rule in enumerate(asking):
        for other in asking[:number]:
            terms = [each.terms for each in (rule, other) if each.terms]
            if together(terms) is None and _meet(rule, other):
                yield rule, f"it may ask together with {other.id!r}, and no approver is named by both: that denies"


def _meet(one: Rule, other: Rule) -> bool:
    """Whether two rules have groups and actions in common, as far as those keys tell."""
    groups = [each.groups for rule in (one, other) for each in rule.conditions if isinstance(each, Groups)]
    if len(groups) == 2 and groups[0].isdisjoint(groups[1]):
        return False
    actions = [found for rule in (one, other) if (found := _actions(rule)) is not None]
    return len(actions) < 2 or not reach(actions[0], False).isdisjoint(reach(actions[1], False))


def _covers(wide: Condition, narrow: Rule) -> bool:
    """Whether a deny's condition holds for every request that an allow matches."""
    for each in narrow.conditions:
        if each == wide:
            return True
        if isinstance(wide, Groups) and isinstance(each, Groups):
            return each.groups <= wide.groups
        if isinstance(wide, Methods) and isinstance(each, Methods):
            return each.methods <= wide.methods
        if isinstance(wide, Actions) and isinstance(each, Actions):
            return True  # told by reach
        if type(each) is type(wide) and (pair := _globs(wide, each)):
            return pair[0].covers(pair[1])
    return False


def _globs(wide: Condition, narrow: Condition) -> tuple[Globs, Globs] | None:
    for kind, name in ((Resources, "resources"), (Hosts, "hosts"), (Paths, "paths"), (Regions, "regions"),
                       (Accounts, "accounts"), (Agents, "agents"), (Principals, "subjects")):  # fmt: skip
        if isinstance(wide, kind) and isinstance(narrow, kind):
            return getattr(wide, name), getattr(narrow, name)
    return None


def swallowed(rules: Sequence[Rule]) -> Iterator[tuple[Rule, str]]:
    """Allows of which denies leave nothing, with the denies' ids."""
    denies = [rule for rule in rules if rule.effect == "deny"]
    for rule in rules:
        if rule.effect != "allow":
            continue
        if names := _swallowers(rule, denies):
            yield rule, f"it allows nothing: {', '.join(names)} denies all that it allows"


def _swallowers(rule: Rule, denies: Sequence[Rule]) -> list[str]:
    actions = _actions(rule)
    about_aws = actions is not None or not rule.names_hosts
    left = reach(actions, True) if actions else _everything()
    found: list[str] = []
    for deny in denies:
        if not about_aws and deny.speaks_of_aws:
            continue
        if not all(isinstance(each, Actions) or _covers(each, rule) for each in deny.conditions):
            continue
        wide = _actions(deny)
        if wide is None:
            return [deny.id]
        if about_aws and left & (reached := reach(wide, False)):
            left = left - reached
            found.append(deny.id)
            if not left:
                return found
    return []
