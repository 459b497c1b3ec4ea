"""The index leaves out no rule that could match: it decides like trying every rule in turn."""

from __future__ import annotations

import json
import os

from hypothesis import given, settings
from hypothesis import strategies as st
from policykit import request, rules

from flowwarden.policy.ruleset import RuleSet
from flowwarden.types import Action, Call, Operation, Principal

_PARTS = ["a", "b", "a/", "*", "?", "ab"]
_GLOBS = st.lists(st.lists(st.sampled_from(_PARTS), min_size=1, max_size=3).map("".join), min_size=1, max_size=2)
_TEXT = st.lists(st.sampled_from(["a", "b", "a/", "ab", "c"]), min_size=1, max_size=3).map("".join)
_RULE = st.fixed_dictionaries(
    {"effect": st.sampled_from(["allow", "deny", "approve"])},
    optional={
        "actions": st.lists(
            st.sampled_from(["s3:A", "s3:*", "*:A", "*", "ec2:B", "S3:a", "?3:A"]), min_size=1, max_size=2
        ),
        "access_levels": st.lists(st.sampled_from(["Read", "Write"]), min_size=1, max_size=2),
        "groups": st.lists(st.sampled_from(["g", "h"]), min_size=1, max_size=2),
        "principals": _GLOBS,
        "resources": _GLOBS,
        "regions": _GLOBS,
        "params": st.dictionaries(
            st.sampled_from(["P", "Q.R"]), _GLOBS | st.just([False]) | st.just([None]), min_size=1
        ),
        "hosts": st.lists(st.sampled_from(["a.x", "b.x", "*.x", "a.*"]), min_size=1, max_size=2),
    },
)
_VALUE = _TEXT | st.none() | st.just(b"\xff") | st.just(3)
_ACTION = st.builds(
    Action, st.sampled_from(["s3:A", "ec2:B", "S3:A"]), st.sets(st.sampled_from(["Read", "Write"])).map(frozenset)
)
_CALL = st.builds(
    Call,
    aws=st.booleans(),
    operation=st.sampled_from([None, Operation("s3", "A")]),
    actions=st.lists(_ACTION, max_size=2).map(tuple),
    resources=st.lists(_TEXT | st.none(), max_size=3).map(tuple),
    region=_TEXT | st.just(""),
    params=st.none() | st.fixed_dictionaries({}, optional={"P": _VALUE | st.lists(_VALUE), "Q": st.fixed_dictionaries({"R": _VALUE})}),
)  # fmt: skip
_WHO = st.none() | st.builds(Principal, st.just("i"), _TEXT, groups=st.sets(st.sampled_from(["g", "h"])).map(frozenset))


def _set(found: list[dict[str, object]]) -> RuleSet:
    lines = [json.dumps({"id": f"r{n}", **rule, **({"approvers": {"groups": ["x"]}} if rule["effect"] == "approve" else {})})
             for n, rule in enumerate(found)]  # fmt: skip
    return rules("rules:\n" + "".join(f"  - {line}\n" for line in lines))


@settings(max_examples=300 if os.environ.get("FLOWWARDEN_SOAK") else 15, deadline=None)
@given(
    st.lists(_RULE, min_size=60, max_size=120),
    st.lists(st.tuples(_WHO, _CALL, st.sampled_from(["a.x", "c.y", ""])), min_size=1, max_size=8),
)
def test_deciding_by_index_is_deciding_by_every_rule(found: list[dict[str, object]], asked: list) -> None:  # type: ignore[type-arg]
    compiled = _set(found)
    for who, call, host in asked:
        decided = compiled.decide(who, call, request(host), None)
        matched = [each.rule for each in compiled.explain(who, call, request(host)) if each.matched]
        by = {
            effect: tuple(rule.id for rule in matched if rule.effect == effect)
            for effect in ("deny", "allow", "approve")
        }
        if by["deny"]:
            assert (decided.effect, decided.rules) == ("deny", by["deny"])
        elif decided.effect == "approve":
            assert decided.rules == by["approve"]
        elif decided.effect == "allow":
            assert decided.rules == by["allow"]
            assert not by["approve"]
        else:
            assert decided.rules == ("default",)
            assert not by["allow"]
            # An approve that is about other traffic opens nothing by itself.
            assert not by["approve"] or call.operation is None or not call.aws
