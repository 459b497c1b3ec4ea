"""The example in docs/replay.md is run as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import boto3
import requests
from replay_helpers import SESSION, Tape, sandbox

DOCS = Path(__file__).parents[2] / "docs" / "replay.md"
ALL = {"default": "deny", "rules": [{"id": "all", "effect": "allow", "actions": ["s3:*", "ec2:*"]}]}


def agent() -> None:
    """The user's own: a stock boto3 that knows nothing but its environment."""
    session = boto3.session.Session()
    session.client("ec2").describe_vpcs()
    session.client("s3").list_buckets()


def test_the_example(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names: dict[str, object] = {"run_my_agent": agent}
    exec(compile(code, str(DOCS), "exec"), names)  # noqa: S102 - our own documentation
    with sandbox() as url:
        requests.post(f"{url}/moto-api/reset", timeout=10)
        tape = Tape(url)
        tape.client("ec2").describe_vpcs()
        tape.client("s3").list_buckets()
        names |= {"RECORDINGS": tape.record(tmp_path), "SESSION": SESSION}
        names["test_the_sandbox_still_answers_alike"](url)
    names["test_the_agent_still_makes_these_calls"](monkeypatch)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "policy.yaml").write_text(json.dumps(ALL))
    monkeypatch.chdir(tmp_path)
    names["test_tomorrows_rules_let_it_run"]()
