"""The rule set as a whole: precedence, what unrecognised traffic may match, flags, terms, digest, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from policykit import DEVELOPER, call, request, rules

from flowwarden.errors import RuleError
from flowwarden.policy.ruleset import load
from flowwarden.types import Call

NOW = None


def effect(text: str, what: Call, asked=None, who=DEVELOPER) -> str:
    return rules(text).decide(who, what, asked or request(), NOW).effect


def test_deny_beats_approve_beats_allow_in_any_order() -> None:
    parts = {
        "allow": "  - {id: a, effect: allow, actions: ['ec2:*']}\n",
        "approve": "  - {id: b, effect: approve, actions: ['ec2:*'], approvers: {groups: [sre]}}\n",
        "deny": "  - {id: c, effect: deny, actions: ['ec2:*'], reason: Not here.}\n",
    }
    for order in (["allow", "approve", "deny"], ["deny", "approve", "allow"], ["approve", "deny", "allow"]):
        text = "rules:\n" + "".join(parts[key] for key in order)
        decision = rules(text).decide(DEVELOPER, call("ec2:X"), request(), NOW)
        assert (decision.effect, decision.rules, decision.reason) == ("deny", ("c",), "Not here.")
        assert effect(text.replace(parts["deny"], ""), call("ec2:X")) == "approve"


def test_what_no_rule_matches_is_denied_by_default_with_the_action_named() -> None:
    decision = rules("rules: []").decide(DEVELOPER, call("ec2:RunInstances"), request(), NOW)
    assert (decision.effect, decision.rules) == ("deny", ("default",))
    assert "ec2:RunInstances" in decision.reason


def test_a_deny_without_conditions_matches_everything() -> None:
    text = "rules:\n  - {id: stop, effect: deny}\n  - {id: x, effect: allow, hosts: [example.com]}\n"
    for what in (call("s3:GetObject"), Call(aws=True), Call(aws=False)):
        assert rules(text).decide(None, what, request("example.com"), NOW).rules == ("stop",)


def test_an_unrecognised_operation_matches_only_rules_that_name_its_host_exactly() -> None:
    host = "new.eu-west-1.amazonaws.com"
    asked = request(host)
    assert effect("rules:\n  - {id: a, effect: allow}", Call(aws=True), asked) == "deny"
    assert effect("rules:\n  - {id: a, effect: allow, hosts: ['*.amazonaws.com']}", Call(aws=True), asked) == "deny"
    assert effect("rules:\n  - {id: a, effect: approve, hosts: ['*']}", Call(aws=True), asked) == "deny"
    assert effect("rules:\n  - {id: a, effect: allow, actions: ['*']}", Call(aws=True), asked) == "deny"
    assert effect("default: allow\nrules: []", Call(aws=True), asked) == "deny"
    exact = f"rules:\n  - {{id: a, effect: allow, hosts: [{host}]}}\n"
    assert effect(exact, Call(aws=True), asked) == "allow"
    assert effect(exact + "  - {id: b, effect: deny, hosts: ['*.amazonaws.com']}", Call(aws=True), asked) == "deny"
    assert effect(exact.replace("hosts:", "actions: ['*'], hosts:"), Call(aws=True), asked) == "deny"


def test_other_traffic_needs_a_rule_with_hosts() -> None:
    asked = request("example.com", "GET")
    assert effect("rules:\n  - {id: a, effect: allow}", Call(aws=False), asked) == "deny"
    assert effect("rules:\n  - {id: a, effect: allow, groups: [developers]}", Call(aws=False), asked) == "deny"
    assert effect("rules:\n  - {id: a, effect: allow, methods: [GET]}", Call(aws=False), asked) == "deny"
    assert effect("default: allow\nrules: []", Call(aws=False), asked) == "deny"
    assert effect("rules:\n  - {id: a, effect: allow, hosts: ['*.com']}", Call(aws=False), asked) == "allow"
    assert effect("rules:\n  - {id: a, effect: approve, groups: [developers]}", Call(aws=False), asked) == "deny"


def test_a_group_wide_approve_makes_an_allowed_host_stricter_and_opens_nothing() -> None:
    text = (
        "rules:\n  - {id: a, effect: allow, hosts: [example.com]}\n"
        "  - {id: b, effect: approve, groups: [developers], approvers: {groups: [sre]}}"
    )
    assert effect(text, Call(aws=False), request("example.com")) == "approve"
    assert effect(text, Call(aws=False), request("other.com")) == "deny"
    asking = text.replace("effect: allow", "effect: approve")
    decision = rules(asking).decide(DEVELOPER, Call(aws=False), request("example.com"), NOW)
    assert decision.effect == "approve" and decision.rules == ("a", "b"), (
        "its terms count beside an approve of the host"
    )


def test_an_allow_of_hosts_by_wildcard_lets_no_aws_call_pass() -> None:
    asked = request("iam.amazonaws.com")
    assert effect("rules:\n  - {id: a, effect: allow, hosts: ['*']}", call("iam:CreateUser"), asked) == "deny"
    named = "rules:\n  - {id: a, effect: allow, hosts: ['*.amazonaws.com'], actions: ['iam:*']}"
    assert effect(named, call("iam:CreateUser"), asked) == "allow"


def test_names_that_anyone_can_own_below_aws_have_to_be_named_exactly() -> None:
    asked = request("abc.execute-api.eu-west-1.amazonaws.com")
    assert effect("rules:\n  - {id: a, effect: allow, hosts: ['*.amazonaws.com']}", Call(aws=False), asked) == "deny"
    decision = rules(f"rules:\n  - {{id: a, effect: allow, hosts: [{asked.host}]}}").decide(
        DEVELOPER, Call(aws=False), asked, NOW
    )
    assert (decision.effect, decision.sign) == ("allow", True)


@pytest.mark.parametrize(("flag", "signed"), [("", False), (", sign: true", True), (", sign: false", False)])
def test_a_host_that_is_not_aws_is_signed_only_if_the_rule_says_so(flag: str, signed: bool) -> None:
    found = rules(f"rules:\n  - {{id: a, effect: allow, hosts: [api.example.com]{flag}}}")
    assert found.decide(DEVELOPER, Call(aws=False), request("api.example.com"), NOW).sign is signed
    assert found.hosts_exact() == {"api.example.com"}


def test_flags_of_the_rules_that_allow_are_carried_and_the_outright_strict_one_wins() -> None:
    text = (
        "rules:\n  - {id: a, effect: allow, actions: ['s3:*']}\n"
        "  - {id: b, effect: allow, actions: ['s3:Get*'], mask: off, record: metadata, unsigned: true, websocket: true,"
        " anchor: true, opaque: allow}\n  - {id: c, effect: allow, groups: [strict], mask: on, record: full, opaque: deny}\n"
    )
    found = rules(text).decide(DEVELOPER, call("s3:GetObject"), request(), NOW)
    assert found.rules == ("a", "b")
    assert (found.mask, found.record, found.unsigned, found.websocket) == (False, "metadata", True, True)
    assert (found.anchor, found.opaque) == (True, "allow")
    strict = rules(text.replace("strict", "developers")).decide(DEVELOPER, call("s3:GetObject"), request(), NOW)
    assert (strict.mask, strict.record, strict.opaque) == (True, "full", "deny")


def test_an_approve_rule_that_matched_in_doubt_relaxes_nothing() -> None:
    text = "rules:\n  - {id: a, effect: approve, resources: ['arn:x'], mask: off, record: metadata}"
    doubt = rules(text).decide(DEVELOPER, call("s3:GetObject", resources=(None,)), request(), NOW)
    sure = rules(text).decide(DEVELOPER, call("s3:GetObject", resources=("arn:x",)), request(), NOW)
    assert (doubt.effect, doubt.mask, doubt.record) == ("approve", True, "full")
    assert (sure.effect, sure.mask, sure.record) == ("approve", False, "metadata")


def test_terms_of_several_approve_rules_are_as_strict_as_all_of_them() -> None:
    text = """
        rules:
          - {id: a, effect: approve, approvers: {groups: [sre, leads], count: 1}, scope: session, for: 30m, expires: 5m}
          - {id: b, effect: approve, approvers: {groups: [sre], count: 2, reason: required}, hold: 10s, on_timeout: allow}
    """
    found = rules(text)
    terms = found.decide(DEVELOPER, call("s3:GetObject"), request(), NOW).terms
    assert terms is not None
    assert (terms.approver_groups, terms.count, terms.scope, terms.lasts) == ({"sre"}, 2, "request", 0.0)
    assert (terms.hold, terms.expires, terms.on_timeout, terms.reason_required) == (25.0, 300.0, "deny", True)
    assert any("on_timeout" in alarm and "'b'" in alarm for alarm in found.alarms)


def test_rules_that_ask_for_approvers_nobody_can_be_deny() -> None:
    text = """
        rules:
          - {id: a, effect: approve, approvers: {groups: [sre]}}
          - {id: b, effect: approve, approvers: {groups: [security]}}
    """
    decision = rules(text).decide(DEVELOPER, call("s3:GetObject"), request(), NOW)
    assert (decision.effect, decision.rules) == ("deny", ("a", "b"))


def test_the_digest_follows_the_meaning_and_not_the_comments() -> None:
    one = rules("rules:\n  - {id: a, effect: deny, actions: ['iam:*']}").digest
    same = rules("# a comment\nrules:\n  - id: a\n    effect: deny\n    actions: ['iam:*']\ntests: []").digest
    other = rules("rules:\n  - {id: a, effect: deny, actions: ['iam:x']}").digest
    assert one == same != other and len(one) == 64


def test_needs_body_only_where_a_rule_that_may_apply_looks_inside() -> None:
    found = rules("rules:\n  - {id: a, effect: deny, actions: ['s3:*'], params: {ACL: [x]}}")
    assert found.needs_body(call("s3:PutObject"), DEVELOPER)
    assert not found.needs_body(call("ec2:RunInstances"), DEVELOPER)


def test_explain_says_which_conditions_held_failed_or_were_not_known() -> None:
    found = rules(
        "rules:\n  - {id: a, effect: allow, groups: [developers], resources: ['arn:x']}\n"
        "  - {id: b, effect: deny, actions: ['s3:*'], regions: ['us-*']}\n  - {id: c, effect: deny, resources: ['arn:y']}"
    )
    matches = found.explain(DEVELOPER, call("s3:GetObject", resources=(None,)), request())
    by_id = {match.rule.id: match for match in matches}
    assert matches[0].rule.id == "c" and matches[0].matched and "not known: resources" in matches[0].why
    assert by_id["a"].failed == ("resources",) and "not known: resources" in by_id["a"].why
    assert by_id["b"].held == ("actions",) and by_id["b"].failed == ("regions",)


def test_more_files_add_rules_and_tests(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy.yaml").write_text("rules:\n  - {id: a, effect: deny}\n")
    (tmp_path / "policy" / "team.yaml").write_text("rules:\n  - {id: b, effect: deny}\n")
    assert [rule.id for rule in load(tmp_path).rules] == ["a", "b"]
    (tmp_path / "policy" / "team.yaml").write_text("rules:\n  - {id: a, effect: deny}\n")
    with pytest.raises(RuleError, match=r"team\.yaml:2: the id 'a' is taken by .*policy\.yaml:2"):
        load(tmp_path)
    (tmp_path / "policy" / "team.yaml").write_text("default: allow\n")
    with pytest.raises(RuleError, match="unknown key 'default'"):
        load(tmp_path)
    (tmp_path / "policy" / "team.yaml").rename(tmp_path / "policy" / "team.yml")
    with pytest.raises(RuleError, match="overlooked"):
        load(tmp_path)


def test_no_rules_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="does not exist"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{effect: deny}", "needs 'id'"),
        ("{id: default, effect: deny}", "not a rule id"),
        ("{id: a}", "needs 'effect'"),
        ("{id: a, effect: permit}", "allow, deny, approve"),
        ("{id: a, effect: deny, action: ['s3:*']}", "Did you mean 'actions'"),
        ("{id: a, effect: deny, actions: []}", "empty list"),
        ("{id: a, effect: deny, actions: [s3]}", "not an action"),
        ("{id: a, effect: deny, groups: [1]}", "list of texts"),
        ("{id: a, effect: deny, groups: ['']}", "one character"),
        ("{id: a, effect: deny, access_levels: [Reed]}", "one of Read"),
        ("{id: a, effect: deny, hosts: ['https://x']}", "host name"),
        ("{id: a, effect: deny, hosts: ['x:443']}", "host name"),
        ("{id: a, effect: deny, methods: [get]}", "capitals"),
        ("{id: a, effect: deny, paths: [x]}", "starts with /"),
        ("{id: a, effect: deny, params: {}}", "empty"),
        ("{id: a, effect: deny, params: {A: []}}", "empty list"),
        ("{id: a, effect: deny, params: {A: [{b: c}]}}", "neither text"),
        ("{id: a, effect: deny, params: {'A..b': [c]}}", "dotted path"),
        ("{id: a, effect: deny, time: {}}", "needs days or hours"),
        ("{id: a, effect: deny, time: {hours: '8-18'}}", "not a span"),
        ("{id: a, effect: deny, time: {hours: '25:00-26:00'}}", "not a time of day"),
        ("{id: a, effect: deny, time: {hours: '08:00-08:00'}}", "empty"),
        ("{id: a, effect: deny, time: {days: [monday]}}", "not a day"),
        ("{id: a, effect: deny, time: {days: [mon], zone: Mars/Base}}", "not a time zone"),
        ("{id: a, effect: deny, time: {days: [mon], zone: ../../etc/passwd}}", "not a time zone"),
        ("{id: a, effect: deny, hold: 5s}", "effect: approve"),
        ("{id: a, effect: approve, approvers: {}}", "groups or principals"),
        ("{id: a, effect: approve, approvers: {groups: [x], count: 0}}", "1 or more"),
        ("{id: a, effect: approve, scope: session}", "'for'"),
        ("{id: a, effect: approve, for: 5m}", "'for'"),
        ("{id: a, effect: approve, hold: soon}", "duration"),
        ("{id: a, effect: deny, unsigned: true}", "no sense"),
        ("{id: a, effect: allow, sign: true}", "named exactly"),
        ("{id: a, effect: allow, hosts: ['*.x'], sign: true}", "named exactly"),
    ],
)
def test_a_mistake_is_an_error_with_file_and_line(entry: str, message: str) -> None:
    with pytest.raises(RuleError, match=message) as caught:
        rules(f"default: deny\nrules:\n  - {entry}\n")
    assert caught.value.file.endswith("policy.yaml") and caught.value.line == 3
