"""Deny rules as a session policy: judged by an evaluator of policies and by the rules themselves, action by action."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flowwarden.credentials import bounds, rules
from flowwarden.credentials.denies import Denies, compiled
from flowwarden.errors import Refusal
from flowwarden.policy import catalogue, ruleset
from flowwarden.policy.ruleset import RuleSet
from flowwarden.types import Call, Operation, Principal, Request
from support.strict_sts import permits

SHIPPED = Path(__file__).parents[2] / "rules"
ROLE = "arn:aws:iam::123456789012:role/agent"
RULE = rules.CredentialRule(accounts=("123456789012",), assume_role=(ROLE,))
REQUEST = Request("POST", "https", "x.eu-central-1.amazonaws.com", 443, "/")
WHO_AND_WHAT = {"groups", "principals", "agents", "actions"}


def load(tmp_path: Path, text: str) -> RuleSet:
    (tmp_path / "policy.yaml").write_text(text)
    return ruleset.load(tmp_path)


def effect(rule_set: RuleSet, principal: Principal, action: str) -> str:
    """What the rules say to a call that needs one action, by their own engine."""
    service, _, name = action.partition(":")
    call = Call(aws=True, operation=Operation(service, name), actions=(catalogue.action(action),))
    return rule_set.decide(principal, call, REQUEST, None).effect


@pytest.mark.parametrize("group", ["platform", "sre", "developers", "secrets-readers", "audit", "sandbox"])
def test_the_shipped_rules(group):
    """They fit. What a deny alone stands before is denied at AWS too; whatever no deny speaks of is not touched."""
    principal = Principal("i", "s", agent="coder", groups=frozenset({group}))
    every = ruleset.load(SHIPPED)
    rule = rules.load(SHIPPED / "identity.yaml").match(principal) or RULE
    policy, _ = bounds.session_policy(
        replace(rule, assume_role=(ROLE,), denies="needed"), compiled(every.rules, principal)
    )
    assert len(policy) <= bounds.POLICY_LENGTH
    document = json.loads(policy)
    plain = [rule for rule in every.rules if {each.key for each in rule.conditions} <= WHO_AND_WHAT]
    denying = RuleSet([rule for rule in plain if rule.effect == "deny"], "allow")
    permitting = RuleSet([rule for rule in every.rules if rule.effect != "deny"])
    seen = {"needed": 0, "spare": 0, "open": 0}
    context = {"aws:ResourceAccount": "123456789012"}
    for action in catalogue.matching("*"):
        denied = effect(denying, principal, action) == "deny"
        bounded = not permits([document], action, context)
        if not denied:
            assert not bounded, f"{action} is denied at AWS, and no rule denies it"
            seen["open"] += 1
        elif effect(permitting, principal, action) != "deny":
            assert bounded, f"only a deny rule stands before {action}, and AWS would do it"
            seen["needed"] += 1
        else:
            seen["spare"] += bounded
    assert seen["open"] > 20_000 and seen["spare"] > 50
    assert seen["needed"] > 150 or group in {"audit", "secrets-readers", "sandbox"}


RULES = """rules:
  - {id: a, effect: deny, actions: ["iam:Delete*", "*:PurchaseReserved*", "iam:CreateUser"]}
  - {id: b, effect: deny, groups: [x], actions: ["s3:DeleteBucket"]}
  - {id: c, effect: deny, groups: [y], actions: ["s3:PutObject"]}
  - {id: d, effect: deny, actions: ["ec2:*"], regions: [eu-*]}
  - {id: e, effect: deny, actions: ["kms:D*"], not_actions: ["kms:Decrypt", "kms:Describe*"]}
  - {id: f, effect: deny, actions: ["cloudtrail:*"], access_levels: [Write]}
  - {id: g, effect: deny, agents: [other], actions: ["sqs:*"]}
  - {id: h, effect: deny, principals: ["s*"], actions: ["sns:Publish", "iam:CreateUser"]}
  - {id: i, effect: deny, hosts: [example.com]}
  - {id: j, effect: deny, actions: ["ec2:NotPublishedYet", "nosuchservice:Do*", "nosuch*:Do*"]}
"""


def test_which_denies(tmp_path):
    """Of the rules: what is denied whatever the request, to whom it is denied, as far as IAM can say it."""
    loaded = load(tmp_path, RULES)
    made = compiled(loaded.rules, Principal("i", "s", agent="coder", groups=frozenset({"x"})))
    assert made.needed == ("ec2:NotPublishedYet", "nosuchservice:Do*") and made.by == ("j",)
    said = set(made.others)
    assert {"iam:Del*", "iam:CreateU*", "s3:DeleteBucket", "sns:Pub*"} <= said
    assert "kms:Di*" in said and "cloudtrail:Del*" in said and "redshift:Pur*" in said
    assert not any(text.startswith(("sqs:", "kms:De*", "kms:Decr", "ec2:*")) or "s3:Put" in text for text in said)
    nameless = Principal("i", "t", groups=frozenset({"z"}))  # a rule for an agent is also for who does not name one
    assert "sqs:*" in compiled(loaded.rules, nameless).others


@pytest.mark.parametrize(
    ("permit", "needed"),
    [
        ("", ()),
        ('- {id: p, effect: allow, actions: ["s3:GetObject"]}', ()),
        ('- {id: p, effect: approve, groups: [x], actions: ["s3:DeleteB*"], approvers: {groups: [q]}}', ("s3:DeleteBucket",)),
        ('- {id: p, effect: allow, groups: [other], actions: ["s3:DeleteB*"]}', ()),
        ('- {id: p, effect: allow, access_levels: [Write], params: {Bucket: ["a*"]}}', ("s3:DeleteBucket", "athena:D*")),
        ('- {id: p, effect: allow, regions: ["eu-*"]}', ("s3:DeleteBucket", "athena:D*")),
        ("- {id: p, effect: approve, sql: [SELECT], approvers: {groups: [q]}}", ("athena:D*",)),
        ('- {id: p, effect: allow, hosts: ["example.com"]}', ()),
    ],
)  # fmt: skip
def test_which_are_needed(tmp_path, permit, needed):
    """Those that alone stand before an action which another rule may let through, whatever its other conditions."""
    text = f"""rules:
  - {{id: a, effect: deny, actions: ["s3:DeleteBucket", "athena:D*"]}}
  {permit}
"""
    made = compiled(load(tmp_path, text).rules, Principal("i", "s", groups=frozenset({"x"})))
    assert set(made.needed) == set(needed) and set(made.needed + made.others) == {"s3:DeleteBucket", "athena:D*"}
    assert made.by == (("a",) if needed else ())


def test_all_are_needed_where_the_default_allows(tmp_path):
    """Without a closing default nothing but the denies stands before anything."""
    loaded = load(tmp_path, 'default: allow\nrules:\n  - {id: a, effect: deny, actions: ["s3:DeleteBucket"]}\n')
    assert compiled(loaded.rules, Principal("i", "s"), closed=False).needed == ("s3:DeleteBucket",)


def test_the_pin_is_never_cut():
    """2,048 characters fit. One more is refused, with what to do; what is not needed is left out and counted."""
    room = bounds.POLICY_LENGTH - len(bounds.session_policy(RULE, Denies(needed=("a:b",)))[0]) + len("a:b")
    fits, too_long = "a:" + "b" * (room - 2), "a:" + "b" * (room - 1)
    for denies in (Denies(needed=(fits,)), Denies(others=(fits,))):
        policy, left_out = bounds.session_policy(RULE, denies)
        assert (len(policy), left_out) == (bounds.POLICY_LENGTH, 0)
    with pytest.raises(Refusal, match=r"2049.*keep-it, keep-that deny"):
        bounds.session_policy(RULE, Denies(needed=(too_long,), by=("keep-it", "keep-that")))
    pin = bounds.session_policy(RULE)[0]
    assert bounds.session_policy(RULE, Denies(others=(too_long,))) == (pin, 1)
    with pytest.raises(Refusal, match="denies: needed"):
        bounds.session_policy(replace(RULE, denies="all"), Denies(others=(too_long,)))
    assert bounds.session_policy(replace(RULE, denies="off"), Denies(needed=(too_long,))) == (pin, 0)
    many = tuple(f"service{i}:Delete*" for i in range(200))
    policy, left_out = bounds.session_policy(RULE, Denies(needed=("x:Y",), others=(too_long, *many)))
    kept = json.loads(policy)["Statement"][-1]["Action"]
    assert bounds.POLICY_LENGTH - 25 < len(policy) <= bounds.POLICY_LENGTH
    assert (kept, left_out) == (["x:Y", *many[: len(kept) - 1]], 202 - len(kept))
    assert bounds.session_policy(RULE, Denies(others=many), spare=False) == (pin, 200)
    arn = "arn:aws:iam::aws:policy/ReadOnlyAccess"
    for size in range(60):  # every remainder: two patterns are a list, one is not
        for rule in (RULE, replace(RULE, policy_arns=(arn,))):
            policy, _ = bounds.session_policy(rule, Denies(others=("a:" + "b" * (room - 40 - size), "c:Dd", *many)))
            assert len(policy) + sum(map(len, rule.policy_arns)) <= bounds.POLICY_LENGTH
    crowded = replace(RULE, accounts=tuple(f"{i:012d}" for i in range(150)))
    for denies in (Denies(), Denies(others=many)):
        with pytest.raises(Refusal, match="fewer accounts"):
            bounds.session_policy(crowded, denies)
