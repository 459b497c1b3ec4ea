"""Parameters, paths, methods and time windows, each in the corners that its page of the world has."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policykit import DEVELOPER, call, request, rules

from flowwarden.policy.params import Param
from flowwarden.policy.paths import forms, methods
from flowwarden.policy.ruleset import RuleSet
from flowwarden.policy.window import Window, parse_days, parse_hours
from flowwarden.types import Call


def both(condition: str) -> RuleSet:
    return rules(f"rules:\n  - {{id: d, effect: deny, {condition}}}\n  - {{id: a, effect: allow, {condition}}}")


def hits(found: RuleSet, **more: Any) -> tuple[bool, bool]:
    """Whether a deny and whether an allow with the same condition match."""
    matches = {each.rule.id: each.matched for each in found.explain(DEVELOPER, call("s3:PutObject", **more), request())}
    return matches["d"], matches["a"]


POLICY = json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*"}, {"Effect": "Deny"}]})
BOTH, NEITHER, DENY_ONLY = (True, True), (False, False), (True, False)


@pytest.mark.parametrize(
    ("condition", "params", "expected"),
    [
        ("{A: [x]}", {"A": "x"}, BOTH),
        ("{A: [x]}", {"A": "y"}, NEITHER),
        ("{A: [x]}", {"A": ["x", "y"]}, DENY_ONLY),
        ("{A: [x]}", {}, NEITHER),
        ("{A: [x]}", {"A": []}, NEITHER),
        ("{A: [x]}", {"A": None}, NEITHER),
        ("{A: [x, null]}", {}, BOTH),
        ("{A: [null]}", {"A": "x"}, NEITHER),
        ("{A: [false]}", {}, DENY_ONLY),
        ("{A: [true]}", {}, NEITHER),
        ("{A: [false]}", {"A": False}, BOTH),
        ("{A: [false]}", {"A": "false"}, BOTH),
        ("{A: [false]}", {"A": True}, NEITHER),
        ("{A: [5]}", {"A": 5}, BOTH),
        ("{A: [5]}", {"A": "5"}, BOTH),
        ("{A: [5]}", {"A": 5.0}, BOTH),
        ("{A: ['>10']}", {"A": 11}, BOTH),
        ("{A: ['>10']}", {"A": 10}, NEITHER),
        ("{A: ['>=10']}", {"A": "10"}, BOTH),
        ("{A: ['< 2.5']}", {"A": 2.25}, BOTH),
        ("{A: ['<=-1']}", {"A": -1}, BOTH),
        ("{A: ['>10']}", {"A": "many"}, DENY_ONLY),
        ("{A: ['>10']}", {"A": float("nan")}, DENY_ONLY),
        ("{A: ['>10']}", {"A": True}, DENY_ONLY),
        ("{A: ['x*']}", {"A": b"xyz"}, BOTH),
        ("{A: ['x*']}", {"A": b"\xff"}, DENY_ONLY),
        ("{A.B: [x]}", {"A": {"B": "x"}}, BOTH),
        ("{A.B: [x]}", {"A": [{"B": "x"}, {"C": "y"}]}, BOTH),
        ("{A.B: [x]}", {"A": [{"B": "x"}, {"B": "y"}]}, DENY_ONLY),
        ("{A.B: [x]}", {"A": "plain"}, DENY_ONLY),
        ("{A: [x]}", {"A": {"B": "x", "C": "x"}}, BOTH),
        ("{'A.*.C': [x]}", {"A": {"B": {"C": "x"}, "D": {"C": "x"}}}, BOTH),
        ("{Policy.Statement.Effect: [Allow]}", {"Policy": POLICY}, DENY_ONLY),
        ("{Policy.Statement.Principal: ['*']}", {"Policy": POLICY}, BOTH),
        ("{Policy.Statement.Effect: [Allow]}", {"Policy": "{broken"}, DENY_ONLY),
        ("{Policy.E: [x]}", {"Policy": '{"E": "y", "E": "x"}'}, DENY_ONLY),
        ("{A: [x]}", None, DENY_ONLY),
        ("{A: [x], B: [y]}", {"A": "x", "B": "z"}, NEITHER),
        ("{A: [x], B: [y]}", {"A": "x", "B": "y"}, BOTH),
    ],
)
def test_parameters(condition: str, params: Any, expected: tuple[bool, bool]) -> None:
    assert hits(both(f"params: {condition}"), params=params) == expected


_LEAF = (
    st.none() | st.booleans() | st.integers() | st.just(4000).map(lambda n: 10**n) | st.floats() | st.text(max_size=6) | st.binary(max_size=4)
    | st.datetimes() | st.just("[" * 5000) | st.just('{"A": ' * 3000)
)  # fmt: skip
_TREE = st.recursive(
    _LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("AB*"), inner, max_size=3)
)
_ODD = both("params: {A.B: ['>1', x, null], 'A.*.B': [false], B: ['*']}")


@given(_TREE)
def test_no_parameter_makes_deciding_fail(tree: Any) -> None:
    deny, allow = hits(_ODD, params={"A": tree, "B": tree})
    assert deny or not allow
    deep: Any = tree
    for _ in range(2000):
        deep = [deep]
    assert Param.of("A.B", ["x"]).hits(_facts({"A": deep}))


def test_an_integer_too_large_to_be_written_out_is_not_known() -> None:
    assert hits(both("params: {A: ['x*']}"), params={"A": 10**6000}) == DENY_ONLY


def _facts(params: Any) -> Any:
    from flowwarden.policy.facts import Facts

    return Facts(None, Call(True, params=params), request())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/simple/x", {"/simple/x"}),
        ("/a%2fb", {"/a%2fb", "/a/b"}),
        ("/a/%2e%2e/b", {"/a/%2e%2e/b", "/a/../b", "/b"}),
        ("/a/%252e%252e/b", {"/a/%252e%252e/b", "/a/%2e%2e/b", "/a/../b", "/b"}),
        ("//a", {"//a", "/a"}),
        ("/a/..;/b", {"/a/..;/b", "/b"}),
        ("/a;x=1/b", {"/a;x=1/b", "/a/b"}),
        ("/a\\..\\b", {"/a\\..\\b", "/b"}),
        ("/a/./b/", {"/a/./b/", "/a/b/"}),
        ("/%00", {"/%00", "/\x00", None}),
        ("/%zz", {"/%zz", None}),
        ("/%ff", {"/%ff", "/\udcff", None}),
        ("*", {"*", "/*", None}),
    ],
)
def test_a_path_is_read_in_every_form(path: str, expected: set[str | None]) -> None:
    found = set(forms(path))
    assert expected <= found and (None in found) == (None in expected)


def test_endless_encoding_is_not_known() -> None:
    assert None in forms("/" + "%25" * 20 + "2e")


@pytest.mark.parametrize("target", ["/simple/../secret", "/simple/%2e%2e/secret", "/simple/..%2fsecret", "/simple/..;/secret",
                                    "/simple/..\\secret", "/simple/%252e%252e/secret", "/simple/%00", "//evil/simple/x"])  # fmt: skip
def test_no_spelling_of_a_path_leaves_an_allowed_folder(target: str) -> None:
    found = rules("rules:\n  - {id: a, effect: allow, hosts: [h.example.com], paths: ['/simple/*']}")
    assert found.decide(None, Call(aws=False), request("h.example.com", "GET", target), None).effect == "deny"
    assert (
        found.decide(None, Call(aws=False), request("h.example.com", "GET", "/simple/x?a=/.."), None).effect == "allow"
    )


def test_an_override_header_counts_as_a_method_too() -> None:
    assert methods(request(method="GET", X_HTTP_Method_Override="delete")) == {"GET", "DELETE"}
    found = rules("rules:\n  - {id: a, effect: allow, hosts: [h], methods: [GET]}")
    assert found.decide(None, Call(aws=False), request("h", "GET", X_HTTP_Method="DELETE"), None).effect == "deny"
    assert found.decide(None, Call(aws=False), request("h", "get"), None).effect == "deny"


def _window(days: list[str], hours: list[str], zone: str = "UTC") -> Window:
    return Window(parse_days(days), tuple(parse_hours(each) for each in hours), ZoneInfo(zone))


def _covers(window: Window, text: str) -> bool:
    from flowwarden.policy.facts import Facts

    return list(window.hits(Facts(None, Call(True), request(), datetime.fromisoformat(text)))) == [True]


def test_a_window_that_crosses_midnight_belongs_to_the_day_it_starts_on() -> None:
    night = _window(["fri"], ["22:00-06:00"])  # 2026-11-20 is a Friday
    for text, inside in (
        ("2026-11-20T21:59:59Z", False),
        ("2026-11-20T22:00:00Z", True),
        ("2026-11-21T05:59:59Z", True),
        ("2026-11-21T06:00:00Z", False),
        ("2026-11-21T23:00:00Z", False),
        ("2026-11-20T01:00:00Z", False),
    ):
        assert _covers(night, text) is inside, text


def test_days_may_wrap_the_week_and_whole_days_end_at_24() -> None:
    assert parse_days(["fri-mon"]) == {4, 5, 6, 0}
    whole = _window(["sun-mon"], ["00:00-24:00"])
    assert _covers(whole, "2026-11-22T23:59:59Z") and _covers(whole, "2026-11-23T00:00:00Z")
    assert not _covers(whole, "2026-11-24T00:00:00Z")


def test_hours_are_those_of_the_zone_in_summer_and_in_winter() -> None:
    work = _window(["mon-fri"], ["08:00-18:00"], "Europe/Berlin")
    assert _covers(work, "2026-07-01T06:00:00Z") and not _covers(work, "2026-07-01T16:00:00Z")
    assert not _covers(work, "2026-12-01T06:00:00Z") and _covers(work, "2026-12-01T16:59:00Z")


@given(
    st.sets(st.sampled_from(["mon", "tue", "sat"]), min_size=1),
    st.integers(0, 1439),
    st.integers(0, 1439),
    st.integers(0, 10_080),
)
def test_a_window_is_the_minutes_from_its_starts_to_its_ends(days: set[str], start: int, end: int, minute: int) -> None:
    """Against a plain list of every minute of the week."""
    if start == end:
        return
    text = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
    length = (end - start) % 1440
    covered = {(day * 1440 + start + step) % 10_080 for day in parse_days(days) for step in range(length)}
    at = datetime(2026, 11, 16, tzinfo=UTC) + timedelta(minutes=minute % 10_080)  # a Monday
    assert _covers(_window(sorted(days), [text]), at.isoformat()) is (minute % 10_080 in covered)


def test_a_time_without_a_zone_is_not_known() -> None:
    found = both("time: {days: [mon-sun]}")
    naive = datetime(2026, 11, 20, 12)  # noqa: DTZ001
    matched = [each.rule.id for each in found.explain(None, call("s3:X"), request(), naive) if each.matched]
    assert matched == ["d"]


def test_a_secret_named_without_its_suffix_may_be_the_one_that_a_rule_names():
    """Secrets Manager adds six characters to a name: a deny of the full ARN holds for the bare name, an allow does not."""
    from flowwarden.policy.conditions import Resources
    from flowwarden.policy.facts import Facts
    from flowwarden.policy.globs import Globs
    from flowwarden.types import Call, Request

    start = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod"
    facts = Facts(None, Call(aws=True, resources=(f"{start}-??????",)), Request("POST", "https", "h", 443, "/"), None)
    assert list(Resources(Globs([f"{start}-AbCdEf"])).hits(facts)) == [None]
    assert list(Resources(Globs([f"{start}-*"])).hits(facts)) == [True]
    assert list(Resources(Globs([f"{start}uction-AbCdEf"])).hits(facts)) == [False]
