"""What cannot be undone is said, where it is known."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from flowwarden.approval.irreversible import _KNOWN, note
from flowwarden.types import Call, Operation


def call(name: str, **params: Any) -> Call:
    service, operation = name.split(":")
    return Call(aws=True, operation=Operation(service, operation), params=params)


def test_every_entry_is_an_operation_of_botocore() -> None:
    """A misspelt entry would never be shown."""
    session = botocore.session.get_session()
    for name in _KNOWN:
        service, operation = name.split(":")
        assert operation in session.get_service_model(service).operation_names, name


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (call("ec2:TerminateInstances"), "cannot be started again"),
        (call("ec2:TerminateInstances", DryRun=True), "dry run"),
        (call("rds:DeleteDBInstance", SkipFinalSnapshot=True), "No final snapshot"),
        (call("secretsmanager:DeleteSecret", ForceDeleteWithoutRecovery=True), "at once"),
        (call("glue:DeleteJob"), "may not come back"),
        (Call(aws=True), "does not know this operation"),
    ],
)
def test_said(what: Call, said: str) -> None:
    assert said in note(what)


def test_not_said() -> None:
    assert note(call("ec2:DescribeInstances")) == ""
    assert note(call("rds:DeleteDBInstance", SkipFinalSnapshot=False)) == _KNOWN["rds:DeleteDBInstance"]
    assert note(Call(aws=False)) == ""
