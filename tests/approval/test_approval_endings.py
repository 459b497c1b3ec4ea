"""How a grant ends: by a crash in the middle, by revocation or its time while a call runs under it; and how that is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from approval_way import answer, asked, call, mine, rule, sent, state, way_with
from botocore.exceptions import BotoCoreError

from support.clients import boto_client, eventually
from support.gateway import REGION
from support.issuer import OidcIssuer
from support.strict_aws import Answer, Exchange
from support.way import Way

JIT = rule("StartInstances", scope="session", **{"for": "30m"})
SHORT = rule("StopInstances", scope="session", **{"for": "2s"})


@pytest.fixture
def way(tmp_path: Path, issuer: OidcIssuer) -> Iterator[Way]:
    uploads = rule("PutObject", actions=["s3:PutObject"], scope="session", **{"for": "6s"})
    brief = rule("RebootInstances", expires="8s")
    with way_with(tmp_path, issuer, rule("TerminateInstances"), JIT, SHORT, uploads, brief) as way:
        yield way


def slow(way: Way, service: str, action: str) -> tuple[threading.Event, threading.Event]:
    """AWS answers such a call when the first event is set; the second says that one has come."""
    gate, began = threading.Event(), threading.Event()

    def script(exchange: Exchange) -> Answer | None:
        exchange.read()
        if exchange.seen.service == service and exchange.seen.action == action:
            began.set()
            gate.wait(60)
        return None

    way.aws.answer(script)
    return gate, began


def records(way: Way, kind: str, **wanted: str) -> list[dict[str, Any]]:
    found = [r for r in way.gateway.evidence() if r["type"] == kind]
    return [r for r in found if all(r.get(key) == value for key, value in wanted.items())]


@pytest.mark.parametrize(("service", "action"), [("sts", "AssumeRole"), ("ec2", "TerminateInstances")])
def test_a_crash_between_use_and_outcome(way: Way, carol: str, service: str, action: str) -> None:
    """kill -9 while the lease is fetched, and while AWS works: the grant is spent, the outcome unknown, a retry asks anew."""
    gate, began = slow(way, service, action)
    env = way.gateway.session(subject="alice")
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env)
        approval = asked(way, env, carol)
        assert answer(way, approval, carol) == 200
        assert began.wait(30)
        way.gateway.kill()
        gate.set()
        with pytest.raises(BotoCoreError):
            held.result(60)
    way.aws.forget()
    way.gateway.start()
    assert state(way, approval, carol) == "spent"
    (lost,) = eventually(lambda: records(way, "approval", approval=approval, event="unknown"), what="the record of it")
    assert lost["flow"] and "OUTCOME_UNKNOWN" in lost["reason"]
    assert any(approval in record["message"] for record in records(way, "alarm"))
    intents = records(way, "intent", approval=approval)
    assert len(intents) == (service == "ec2")
    for intent in intents:
        (outcome,) = records(way, "outcome", flow=intent["flow"])
        assert outcome["outcome"] == "unknown" and intent["flow"] == lost["flow"]
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(call, env)
        assert answer(way, asked(way, env, carol), carol, False, "look first") == 200
        assert "look first" in again.result(60)[1]
    assert sent(way, "TerminateInstances") == 0
    way.gateway.stop()
    way.gateway.start()
    assert len(records(way, "approval", approval=approval, event="unknown")) == 1, "it is told once"


def test_a_call_that_ends_in_order_is_not_told_as_lost(way: Way, carol: str) -> None:
    env = way.gateway.session(subject="alice")
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env)
        assert answer(way, asked(way, env, carol), carol) == 200
        assert not isinstance(held.result(60), tuple)
    way.gateway.stop()
    way.gateway.start()
    assert records(way, "approval", event="unknown") == []


def running(
    way: Way, carol: str, method: str, action: str, pool: ThreadPoolExecutor
) -> tuple[str, Any, threading.Event]:
    """A call that AWS works on under a standing grant."""
    env = way.gateway.session(subject="alice")
    call(env, "describe_instances")  # its lease is there
    first = pool.submit(call, env, method)
    approval = asked(way, env, carol)
    gate, began = slow(way, "ec2", action)
    assert answer(way, approval, carol) == 200
    assert began.wait(30), (first, first.done() and first.result(), way.gateway.evidence()[-3:])
    return approval, first, gate


@pytest.mark.parametrize("how", ["revoked", "session"])
def test_the_end_of_a_session_grant_ends_what_runs_under_it(way: Way, carol: str, how: str) -> None:
    """Its answer is not handed out, and what it did at AWS is recorded as not known."""
    with ThreadPoolExecutor(1) as pool:
        approval, first, gate = running(way, carol, "start_instances", "StartInstances", pool)
        if how == "revoked":
            assert way.gateway.operators("POST", f"/approvals/{approval}/revoke", carol, {"reason": "enough"})[0] == 200
        else:
            admin = way.issuer.token("petra", ("platform",), owner=None)
            session = records(way, "approval", approval=approval)[0]["session"]
            assert way.gateway.operators("DELETE", f"/sessions/{session}", admin)[0] == 200
        eventually(lambda: state(way, approval, carol) == "revoked", what="the grant's end")
        gate.set()
        code, message = first.result(60)
    assert code == "AccessDenied" and approval in message
    outcome = records(way, "outcome")[-1]
    assert outcome["outcome"] == "unknown" and outcome["code"] == "AccessDenied"
    assert way.gateway.run("verify").returncode == 0


@pytest.mark.parametrize("scope", ["request", "session"])
def test_expiry_during_execution(way: Way, carol: str, scope: str) -> None:
    """What AWS works on completes, once, and is recorded (fault 35); nothing new passes."""
    with ThreadPoolExecutor(1) as pool:
        if scope == "session":
            approval, first, gate = running(way, carol, "stop_instances", "StopInstances", pool)
            eventually(lambda: state(way, approval, carol) == "expired", what="the grant's end")
        else:
            approval, first, gate = running(way, carol, "reboot_instances", "RebootInstances", pool)
            expires = way.gateway.operators("GET", f"/approvals/{approval}", carol)[1]["expires"]
            eventually(lambda: datetime.now(UTC) > datetime.fromisoformat(expires), what="the question's end")
            assert state(way, approval, carol) == "spent"
        gate.set()
        assert not isinstance(first.result(60), tuple)
    assert len([seen for seen in way.calls if seen.action in ("StopInstances", "RebootInstances")]) == 1
    assert records(way, "outcome")[-1]["outcome"] == "ok"


def test_an_upload_ends_at_the_grants_time(way: Way, carol: str) -> None:
    """What streams does not outlive its grant: AWS sees a body without its end."""
    env = way.gateway.session(subject="alice")
    s3 = boto_client("s3", env)
    s3.create_bucket(Bucket="ends", CreateBucketConfiguration={"LocationConstraint": REGION})
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: s3.put_object(Bucket="ends", Key="1", Body=b"small"))
        approval = asked(way, env, carol)
        gate, began = threading.Event(), threading.Event()

        def block(seen: Any, read: int) -> None:
            if seen.method == "PUT" and seen.target.startswith("/2"):
                began.set()
                gate.wait(60)

        way.aws.on_block = block
        assert answer(way, approval, carol) == 200
        first.result(60)
        second = pool.submit(lambda: s3.put_object(Bucket="ends", Key="2", Body=bytes(30 << 20)))
        assert began.wait(30)
        eventually(lambda: state(way, approval, carol) == "expired", what="the grant's end")
        gate.set()
        with pytest.raises(Exception, match=r"expired|closed|reset"):
            second.result(60)
    assert "2" not in way.aws.s3.buckets["ends"].objects


def test_a_crash_while_held(way: Way, carol: str) -> None:
    """The question stays, nothing is granted by the restart, with or without an index; the SDK's next call uses the grant."""
    env = way.gateway.session(subject="alice")
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env)
        approval = asked(way, env, carol)
        way.gateway.kill()
        with pytest.raises(BotoCoreError):
            held.result(60)
    for path in way.gateway.recordings.glob("index.db*"):
        path.unlink()
    way.gateway.start()
    assert state(way, approval, carol) == "open" and sent(way, "TerminateInstances") == 0
    assert answer(way, approval, carol) == 200
    assert not isinstance(call(env), tuple)
    assert sent(way, "TerminateInstances") == 1 and state(way, approval, carol) == "spent"
    assert records(way, "approval", event="unknown") == []


def test_show_tells_all_of_an_approval(way: Way, carol: str) -> None:
    """`flowwarden show FLOW`: who asked, looked, answered and used, when, and for which request."""
    env = way.gateway.session(subject="alice")
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env)
        approval = asked(way, env, carol)
        state(way, approval, carol)
        assert answer(way, approval, carol, reason="ticket 7") == 200
        assert not isinstance(held.result(60), tuple)
    assert mine(way, env, carol) == []
    flow = records(way, "intent", approval=approval)[0]["flow"]
    found = json.loads(way.gateway.run("show", flow, "--json").stdout)["approval"]
    assert [record["event"] for record in found] == ["asked", "viewed", "answered", "approved", "used"]
    assert found[0]["flow"] == found[-1]["flow"] == flow
    shown = way.gateway.run("show", flow, env={"COLUMNS": "200"}).stdout
    for text in (f"Approval {approval}", "viewed", "answered", "carol", "ticket 7", "used", found[0]["digest"][:16]):
        assert text in shown, shown
