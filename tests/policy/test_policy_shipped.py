"""The shipped rules: their own examples hold and cover every rule."""

from __future__ import annotations

from pathlib import Path

from flowwarden.policy.examples import run
from flowwarden.policy.ruleset import load

RULES = Path(__file__).parents[2] / "rules"


def test_every_example_of_the_shipped_rules_is_answered_as_it_says() -> None:
    failed = [
        f"{each.example.line} {each.example.title}: {each.message}" for each in run(load(RULES)) if not each.passed
    ]
    assert not failed


def test_the_examples_cover_every_shipped_rule_and_each_says_why_it_is_there() -> None:
    found = load(RULES)
    decided = {name for each in run(found) for name in each.example.rules}
    assert [rule.id for rule in found.rules if rule.id not in decided] == []
    assert [rule.id for rule in found.rules if not rule.reason] == []
    assert found.alarms == ()
