"""`credentials:` of identity.yaml: what it says, and every way to get it wrong, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowwarden import yamlfile
from flowwarden.credentials import rules
from flowwarden.errors import RuleError
from flowwarden.types import Principal

ROLE = "arn:aws:iam::123456789012:role/agent"


def load(tmp_path: Path, entry: str) -> rules.CredentialRules:
    path = tmp_path / "identity.yaml"
    path.write_text("issuers: []\ncredentials:\n" + entry)
    return rules.load(path)


def test_shipped_rules():
    """The rules that come with the gateway are read as they are."""
    loaded = rules.load(Path(__file__).parents[2] / "rules" / "identity.yaml")
    developer = loaded.match(Principal("i", "s", groups=frozenset({"developers"})))
    assert developer is not None and developer.account == "123456789012" and developer.duration == 900
    assert loaded.match(Principal("i", "s")) is None


def test_first_match(tmp_path):
    """The first entry with one of the groups counts; one without groups is for everyone."""
    loaded = load(
        tmp_path,
        f"""  - {{groups: [a], assume_role: {ROLE}, accounts: ["123456789012"], duration: 1h, external_id: x}}
  - {{groups: [b, a], source: gateway, accounts: ["123456789012", aws]}}
  - {{assume_role: [{ROLE}, "arn:aws-cn:iam::210987654321:role/p/t"], source: sso, accounts: ["210987654321"], tags: [subject]}}
""",
    )
    one, two, rest = loaded.entries
    assert loaded.match(Principal("i", "s", groups=frozenset({"a", "b"}))) is one
    assert loaded.match(Principal("i", "s", groups=frozenset({"b"}))) is two
    assert loaded.match(Principal("i", "s")) is rest
    assert (one.duration, one.external_id, two.account, rest.account) == (3600, "x", "123456789012", "210987654321")
    assert (rest.source, rest.partition, rest.tags, rest.assume_role[0]) == ("sso", "aws-cn", ("subject",), ROLE)
    section = yamlfile.load(tmp_path / "identity.yaml")
    assert rules.load(section) == loaded


def test_nothing_is_lent_without_entries(tmp_path):
    """No `credentials:` is no credentials."""
    path = tmp_path / "identity.yaml"
    path.write_text("issuers: []\n")
    assert rules.load(path).match(Principal("i", "s")) is None


@pytest.mark.parametrize(
    ("entry", "line", "message"),
    [
        (f"  - groups: [a]\n    assume_role: {ROLE}\n", 3, "needs 'accounts'"),
        ('  - groups: [a]\n    accounts: ["123456789012"]\n', 3, "assume_role' or 'source'"),
        (f"  - assume_role: {ROLE}\n    accounts: [123456789012]\n", 4, "list of texts"),
        (f'  - assume_role: {ROLE}\n    accounts: ["12345"]\n', 4, "12 digits"),
        (f'  - assume_role: {ROLE}\n    accounts: ["210987654321"]\n', 4, "lacks 123456789012"),
        ("  - source: gateway\n    accounts: [aws]\n", 4, "names no account"),
        ("  - source: gateway\n    accounts: []\n", 4, "names no account"),
        ('  - assume_role: role/agent\n    accounts: ["123456789012"]\n', 3, "ARN of a role"),
        ('  - assume_role: []\n    accounts: ["123456789012"]\n', 3, "empty"),
        (f'  - assume_role: {ROLE}\n    accounts: ["123456789012"]\n    duration: 5m\n', 5, "15m to 12h"),
        (f'  - assume_role: {ROLE}\n    accounts: ["123456789012"]\n    duration: 13h\n', 5, "15m to 12h"),
        (f'  - assume_role: [{ROLE}, {ROLE}]\n    accounts: ["123456789012"]\n    duration: 2h\n', 5, "chain"),
        (f'  - assume_role: {ROLE}\n    accounts: ["123456789012"]\n    policy_arns: [x]\n', 5, "managed policy"),
        (
            f'  - assume_role: {ROLE}\n    accounts: ["123456789012"]\n    policy_arns: [{",".join(["arn:aws:iam::aws:policy/A"] * 11)}]\n',
            5,
            "at most 10",
        ),
        (f'  - assume_role: {ROLE}\n    accounts: ["123456789012"]\n    unpinned_actions: ["*"]\n', 5, "IAM action"),
        (f'  - assume_role: {ROLE}\n    accounts: ["123456789012"]\n    tags: [color]\n', 5, "color"),
        ('  - source: gateway\n    accounts: ["123456789012"]\n    duration: 15m\n', 5, "only with 'assume_role'"),
        (f'  - assume_role: {ROLE}\n    accounts: ["123456789012"]\n    groups: []\n', 5, "nobody"),
        (f'  - assume_role: {ROLE}\n    acounts: ["123456789012"]\n', 3, "accounts"),
    ],
)
def test_mistakes(tmp_path, entry, line, message):
    """Each mistake names file, line and what was expected."""
    with pytest.raises(RuleError) as error:
        load(tmp_path, entry)
    assert message in str(error.value)
    assert f"identity.yaml:{line}:" in str(error.value)


def test_an_unknown_key_is_named(tmp_path):
    """A typo does not pass."""
    with pytest.raises(RuleError, match="durration"):
        load(tmp_path, f'  - assume_role: {ROLE}\n    accounts: ["123456789012"]\n    durration: 15m\n')
