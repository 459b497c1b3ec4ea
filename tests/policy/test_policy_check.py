"""The lint of rules and the examples beside them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from flowwarden.errors import RuleError
from flowwarden.policy.check import Finding, check, run_tests


def lint(folder: Path, text: str, **more: object) -> list[Finding]:
    (folder / "policy.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
    return check(folder, **more)  # type: ignore[arg-type]


def said(folder: Path, entry: str, **more: object) -> str:
    return "\n".join(map(str, lint(folder, f"rules:\n  - {entry}\n", **more)))


@pytest.mark.parametrize(
    ("action", "hint"),
    [
        ("iam:DeleteUsr", "Did you mean iam:DeleteUser?"),
        ("iam:Delte*", "Did you mean iam:Delete"),
        ("ima:DeleteUser", "Did you mean iam:DeleteUser?"),
        ("s3:ListObjectsV2", "Did you mean s3:List"),
        ("*:Frobnicate*", ""),
    ],
)
def test_an_unknown_action_is_an_error_with_its_line_and_a_hint(tmp_path: Path, action: str, hint: str) -> None:
    text = f"rules:\n  - id: a\n    effect: deny\n    actions:\n      ['iam:GetUser', '{action}']\n"
    if action == "s3:ListObjectsV2":  # an operation, and no action: the SDK knows it, so it may be one soon
        assert [(each.severity, each.line) for each in lint(tmp_path, text)] == [("warning", 4)]
        return
    found = lint(tmp_path, text)
    assert [(each.severity, each.line) for each in found] == [("error", 4)]
    assert action in found[0].message and hint in found[0].message
    assert str(found[0]).startswith(f"{tmp_path}/policy.yaml:4: error: rule 'a': ")


def test_a_misspelt_exception_is_an_error_too(tmp_path: Path) -> None:
    assert "error" in said(tmp_path, "{id: a, effect: allow, access_levels: [Read], not_actions: ['sts:Gte*']}")


def test_every_error_of_every_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "b.yaml").write_text("rules:\n  - {id: x, effect: deny, oops: 1}\n  - {id: y}\n")
    found = lint(tmp_path, "rules:\n  - {id: a, effect: maybe}\n  - {id: b, effect: deny, actions: [s3]}\n")
    assert [(Path(each.file).name, each.line, each.severity) for each in found] == [
        ("policy.yaml", 2, "error"),
        ("policy.yaml", 3, "error"),
        ("b.yaml", 2, "error"),
        ("b.yaml", 3, "error"),
    ]


def test_a_missing_policy_is_a_finding_and_no_traceback(tmp_path: Path) -> None:
    assert "does not exist" in check(tmp_path)[0].message


def test_unknown_groups_are_named(tmp_path: Path) -> None:
    entry = "{id: a, effect: approve, groups: [devs], approvers: {groups: [sre]}}"
    text = said(tmp_path, entry, known_groups=["developers"])
    assert "'devs'" in text and "'sre'" in text
    assert said(tmp_path, entry, known_groups=["devs", "sre"]) == ""
    (tmp_path / "identity.yaml").write_text("credentials:\n  - groups: [devs]\nroles:\n  approver: {groups: [ops]}\n")
    text = said(tmp_path, entry)
    assert "'devs'" not in text and "'sre'" in text


@pytest.mark.parametrize(
    "entry",
    [
        "{id: a, effect: deny, actions: ['s3:GetObject'], not_actions: ['s3:Get*']}",
        "{id: a, effect: allow, actions: ['s3:PutObject'], access_levels: [Read]}",
        "{id: a, effect: allow, actions: ['ec2:DescribeInstances'], resources: ['arn:aws:ec2:*:*:instance/*']}",
    ],
)
def test_a_rule_that_can_never_match_is_named(tmp_path: Path, entry: str) -> None:
    assert "it never matches" in said(tmp_path, entry)


@pytest.mark.parametrize(
    ("action", "path", "hint"),
    [
        ("ec2:TerminateInstances", "InstanceIDs", "Did you mean 'InstanceIds'?"),
        ("s3:PutObject", "Acl", "Did you mean 'ACL'?"),
        ("ec2:ModifySnapshotAttribute", "CreateVolumePermission.Ad.UserId", "Did you mean 'Add'?"),
        ("dynamodb:PutItem", "Itme.id.S", "Did you mean 'Item'?"),
    ],
)
def test_a_parameter_that_no_operation_has_is_named(tmp_path: Path, action: str, path: str, hint: str) -> None:
    text = said(tmp_path, f"{{id: a, effect: deny, actions: ['{action}'], params: {{{path}: [x]}}}}")
    assert f"has the parameter {path!r}" in text and hint in text


@pytest.mark.parametrize(
    ("action", "path"),
    [
        ("ec2:TerminateInstances", "InstanceIds"),
        ("s3:PutObject", "CopySource"),
        ("ec2:ModifySnapshotAttribute", "CreateVolumePermission.Add.UserId"),
        ("dynamodb:PutItem", "Item.anything.S"),
        ("s3:PutBucketPolicy", "Policy.Statement.Effect"),
        ("ssm:SendCommand", "Parameters.commands"),
        ("ec2:*", "DryRun"),
    ],
)
def test_a_parameter_that_an_operation_has_is_fine(tmp_path: Path, action: str, path: str) -> None:
    assert said(tmp_path, f"{{id: a, effect: deny, actions: ['{action}'], params: {{{path}: [x]}}}}") == ""


def test_a_resource_that_is_no_arn_is_an_error(tmp_path: Path) -> None:
    assert "it is no ARN" in said(tmp_path, "{id: a, effect: deny, resources: ['my-bucket/*']}")


SWALLOWED = [
    ("actions: ['iam:CreateUser']", "actions: ['iam:*']"),
    ("actions: ['iam:CreateUser']", "groups: [g]"),
    ("actions: ['s3:Get*'], resources: ['arn:aws:s3:::a/x/*']", "resources: ['arn:aws:s3:::a/*']"),
    ("actions: ['s3:Get*'], regions: [eu-west-1]", "actions: ['s3:*'], regions: [eu-*]"),
    ("hosts: [api.example.com], methods: [GET]", "hosts: ['*.example.com'], methods: [GET, POST]"),
    ("actions: ['s3:Put*'], params: {ACL: [private]}", "actions: ['s3:*'], params: {ACL: [private]}"),
]
NOT_SWALLOWED = [
    ("actions: ['iam:*']", "actions: ['iam:Create*']"),
    ("actions: ['iam:CreateUser']", "actions: ['iam:*'], groups: [h]"),
    ("actions: ['s3:Get*'], resources: ['arn:aws:s3:::*']", "resources: ['arn:aws:s3:::a/*']"),
    ("actions: ['s3:Get*']", "resources: ['arn:aws:s3:::a/*']"),
    ("hosts: [api.example.com]", "actions: ['*']"),
    ("actions: ['s3:Put*']", "params: {ACL: [private]}"),
    ("actions: ['rds-data:*'], sql: [SELECT]", "sql: [DROP]"),
]


@pytest.mark.parametrize(("allow", "deny"), SWALLOWED)
def test_an_allow_that_a_deny_swallows_is_named(tmp_path: Path, allow: str, deny: str) -> None:
    text = f"rules:\n  - {{id: a, effect: allow, groups: [g], {allow}}}\n  - {{id: d, effect: deny, {deny}}}"
    if "groups" in deny:
        text = text.replace("groups: [g], actions", "groups: [g], actions")
    messages = [each.message for each in lint(tmp_path, text)]
    assert any("it allows nothing: d denies" in message for message in messages), messages


@pytest.mark.parametrize(("allow", "deny"), NOT_SWALLOWED)
def test_an_allow_of_which_something_is_left_is_not_named(tmp_path: Path, allow: str, deny: str) -> None:
    text = f"rules:\n  - {{id: a, effect: allow, groups: [g], {allow}}}\n  - {{id: d, effect: deny, {deny}}}"
    assert not any("allows nothing" in each.message for each in lint(tmp_path, text))


def test_several_denies_that_swallow_together_are_all_named(tmp_path: Path) -> None:
    text = """
        rules:
          - {id: a, effect: allow, actions: ["s3:GetObject", "s3:PutObject"]}
          - {id: d, effect: deny, actions: ["s3:Get*"]}
          - {id: e, effect: deny, actions: ["s3:Put*"]}
    """
    assert any("d, e denies" in each.message for each in lint(tmp_path, text))


def test_approve_rules_that_deny_together_are_named(tmp_path: Path) -> None:
    text = """
        rules:
          - {id: a, effect: approve, actions: ["ec2:Terminate*"], approvers: {groups: [sre]}}
          - {id: b, effect: approve, actions: ["*:Term*"], approvers: {groups: [leads]}}
          - {id: c, effect: approve, actions: ["s3:*"], approvers: {groups: [leads]}}
          - {id: d, effect: approve, actions: ["ec2:*"], groups: [x], approvers: {groups: [leads, sre]}}
    """
    found = [each for each in lint(tmp_path, text) if "that denies" in each.message]
    assert [(each.line, "'a'" in each.message) for each in found] == [(4, True)]


def test_what_opens_by_itself_or_outlasts_an_sdk_or_catches_strangers_is_named(tmp_path: Path) -> None:
    text = """
        default: allow
        rules:
          - {id: a, effect: approve, on_timeout: allow, hold: 90s}
          - {id: b, effect: allow, hosts: ["*example.com"]}
    """
    messages = " ".join(each.message for each in lint(tmp_path, text))
    for part in ("on_timeout: allow", "default: allow", "SDKs stop waiting", "*.example.com"):
        assert part in messages


def test_examples_are_run_and_failures_say_what_came_instead(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(
        textwrap.dedent("""
        rules:
          - id: terminate-needs-a-human
            effect: approve
            actions: ["ec2:TerminateInstances"]
            resources: ["arn:aws:ec2:*:*:instance/*"]
            regions: [eu-*]
            params: {InstanceIds: ["i-0prod*"], DryRun: [false]}
            time: {days: [mon-fri], hours: "08:00-18:00", zone: Europe/Berlin}
            approvers: {groups: [sre], count: 1}
        tests:
          - call: ec2:TerminateInstances
            params: {InstanceIds: ["i-0prod1"]}
            groups: [developers]
            expect: approve
          - {call: "ec2:TerminateInstances", params: {InstanceIds: ["i-0dev1"]}, expect: approve}
          - {call: "ec2:TerminateInstances", params: {InstanceIds: ["i-0prod1"], DryRun: true}, expect: deny}
          - {call: "ec2:TerminateInstances", params: {InstanceIds: ["i-0prod1"]}, expect: deny,
             time: "2026-11-21T12:00:00+01:00"}
          - {call: "ec2:TerminateInstances", params: {InstanceIds: ["i-0prod1"]}, region: us-east-1, expect: deny}
        """)
    )
    results = run_tests(tmp_path)
    assert [each.passed for each in results] == [True, False, True, True, True]
    assert results[1].message == "expected approve, got deny by default"
    assert results[1].example.line == 16


def test_an_example_may_be_a_whole_request(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(
        textwrap.dedent("""
        rules:
          - {id: a, effect: allow, actions: ["s3:GetObject"], resources: ["arn:aws:s3:::data/*"]}
          - {id: b, effect: deny, actions: ["ec2:TerminateInstances"], params: {InstanceIds: ["i-1"]}}
        tests:
          - {request: {url: "https://data.s3.eu-west-1.amazonaws.com/a/b"}, expect: allow, rules: [a]}
          - {request: {url: "https://other.s3.eu-west-1.amazonaws.com/a/b"}, expect: deny, rules: [default]}
          - expect: deny
            rules: [b]
            request:
              method: POST
              url: https://ec2.eu-west-1.amazonaws.com/
              headers: {Content-Type: application/x-www-form-urlencoded}
              body: Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1
        """)
    )
    assert [each.message for each in run_tests(tmp_path) if not each.passed] == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{call: ec2, expect: deny}", "not an action"),
        ("{call: 'ec2:*', expect: deny}", "not an action"),
        ("{call: 'ec2:X'}", "needs 'expect'"),
        ("{call: 'ec2:X', expect: maybe}", "allow, deny, approve"),
        ("{expect: deny}", "needs 'host'"),
        ("{call: 'ec2:X', expect: deny, gruops: [x]}", "Did you mean 'groups'"),
        ("{call: 'ec2:X', expect: deny, time: noon}", "time"),
        ("{request: {url: 'x'}, expect: deny}", "full URL"),
    ],
)
def test_an_example_that_is_none_is_an_error_with_its_line(tmp_path: Path, entry: str, message: str) -> None:
    found = lint(tmp_path, f"rules: []\ntests:\n  - {entry}\n")
    assert [each.line for each in found] == [3] and message in found[0].message
    with pytest.raises(RuleError, match=message):
        run_tests(tmp_path)


def test_the_shipped_rules_have_no_findings() -> None:
    assert [str(each) for each in check(Path(__file__).parents[2] / "rules")] == []
