"""Which rules can matter for a call at all: found once per operation, groups and named host, then remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..types import Call, Effect, Principal, Request
from .conditions import Actions, Groups
from .facts import Condition, Facts, judge
from .globs import is_exact
from .pivot import Pivot
from .rule import Rule
from .shell import Shell
from .sql import Sql
from .statements import SHELL, SQL

Standing = Literal["strict", "loose", "no"]

AWS_SUFFIXES = (
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".api.aws",
    ".on.aws",
    ".api.amazonwebservices.com.cn",
    ".c2s.ic.gov",
    ".sc2s.sgov.gov",
    ".cloud.adc-e.uk",
    ".csp.hci.ic.gov",
)
"""Below these lie AWS's own APIs, and names that anyone can own (execute-api, Lambda URLs)."""

_REMEMBERED = 16_384  # operations times sets of groups times named hosts: all few
_MANY = 24  # so many candidates are worth an index of their own
_NOTHING = Request("", "", "", 0, "")


def eligible(rule: Rule, call: Call, host: str) -> Standing:
    """Whether a rule may speak about this kind of traffic.

    A recognised AWS call: every rule, but an allow that names hosts by wildcard and nothing of AWS is about other
    traffic. An AWS call that is not recognised: rules that name its host exactly. Other traffic: rules with hosts (named
    exactly below AWS's own names). A deny or approve with no condition that speaks of AWS (all of a group's traffic, say)
    is loose elsewhere: it can only make the answer stricter.
    """
    if call.aws and call.operation is not None:
        about_others = rule.effect == "allow" and rule.names_hosts and not rule.speaks_of_aws
        return "no" if about_others and host not in rule.exact_hosts else "strict"
    if host in rule.exact_hosts:
        return "strict"
    if not call.aws and rule.names_hosts and (rule.effect == "deny" or not host.endswith(AWS_SUFFIXES)):
        return "strict"
    return "loose" if rule.effect != "allow" and not rule.speaks_of_aws else "no"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule that may match, and the conditions that are still open."""

    rule: Rule
    open: tuple[Condition, ...]
    loose: bool

    def matches(self, facts: Facts, sure: bool) -> bool:
        for condition in self.open:  # noqa: SIM110 (half the cost of all() here)
            if not judge(condition.hits(facts), sure):
                return False
        return True


class Row:
    """The candidates of one effect for calls of one kind."""

    __slots__ = ("_pivot", "candidates")

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = tuple(candidates)
        pivot = Pivot([each.open for each in candidates]) if len(candidates) > _MANY else None
        self._pivot = pivot if pivot and pivot.worthwhile() else None

    def matching(self, facts: Facts, sure: bool = False, loose: bool = True) -> tuple[Rule, ...]:
        """The rules that match, loose ones only if asked for."""
        rows = self.candidates
        if self._pivot is not None:
            rows = tuple(rows[number] for number in self._pivot.find(facts))
        return tuple([each.rule for each in rows if (loose or not each.loose) and each.matches(facts, sure)])


@dataclass(frozen=True, slots=True)
class Candidates:
    """The rules that may match calls of one kind, by effect."""

    deny: Row
    approve: Row
    allow: Row

    def rules(self) -> Iterator[Rule]:
        return (each.rule for row in (self.deny, self.approve, self.allow) for each in row.candidates)


class Index:
    """Finds candidates: by action name and service first, then by groups, both known before the rest of a request."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._split = [_split(rule) for rule in rules]
        self._rows: dict[tuple[int, ...], Row] = {}
        self._named: dict[str, list[int]] = {}  # exact action name -> rules
        self._services: dict[str, list[int]] = {}  # service prefix -> rules with a glob below it
        self._any: list[int] = []  # rules that no action name leads to
        self._hosts: frozenset[str] = frozenset[str]().union(*(rule.exact_hosts for rule in rules))
        self._known: dict[object, Candidates] = {}
        for number, rule in enumerate(rules):
            self._file(number, rule)

    def _file(self, number: int, rule: Rule) -> None:
        actions = next((each for each in rule.conditions if isinstance(each, Actions)), None)
        if actions is None or actions.include is None:
            self._any.append(number)
            return
        for text in {text.lower() for text in actions.include.texts}:
            service = text.partition(":")[0]
            if is_exact(text):
                self._named.setdefault(text, []).append(number)
            elif ":" in text and is_exact(service):
                self._services.setdefault(service, []).append(number)
            else:
                self._any.append(number)

    def candidates(self, call: Call, principal: Principal | None, host: str) -> Candidates:
        """What may match a call; remembered by what the answer depends on."""
        groups = principal.groups if principal else None
        # Of the host only this matters here: which one it is if a rule names it, and whether it is one of AWS's.
        where = host if host in self._hosts else call.aws or host.endswith(AWS_SUFFIXES)
        key = (call.aws, call.operation, call.actions, groups, where)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[key] = self._find(call, principal, host)
        return found

    def _numbers(self, call: Call) -> list[int]:
        if call.operation is None or not call.actions:
            return list(range(len(self._split)))
        found = set(self._any)
        for action in call.actions:
            name = action.name.lower()
            found.update(self._named.get(name, ()), self._services.get(name.partition(":")[0], ()))
        return sorted(found)

    def _find(self, call: Call, principal: Principal | None, host: str) -> Candidates:
        facts = Facts(principal, call, _NOTHING)
        found: dict[Effect, list[Candidate]] = {"deny": [], "approve": [], "allow": []}
        for number in self._numbers(call):
            rule, settled, strict, loose = self._split[number]
            standing = eligible(rule, call, host)
            if standing == "no" or not _carried(rule, call):
                continue
            if all(judge(each.hits(facts), rule.effect == "allow") for each in settled):
                found[rule.effect].append(strict if standing == "strict" else loose)
        return Candidates(self._row(found["deny"]), self._row(found["approve"]), self._row(found["allow"]))

    def _row(self, candidates: list[Candidate]) -> Row:
        """A row for these candidates: one for all the calls that have the same."""
        key = tuple(map(id, candidates))  # candidates live as long as the index
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= _REMEMBERED:
                self._rows.clear()
            row = self._rows[key] = Row(candidates)
        return row


def _carried(rule: Rule, call: Call) -> bool:
    """Whether a call of this kind carries what a rule reads at all: calls without SQL have no statement to match."""
    name = str(call.operation)
    return not any(
        (isinstance(each, Sql) and name not in SQL) or (isinstance(each, Shell) and name not in SHELL)
        for each in rule.conditions
    )


def _split(rule: Rule) -> tuple[Rule, tuple[Condition, ...], Candidate, Candidate]:
    """A rule, its conditions that a kind of call settles, and itself with the open ones: strict and loose."""
    settled = tuple(each for each in rule.conditions if isinstance(each, Actions | Groups))
    rest = tuple(each for each in rule.conditions if not isinstance(each, Actions | Groups))
    return rule, settled, Candidate(rule, rest, False), Candidate(rule, rest, True)
