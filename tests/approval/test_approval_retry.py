"""An SDK that retries while its call is held, is carried out, or was: one question, one execution, the same answer."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from approval_way import EC2, answer, asked, mine, post, rule, sent, state, waiting, way_with
from botocore.config import Config
from botocore.exceptions import ClientError

from support.clients import ProxyClient, boto_client, eventually
from support.issuer import OidcIssuer
from support.strict_aws import Answer, Exchange
from support.tools import AwsCli, NodeSdk
from support.way import Way


@pytest.fixture(scope="module")
def _way(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    rules = [rule("TerminateInstances"), rule("DeleteTable", actions=["dynamodb:DeleteTable"])]
    with way_with(tmp_path_factory.mktemp("retry"), issuer, *rules) as way:
        yield way


def events(way: Way, approval: str) -> list[str]:
    found = [r for r in way.gateway.evidence() if r["type"] == "approval" and r.get("approval") == approval]
    return [record["event"] for record in found]


def retried(way: Way, env: dict[str, str], carol: str) -> str:
    """The question's id, once the client has given up on an attempt and another is held."""
    approval = asked(way, env, carol)
    eventually(lambda: "reopened" in events(way, approval), what="a second attempt")
    return approval


def approved(way: Way, approval: str, carol: str) -> None:
    """Approves while an attempt is held; between two there is nobody who waits."""
    eventually(lambda: answer(way, approval, carol) == 200, what="an attempt that is held")


def test_boto3(way: Way, env: dict[str, str], carol: str) -> None:
    """read_timeout of a second: it gives up and tries again, until somebody has answered."""
    retries = {"total_max_attempts": 20, "mode": "standard"}
    ec2 = boto_client("ec2", env, config=Config(read_timeout=1, retries=retries))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: ec2.terminate_instances(InstanceIds=["i-1"]))
        approval = retried(way, env, carol)
        approved(way, approval, carol)
        assert running.result(60)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert sent(way, "TerminateInstances") == 1
    assert state(way, approval, carol) == "spent"
    assert events(way, approval).count("asked") == 1 and mine(way, env, carol) == []


def test_the_javascript_sdk(way: Way, env: dict[str, str], carol: str, node_sdk: NodeSdk) -> None:
    delete = {"client": "DynamoDB", "command": "DeleteTable", "input": {"TableName": "t"}}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(node_sdk, {**env, "TEST_TIMEOUT": "1000", "TEST_ATTEMPTS": "20"}, delete)
        approval = retried(way, env, carol)
        approved(way, approval, carol)
        (done,) = running.result(60)
    assert done["ok"], done
    assert sent(way, "DeleteTable") == 1
    assert events(way, approval).count("asked") == 1 and mine(way, env, carol) == []


def test_the_aws_cli(way: Way, env: dict[str, str], carol: str, aws_cli: AwsCli) -> None:
    arguments = ("--cli-read-timeout", "1", "ec2", "terminate-instances", "--instance-ids", "i-1")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(aws_cli, {**env, "AWS_MAX_ATTEMPTS": "20"}, *arguments)
        approval = retried(way, env, carol)
        approved(way, approval, carol)
        assert running.result(60).returncode == 0, running.result().stderr
    assert sent(way, "TerminateInstances") == 1


def attempt(way: Way, env: dict[str, str], invocation: str) -> ProxyClient:
    """Sends one attempt of an invocation and does not wait for its answer."""
    client = way.tunnel(env, EC2)
    post(client, env, fields=[("amz-sdk-invocation-id", invocation)] if invocation else [])
    return client


def test_two_attempts_that_are_both_connected(way: Way, env: dict[str, str], carol: str) -> None:
    """A first connection that died unseen: the call is carried out once, and whoever still listens gets its answer."""
    invocation = str(uuid.uuid4())
    first, second = attempt(way, env, invocation), attempt(way, env, invocation)
    approval = asked(way, env, carol)
    eventually(lambda: waiting(way, approval) == 2, what="the second to join")
    assert answer(way, approval, carol) == 200
    one, two = first.reply("POST"), second.reply("POST")
    assert (one.status, two.status) == (200, 200) and one.body == two.body
    assert sent(way, "TerminateInstances") == 1
    notes = [r["notes"] for r in way.gateway.evidence() if r["type"] == "outcome" and r.get("notes")]
    assert len(notes) == 1 and "a retry" in notes[0][0]
    late = attempt(way, env, invocation)  # an answer that was lost on its way back
    assert late.reply("POST").body == one.body
    assert sent(way, "TerminateInstances") == 1 and mine(way, env, carol) == []
    assert way.gateway.run("verify").returncode == 0


@pytest.mark.parametrize("invocation", ["another", "none", "short", "a session's"])
def test_what_is_no_retry(way: Way, env: dict[str, str], carol: str, invocation: str) -> None:
    """Another invocation, none, one that is none, or another session's: a new question. The id opens nothing."""
    known = str(uuid.uuid4())
    used = {"another": str(uuid.uuid4()), "none": "", "short": "1", "a session's": known}[invocation]
    first = attempt(way, env, "1" if invocation == "short" else known)
    approval = asked(way, env, carol)
    assert answer(way, approval, carol) == 200
    assert first.reply("POST").status == 200
    asker = way.gateway.session(subject="alice") if invocation == "a session's" else env
    second = attempt(way, asker, used)
    assert answer(way, asked(way, asker, carol), carol, False, "enough") == 200
    assert "enough" in second.reply("POST").text
    assert sent(way, "TerminateInstances") == 1


def test_a_retry_of_a_call_whose_answer_was_lost(way: Way, env: dict[str, str], carol: str) -> None:
    """AWS is slow, the SDK gives up after the grant was used: it is told so, and nothing is carried out twice."""
    gate, began = threading.Event(), threading.Event()

    def slow(exchange: Exchange) -> Answer | None:
        if exchange.seen.service == "ec2":
            began.set()
            gate.wait(60)
        return None

    way.aws.answer(slow)
    retries = {"total_max_attempts": 3, "mode": "standard"}
    ec2 = boto_client("ec2", env, config=Config(read_timeout=2, retries=retries))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: ec2.terminate_instances(InstanceIds=["i-1"]))
        approved(way, asked(way, env, carol), carol)
        assert began.wait(30)
        with pytest.raises(ClientError, match="OutcomeUnknown"):
            running.result(60)
    gate.set()
    assert (
        len([r for r in way.gateway.evidence() if r["type"] == "intent" and r["session"] == env["FLOWWARDEN_SESSION"]])
        == 1
    )
    outcomes = [
        r for r in way.gateway.evidence() if r["type"] == "outcome" and r["session"] == env["FLOWWARDEN_SESSION"]
    ]
    assert [r["outcome"] for r in outcomes if r["intent"]] == ["cut"]
    assert json.dumps(outcomes[-1]).count("OutcomeUnknown") == 1


def test_what_fails_may_be_asked_again(way: Way, env: dict[str, str], carol: str) -> None:
    """AWS's own 503 is what became of the grant's one use; the SDK's retry asks anew, and is approved anew."""
    busy = [True]

    def script(exchange: Exchange) -> Answer | None:
        if exchange.seen.service != "ec2" or not busy:
            return None
        exchange.read()
        busy.clear()
        return (
            503,
            {"Content-Type": "text/xml"},
            b"<Response><Errors><Error><Code>Unavailable</Code></Error></Errors></Response>",
        )

    way.aws.answer(script)
    ec2 = boto_client("ec2", env, config=Config(retries={"total_max_attempts": 3, "mode": "standard"}))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: ec2.terminate_instances(InstanceIds=["i-1"]))
        first = asked(way, env, carol)
        assert answer(way, first, carol) == 200
        eventually(lambda: not busy, what="AWS's refusal")
        second = asked(way, env, carol)
        assert second != first
        assert answer(way, second, carol) == 200
        running.result(60)
    assert sent(way, "TerminateInstances") == 2
