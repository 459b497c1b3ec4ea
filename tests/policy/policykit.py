"""Short ways to write rule sets, calls and requests in the tests of this folder."""

from __future__ import annotations

import tempfile
import textwrap
from pathlib import Path
from typing import Any

from flowwarden.policy.ruleset import RuleSet, load
from flowwarden.types import Action, Call, Operation, Principal, Request

DEVELOPER = Principal("https://idp", "dev-1", agent="coder", owner="alice", groups=frozenset({"developers"}))


def rules(text: str) -> RuleSet:
    """A rule set from the YAML of policy.yaml."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "policy.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
        return load(Path(folder))


def call(*names: str, levels: str = "Write", **more: Any) -> Call:
    """A recognised call of one or more actions, `resources` known to be `*` unless given."""
    service, _, operation = names[0].partition(":")
    held = {"params": {}, "resources": ("*",), "region": "eu-west-1", "account": "123456789012", **more}
    wanted = frozenset(filter(None, levels.split(",")))
    return Call(
        aws=True, operation=Operation(service, operation), actions=tuple(Action(name, wanted) for name in names), **held
    )


def request(
    host: str = "ec2.eu-west-1.amazonaws.com", method: str = "POST", target: str = "/", **fields: str
) -> Request:
    headers = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in fields.items())
    return Request(method, "https", host, 443, target, headers)
