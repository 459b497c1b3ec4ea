"""Whom and what a mask holds for: actions, groups, paths, kinds of replacement, sets of members."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from masking_tools import alnum, aws_secret, call, github, headers, masker

from flowwarden.masking.globs import path_regex, trigger

LOGS = call("logs:GetLogEvents")


def _read(tmp_path: Path, rule: str, body: object, operation: str = "logs:GetLogEvents", *groups: str) -> object:
    out = masker(tmp_path, rule, *groups).mask_answer(call(operation), 200, headers(), json.dumps(body).encode())
    return json.loads(out.body)


@pytest.mark.parametrize(
    "rule",
    [
        "masks: [{id: m, pattern: 'ab[0-9]{6}', actions: ['logs:*']}]",
        "masks: [{id: m, fields: [x], actions: ['logs:Get*']}]",
    ],
)
def test_masking_actions(tmp_path: Path, rule: str) -> None:
    """A mask with actions holds for those calls alone, in JSON inside of strings too where it is a pattern."""
    body = {"x": "ab123456"}
    assert _read(tmp_path, rule, body) == {"x": "[MASKED:m]"}
    assert _read(tmp_path, rule, body, "sqs:ReceiveMessage") == body


PATHS = [
    ("password", {"password": "abcd"}, True),
    ("password", {"a": [{"b": {"PASSWORD": "abcd"}}]}, True),
    ("password", {"passwords": "abcd"}, False),
    ("*pass*", {"myPassword1": "abcd"}, True),
    ("env.*", {"Env": {"A": "abcd"}}, True),
    ("env.*", {"Env": {"A": {"B": "abcd"}}}, True),
    ("env.*", {"Other": {"A": "abcd"}}, False),
    ("$.a.b", {"a": [{"b": "abcd"}]}, True),
    ("$.a.b", {"x": {"a": {"b": "abcd"}}}, False),
    ("$.a.**.c", {"a": {"x": {"y": {"c": "abcd"}}}}, True),
    ("$.a.**.c", {"a": {"c": "abcd"}}, True),
    ("a?c", {"abc": "abcd"}, True),
    ("a?c", {"ac": "abcd"}, False),
]


@pytest.mark.parametrize(("glob", "body", "hidden"), PATHS)
def test_masking_paths(tmp_path: Path, glob: str, body: object, hidden: bool) -> None:
    """Globs over segments: the end of the path, or all of it; the quick search never misses what the careful one hides."""
    out = _read(tmp_path, f"masks: [{{id: m, fields: ['{glob}']}}]", body)
    assert ("abcd" not in json.dumps(out)) is hidden


def test_masking_glob_of_nothing_but_stars() -> None:
    """A glob that names nothing matches every path and triggers on every name."""
    assert path_regex("*") and trigger(["*"]) == b'(?i)"(?:[^"]*)"\\s*:'


def test_masking_field_values_of_every_type(tmp_path: Path) -> None:
    """Objects and lists are hidden leaf by leaf; numbers become 0; null, booleans and empty texts stay."""
    body = {"s": {"a": "abcd", "b": [1.5, "x"], "c": None, "d": True, "e": ""}, "t": 7}
    out = _read(tmp_path, "masks: [{id: m, fields: [s, t]}]", body)
    assert out == {"s": {"a": "[MASKED:m]", "b": [0, "[MASKED:m]"], "c": None, "d": True, "e": ""}, "t": 0}


def test_masking_doubled_names_and_escaped_names(tmp_path: Path) -> None:
    """The first of two members of one name is hidden too, and one whose name is written with escapes."""
    mask = masker(tmp_path, "masks: [{id: m, fields: [secret]}]")
    body = b'{"secret": "one1", "secret": "two2", "\\u0073ecret" : "three3", "in": "{\\"secret\\": \\"four4\\"}"}'
    out = mask.mask_answer(LOGS, 200, headers(), body)
    assert out.counts == {"m": 4} and not any(word in out.body for word in (b"one1", b"two2", b"three3", b"four4"))


def test_masking_secret_as_a_name(tmp_path: Path) -> None:
    """A map of tokens to their owners."""
    assert _read(tmp_path, "include: [tokens]\nmasks: []\n", {github(): "ada"}) == {"[MASKED:github-token]": "ada"}


@pytest.mark.parametrize(
    ("replace", "form"), [("redact", "[MASKED:m]"), ("hash", "[MASKED:m:"), ("partial", "[MASKED:m:*")]
)
def test_masking_replacements_of_fields(tmp_path: Path, replace: str, form: str) -> None:
    """The three forms, as a rule asks for them."""
    mask = masker(tmp_path, f"masks: [{{id: m, fields: [key], replace: {replace}}}]")
    body = json.dumps({"key": aws_secret()}).encode()
    out = mask.mask_answer(LOGS, 200, headers(), body, session_key=b"k" * 32)
    assert json.loads(out.body)["key"].startswith(form) and aws_secret().encode() not in out.body


def test_masking_sensitive_members_by_group(tmp_path: Path) -> None:
    """What AWS's models mark as sensitive and is no secret is hidden where a rule says so."""
    rule = "masks: [{id: m, members: sensitive, groups: [hr]}]"
    body = {"Account": {"Id": "123456789012", "Email": "a@example.com", "Name": "prod"}}
    hidden = _read(tmp_path, rule, body, "organizations:DescribeAccount", "hr")
    assert isinstance(hidden, dict) and hidden["Account"]["Email"] == "[MASKED:m]"
    assert hidden["Account"]["Id"] == "123456789012"
    assert _read(tmp_path, rule, body, "organizations:DescribeAccount", "sre") == body


def test_masking_utf16_text(tmp_path: Path) -> None:
    """A text in UTF-16 is read as what it is and written so again."""
    mask = masker(tmp_path, "include: [tokens]\nmasks: []\n")
    body = f'{{"a": "{github()}"}}'.encode("utf-16")
    out = mask.mask_answer(call(), 200, headers("application/json; charset=utf-16"), body)
    assert json.loads(out.body.decode("utf-16")) == {"a": "[MASKED:github-token]"}


def test_masking_entropy_and_check(tmp_path: Path) -> None:
    """A rule's least entropy and check are held for each match."""
    rule = "masks: [{id: m, pattern: 'k=([a-zA-Z0-9]{20})', entropy: 3.5, check: mixed}]"
    mask = masker(tmp_path, rule)
    assert mask.mask_text("k=" + "a1B" * 6 + "xx") == "k=" + "a1B" * 6 + "xx"
    assert mask.mask_text("k=" + alnum(20, 4)) == "k=[MASKED:m]"
