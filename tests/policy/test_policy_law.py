"""The law, for every condition: deny and approve match if any value does or may, allow only if all are known to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policykit import request, rules

from flowwarden.policy.rule import KEYS
from flowwarden.policy.ruleset import RuleSet
from flowwarden.types import Action, Call, Operation, Principal, Request

YES, NO, DOUBT = "yes", "no", "doubt"
WRITE = frozenset({"Write"})


@dataclass(frozen=True)
class Input:
    """What a rule set decides on, to be changed by a condition's way of showing values."""

    who: Principal | None
    call: Call
    asked: Request
    now: datetime | None


BASE = Input(
    Principal("https://idp", "me", agent="bot", groups=frozenset({"g"})),
    Call(True, Operation("rds-data", "ExecuteStatement"), region="eu-west-1", account="1" * 12, params={},
         actions=(Action("rds-data:ExecuteStatement", WRITE),), resources=("*",)),
    request("rds-data.eu-west-1.amazonaws.com"),
    datetime(2026, 11, 20, 12, 0, tzinfo=UTC),  # a Friday
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """How a condition is written, and how a request shows it values that match, do not match, or are not known."""

    yaml: str
    show: Callable[[list[str]], Input]
    many: bool = True  # the request can have several values
    none: str = NO  # what no value at all counts as
    doubt: bool = True  # a value can be unknown


def _call(**changes: Any) -> Input:
    return replace(BASE, call=replace(BASE.call, **changes))


def _actions(values: list[str]) -> Input:
    names = {YES: Action("s3:GetObject", WRITE), NO: Action("s3:PutObject", WRITE)}
    return _call(actions=tuple(names[value] for value in values))


def _not_actions(values: list[str]) -> Input:
    names = {NO: Action("s3:GetObject", WRITE), YES: Action("s3:PutObject", WRITE)}
    return _call(actions=tuple(names[value] for value in values))


def _levels(values: list[str]) -> Input:
    levels = {YES: {"Read"}, NO: {"Write"}, DOUBT: set()}
    return _call(actions=tuple(Action(f"s3:A{n}", frozenset(levels[value])) for n, value in enumerate(values)))


def _composite(values: list[str]) -> Input:
    levels = {YES: {"Read"}, NO: {"Write"}, DOUBT: {"Read", "Write"}}
    return _call(actions=tuple(Action(f"s3:A{n}", frozenset(levels[value])) for n, value in enumerate(values)))


def _resources(values: list[str]) -> Input:
    return _call(resources=tuple({YES: "arn:aws:s3:::a/x", NO: "arn:aws:s3:::b/x", DOUBT: None}[v] for v in values))


def _params(values: list[str]) -> Input:
    if DOUBT in values:
        return _call(params=None)
    return _call(params={"Names": [{"Id": {YES: "good", NO: "bad"}[value]} for value in values]})


def _numbers(values: list[str]) -> Input:
    return _call(params={"Count": [{YES: 11, NO: 10, DOUBT: "many"}[value] for value in values]})


def _sql(values: list[str]) -> Input:
    texts = {YES: "SELECT a FROM t", NO: "INSERT INTO t VALUES (1)", DOUBT: "VACUUM"}
    return _call(params={"sql": ";".join(texts[value] for value in values)})


def _shell(values: list[str]) -> Input:
    texts = {YES: "ls -l", NO: "id", DOUBT: "$X"}
    params = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": [texts[value] for value in values]}}
    return _call(operation=Operation("ssm", "SendCommand"), params=params)


def _methods(values: list[str]) -> Input:
    names = {YES: "GET", NO: "DELETE"}
    headers = tuple((b"X-HTTP-Method-Override", names[value].encode()) for value in values[1:])
    return replace(BASE, asked=Request(names[values[0]], "https", "h", 443, "/", headers))


def _paths(values: list[str]) -> Input:
    target = {
        (YES,): "/ok/a", (NO,): "/no", (DOUBT,): "/ok/%00",
        (YES, NO): "/ok/%2e%2e/no", (NO, YES): "/ok/..;/no", (YES, DOUBT): "/ok/%zz",
    }.get(tuple(values[:2]), "/ok/" + "%25" * 9 + "2e")  # fmt: skip
    if target.startswith("/ok/%25"):
        values[:] = [YES, DOUBT]
    return replace(BASE, asked=request(target=target))


def _who(**changes: Any) -> Callable[[list[str]], Input]:
    def show(values: list[str]) -> Input:
        if values[0] == DOUBT and "agent" not in changes:
            return replace(BASE, who=None)
        name, table = next(iter(changes.items()))
        return replace(BASE, who=replace(BASE.who, **{name: table[values[0]]}))  # type: ignore[type-var]

    return show


def _accounts(values: list[str]) -> Input:
    own = {YES: "1" * 12, NO: "2" * 12, DOUBT: ""}[values[0]]
    arns = {YES: f"arn:aws:sqs:x:{'1' * 12}:q", NO: f"arn:aws:sqs:x:{'2' * 12}:q", DOUBT: None}
    return _call(account=own, resources=tuple(arns[value] for value in values[1:]) or ("*",))


CASES = {
    "groups": Case("groups: [a, b]", _who(groups={YES: frozenset({"b", "z"}), NO: frozenset({"z"})}), many=False),
    "principals": Case("principals: ['bot-*']", _who(subject={YES: "bot-1", NO: "me"}), many=False),
    "qualified": Case("principals: ['https://idp#bot-*']", _who(subject={YES: "bot-1", NO: "https://idp#bot-1"}), many=False),
    "agents": Case("agents: [codex]", _who(agent={YES: "codex", NO: "other", DOUBT: ""}), many=False),
    "actions": Case("actions: ['S3:get*']", _actions, none=DOUBT, doubt=False),
    "not_actions": Case("not_actions: ['s3:Get*']", _not_actions, none=DOUBT, doubt=False),
    "access_levels": Case("access_levels: [Read, List]", _levels, none=DOUBT),
    "composite": Case("access_levels: [Read]", _composite, none=DOUBT),
    "resources": Case("resources: ['arn:aws:s3:::a/*']", _resources, none=DOUBT),
    "regions": Case("regions: [eu-*]", lambda v: _call(region={YES: "eu-west-1", NO: "us-east-1", DOUBT: ""}[v[0]]), many=False),
    "accounts": Case("accounts: ['111*']", _accounts),
    "params": Case("params: {Names.Id: [good, fine]}", _params),
    "numbers": Case("params: {Count: ['>10']}", _numbers),
    "hosts": Case("hosts: ['a.*']", lambda v: replace(BASE, asked=request({YES: "a.x", NO: "b.x", DOUBT: ""}[v[0]])), many=False),
    "methods": Case("methods: [GET]", _methods, doubt=False),
    "paths": Case("paths: ['/ok/*']", _paths),
    "time": Case(
        "time: {days: [fri], hours: '08:00-18:00'}",
        lambda v: replace(BASE, now={YES: BASE.now, NO: datetime(2026, 11, 21, 12, tzinfo=UTC), DOUBT: None}[v[0]]),
        many=False,
    ),
    "sql": Case("sql: [SELECT]", _sql, none=DOUBT),
    "shell": Case("shell: [ls]", _shell, none=DOUBT),
}  # fmt: skip


def _set(yaml: str) -> RuleSet:
    # The AWS condition beside it lets hosts and the like be judged for a recognised call.
    return rules("rules:\n" + "".join(f"  - {{id: {e}, effect: {e}, {yaml}}}\n" for e in ("allow", "approve", "deny")))


_SETS = {name: _set(case.yaml) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_law_holds_for(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    value = st.sampled_from([YES, NO, DOUBT] if case.doubt else [YES, NO])
    least = 0 if case.none == DOUBT and name not in ("sql", "shell") else 1
    values = data.draw(st.lists(value, min_size=least, max_size=4 if case.many else 1))
    shown = case.show(values)
    matched = {
        each.rule.id for each in _SETS[name].explain(shown.who, shown.call, shown.asked, shown.now) if each.matched
    }
    may = any(each != NO for each in values) or (not values and case.none == DOUBT)
    surely = bool(values) and all(each == YES for each in values)
    expected = ({"deny", "approve"} if may else set()) | ({"allow"} if surely else set())
    if name == "hosts":  # an allow of hosts by wildcard is not about AWS calls
        expected -= {"allow"}
    assert matched == expected
    decided = _SETS[name].decide(shown.who, shown.call, shown.asked, shown.now)
    assert decided.effect == "deny" and decided.rules == (("deny",) if may else ("default",))


def test_every_condition_of_the_language_has_a_case() -> None:
    conditions = set(KEYS[2 : KEYS.index("reason")])
    assert conditions <= {case.yaml.partition(":")[0] for case in CASES.values()}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(sorted(CASES)), min_size=1, max_size=4, unique=True), st.data())
def test_explain_and_decide_agree_and_more_conditions_never_match_more(names: list[str], data: st.DataObject) -> None:
    keys: dict[str, str] = {}
    for name in names:
        keys.setdefault(CASES[name].yaml.partition(":")[0], CASES[name].yaml)
    effect = data.draw(st.sampled_from(["allow", "approve", "deny"]))
    shown = CASES[names[0]].show([data.draw(st.sampled_from([YES, NO]))])
    wide = rules(f"rules:\n  - {{id: r, effect: {effect}, {next(iter(keys.values()))}}}")
    narrow = rules(f"rules:\n  - {{id: r, effect: {effect}, {', '.join(keys.values())}}}")
    got = []
    for found in (wide, narrow):
        explained = found.explain(shown.who, shown.call, shown.asked, shown.now)[0].matched
        decided = found.decide(shown.who, shown.call, shown.asked, shown.now)
        assert (decided.rules == ("r",)) is explained
        got.append(explained)
    # Hosts by wildcard are the one condition that an allow takes for other traffic unless it also speaks of AWS.
    assert got[0] or not got[1] or "hosts" in keys
