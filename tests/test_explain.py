"""`flowwarden explain`: the same request out of each form of file, decided for whoever asks."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mitmproxy import http
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow

from flowwarden.cli import main

RULES = """
default: deny
rules:
  - id: look
    effect: allow
    groups: [developers, audit]
    actions: ["ec2:DescribeInstances"]
"""
URL = "https://ec2.eu-central-1.amazonaws.com/"
KIND = "application/x-www-form-urlencoded"
BODY = "Action=DescribeInstances&Version=2016-11-15"
DEVELOPER = {"sub": "dev", "groups": ["developers"]}


def json_line(**more: Any) -> bytes:
    asked = {"method": "POST", "url": URL, "headers": {"Content-Type": KIND}}
    return json.dumps({**asked, "body": base64.b64encode(BODY.encode()).decode(), **more}).encode() + b"\n"


def har() -> bytes:
    headers = [{"name": "Content-Type", "value": KIND}]
    request = {"method": "POST", "url": URL, "headers": headers, "postData": {"mimeType": KIND, "text": BODY}}
    return json.dumps({"log": {"version": "1.2", "entries": [{"request": request}]}}).encode()


def mitm() -> bytes:
    file = io.BytesIO()
    FlowWriter(file).add(tflow.tflow(req=http.Request.make("POST", URL, BODY, {"Content-Type": KIND})))
    return file.getvalue()


@pytest.fixture
def explain(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    (tmp_path / "policy.yaml").write_text(RULES)

    def run(data: bytes, *options: str) -> list[dict[str, Any]]:
        (tmp_path / "asked").write_bytes(data)
        done = CliRunner().invoke(main, ["explain", str(tmp_path / "asked"), "--rules", str(tmp_path), *options])
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.mark.parametrize("form", [json_line, har, mitm])
def test_every_form_is_decided_for_the_group_that_is_asked_for(
    explain: Callable[..., list[dict[str, Any]]], form: Callable[[], bytes]
) -> None:
    """Without one it is nobody's request; more than one are the groups of one principal, as in a token."""
    for groups, decision in (
        ([], "deny"),
        (["strangers"], "deny"),
        (["audit"], "allow"),
        (["strangers", "developers"], "allow"),
    ):
        (found,) = explain(form(), *(word for group in groups for word in ("--group", group)))
        assert (found["service"], found["operation"], found["decision"]) == ("ec2", "DescribeInstances", decision)


def test_whom_a_line_names_is_whom_it_is_decided_for(explain: Callable[..., list[dict[str, Any]]]) -> None:
    found = explain(json_line(principal=DEVELOPER) + json_line(), "--group", "strangers")
    assert [each["decision"] for each in found] == ["allow", "deny"]
