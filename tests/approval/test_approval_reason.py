"""A rule that wants the requester to say why: nobody is asked before it has, and it says it once."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from approval_way import answer, asked, call, mine, rule, sent, way_with

from support.issuer import OidcIssuer
from support.way import Way


@pytest.fixture(scope="module")
def _way(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    wanted = {"requester": {"reason": "required"}}
    rules = [rule("TerminateInstances", **wanted), rule("StopInstances", hold="200ms", on_timeout="allow", **wanted)]
    with way_with(tmp_path_factory.mktemp("reason"), issuer, *rules) as way:
        yield way


def say(way: Way, env: dict[str, str], approval: str, body: Any) -> tuple[int, dict[str, Any]]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"credential": env["FLOWWARDEN_HANDLE"], "body": text}
    status, told = way.gateway.internal("POST", f"/approvals/{approval}", **fields)
    return status, json.loads(told)


def test_said_and_approved(way: Way, env: dict[str, str], carol: str) -> None:
    """Told at once what to do; nobody can approve before, and an approver reads it then, masked and on one line."""
    began = time.monotonic()
    code, message = call(env)
    assert time.monotonic() - began < 10, "there is nothing to wait for yet"
    (question,) = mine(way, env, carol)
    approval = question["id"]
    assert code == "ApprovalPending" and f"POST http://flowwarden.internal/approvals/{approval}" in message
    assert question["wants_purpose"] and question["purpose"] == ""
    assert answer(way, approval, carol) == 409
    secret = "ghp_" + secrets.token_hex(18)
    status, told = say(way, env, approval, {"reason": f"ticket 7:\r\nleaks {secret}"})
    assert status == 200 and "wants" not in told
    (question,) = mine(way, env, carol)
    assert not question["wants_purpose"] and question["purpose"].startswith("ticket 7: leaks ")
    assert secret not in json.dumps(question)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env)
        assert answer(way, approval, carol) == 200
        assert not isinstance(held.result(60), tuple)
    assert sent(way, "TerminateInstances") == 1
    records = [r for r in way.gateway.evidence() if r["type"] == "approval" and r["approval"] == approval]
    (stated,) = [r for r in records if r["event"] == "stated"]
    assert stated["principal"]["subject"] == "alice" and stated["reason"].startswith("ticket 7")
    assert secret not in json.dumps(records)


def test_said_once(way: Way, env: dict[str, str], carol: str) -> None:
    """What an approver has read is not changed under its eyes."""
    call(env)
    approval = asked(way, env, carol)
    assert say(way, env, approval, {"reason": "cleaning up"})[0] == 200
    assert say(way, env, approval, {"reason": "something else"})[0] == 409
    assert mine(way, env, carol)[0]["purpose"] == "cleaning up"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"why",
        {},
        {"reason": ""},
        {"reason": "\u200b \n"},
        {"reason": 1},
        {"reason": "x", "approve": True},
        ["reason"],
    ],
)
def test_what_is_no_reason(way: Way, env: dict[str, str], carol: str, body: Any) -> None:
    call(env)
    approval = asked(way, env, carol)
    assert say(way, env, approval, body)[0] == 400
    assert mine(way, env, carol)[0]["wants_purpose"]


def test_somebody_elses_question(way: Way, env: dict[str, str], carol: str) -> None:
    call(env)
    approval = asked(way, env, carol)
    assert say(way, way.gateway.session(subject="mallory"), approval, {"reason": "let me"})[0] == 404
    assert mine(way, env, carol)[0]["wants_purpose"]


def test_a_denial_needs_no_reason_of_the_requester(way: Way, env: dict[str, str], carol: str) -> None:
    call(env)
    approval = asked(way, env, carol)
    assert answer(way, approval, carol, False, "not today") == 200
    assert say(way, env, approval, {"reason": "please"})[0] == 409


def test_no_timeout_lets_it_pass_unsaid(way: Way, env: dict[str, str], carol: str) -> None:
    """`on_timeout: allow` is for questions that could have been answered."""
    for _ in range(2):
        assert call(env, "stop_instances")[0] == "ApprovalPending"
    assert sent(way, "StopInstances") == 0
    assert say(way, env, asked(way, env, carol), {"reason": "night shift"})[0] == 200
    assert not isinstance(call(env, "stop_instances"), tuple)
