"""The reference of the rule language names every key of it, and its own examples are right."""

from __future__ import annotations

import re
from pathlib import Path

from flowwarden.policy.rule import KEYS
from flowwarden.policy.sqlread import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")


def test_every_key_is_in_the_reference() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert set(KEYS) - named == set()


def test_no_table_names_a_key_that_does_not_exist() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} <= set(KEYS)
    assert len(rows) > 20


def test_the_kinds_of_statement_that_it_names_exist() -> None:
    section = PAGE[PAGE.index("**`sql`**") : PAGE.index("**`shell`**")]
    assert set(re.findall(r"`([A-Z]+)`", section)) <= KINDS
