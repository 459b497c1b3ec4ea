"""Held calls in a real gateway: late answers, retries, races, clients that leave, just-in-time access, a crash."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from approval_way import BODY, EC2, answer, asked, call, mine, post, rule, sent, signed, state, waiting, way_with
from botocore.exceptions import ClientError

from support.clients import boto_client, eventually
from support.gateway import REGION
from support.h2client import Http2Client
from support.issuer import OidcIssuer
from support.tools import AwsCli, NodeSdk
from support.way import Way

MANY = 500 if os.environ.get("FLOWWARDEN_SOAK") else 100


RULES = [
    rule("TerminateInstances"),
    rule("StopInstances", hold="200ms"),
    rule("RebootInstances", scope="operation"),
    rule("StartInstances", scope="session", **{"for": "30m"}, actions=["ec2:StartInstances", "ec2:MonitorInstances"]),
    rule("DeleteVolume", approvers={"groups": ["sre"], "count": 2}),
    rule("DeleteTable", hold="200ms", actions=["dynamodb:DeleteTable"]),
    rule("PutTagged", actions=["s3:PutObject"], params={"Key": ["held/*"]}),
]


@pytest.fixture(scope="module")
def _way(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    with way_with(tmp_path_factory.mktemp("held"), issuer, *RULES) as way:
        yield way


@pytest.mark.parametrize("approve", [True, False])
def test_an_upload_that_is_small_enough_is_read_and_held(
    way: Way, env: dict[str, str], carol: str, approve: bool
) -> None:
    """boto3 streams every upload to S3; an approval is for exactly one body, so this one is read before anybody is asked."""
    bucket, key = "held-uploads", f"held/{approve}"
    s3 = boto_client("s3", env)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: s3.put_object(Bucket=bucket, Key=key, Body=b"five!"))
        approval = asked(way, env, carol)
        assert not [seen for seen in way.calls if seen.method == "PUT" and key in seen.target], (
            "it left before it was approved"
        )
        assert answer(way, approval, carol, approve, "looked at") == 200
        if approve:
            assert running.result(60)["ETag"]
            assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"five!"
        else:
            with pytest.raises(ClientError, match="looked at"):
                running.result(60)
            assert not [seen for seen in way.calls if seen.method == "PUT" and key in seen.target]


def test_a_late_answer(way: Way, env: dict[str, str], carol: str) -> None:
    """ApprovalPending says where to ask; the status is there; the retry uses the grant; the next one is a new question."""
    code, message = call(env, "stop_instances")
    (question,) = mine(way, env, carol)
    assert code == "ApprovalPending"
    assert question["id"] in message
    status, told = way.gateway.internal("GET", f"/approvals/{question['id']}", credential=env["FLOWWARDEN_HANDLE"])
    assert (status, json.loads(told)["state"]) == (200, "open")
    assert call(env, "stop_instances")[0] == "ApprovalPending"
    assert [q["id"] for q in mine(way, env, carol)] == [question["id"]], "the retry joins the open question"
    assert sent(way, "StopInstances") == 0
    assert answer(way, question["id"], carol) == 200
    assert not isinstance(call(env, "stop_instances"), tuple)
    assert sent(way, "StopInstances") == 1
    assert call(env, "stop_instances")[0] == "ApprovalPending"
    assert mine(way, env, carol)[0]["id"] != question["id"]


def test_anything_changed_is_a_new_question(way: Way, env: dict[str, str], carol: str) -> None:
    """Another instance, one more, another region: the grant is for what was approved."""
    assert call(env, "stop_instances")[0] == "ApprovalPending"
    approved = asked(way, env, carol)
    assert answer(way, approved, carol) == 200
    other = {**env, "AWS_REGION": "eu-west-1"}
    for params in ({"InstanceIds": ["i-2"]}, {"InstanceIds": ["i-1", "i-2"]}, {"InstanceIds": ["i-1"], "Force": True}):
        assert call(env, "stop_instances", **params)[0] == "ApprovalPending"
    assert call(other, "stop_instances")[0] == "ApprovalPending"
    assert len(mine(way, env, carol)) == 4
    assert sent(way, "StopInstances") == 0
    assert state(way, approved, carol) == "approved"


def test_one_execution_for_many_at_once(way: Way, env: dict[str, str], carol: str) -> None:
    """Twenty identical calls held at once are one question, and its approval is one execution."""
    with ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(call, env) for _ in range(20)]
        approval = asked(way, env, carol)
        eventually(lambda: waiting(way, approval) >= 20, what="twenty held calls")
        assert answer(way, approval, carol) == 200
        results = [done.result(60) for done in calls]
    assert sum(not isinstance(result, tuple) for result in results) == 1
    assert sent(way, "TerminateInstances") == 1
    assert state(way, approval, carol) == "spent"


def test_a_denial_reaches_the_agent(way: Way, env: dict[str, str], carol: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env)
        assert answer(way, asked(way, env, carol), carol, False, "use the\r\nX-Evil: staging account") == 200
        code, message = held.result(60)
    assert code == "AccessDenied"
    assert "use the X-Evil: staging account" in message
    assert sent(way, "TerminateInstances") == 0


def withdrawn(way: Way, approval: str, carol: str) -> None:
    """Within a second, and for good; nothing was forwarded."""
    left = time.monotonic()
    eventually(lambda: state(way, approval, carol) == "withdrawn", what="the withdrawal")
    assert time.monotonic() - left < 1.5
    assert answer(way, approval, carol) == 409
    assert sent(way, "TerminateInstances") == 0


def test_a_client_that_leaves(way: Way, env: dict[str, str], carol: str) -> None:
    """Over HTTP/1.1: noticed within a second, the question is withdrawn, an answer comes too late."""
    with way.tunnel(env, EC2) as client:
        post(client, env)
        approval = asked(way, env, carol)
    withdrawn(way, approval, carol)


@pytest.mark.parametrize("how", ["stream", "connection"])
def test_a_client_that_leaves_over_http2(way: Way, env: dict[str, str], carol: str, how: str) -> None:
    """A stream that is reset, and a connection that is closed."""
    client = way.gateway.client(env["FLOWWARDEN_HANDLE"])
    assert client.tunnel(EC2, alpn=("h2",)) == "h2"
    h2, (target, head) = Http2Client(client), signed(env)
    pseudo = [(":method", "POST"), (":authority", EC2), (":scheme", "https"), (":path", target)]
    stream = h2.open([*pseudo, *((n.lower(), v) for n, v in head if n.lower() != "host")], end=False)
    h2.send(stream, BODY, end=True)
    approval = asked(way, env, carol)
    if how == "stream":
        h2.reset(stream)
    else:
        client.close()
    withdrawn(way, approval, carol)
    client.close()


def test_one_of_two_that_leaves(way: Way, env: dict[str, str], carol: str) -> None:
    """An SDK that gave up on its first attempt and sent a second: the question stays, and is carried out once."""
    first, second = way.tunnel(env, EC2), way.tunnel(env, EC2)
    post(first, env)
    approval = asked(way, env, carol)
    post(second, env)
    eventually(lambda: waiting(way, approval) == 2, what="the second to join")
    first.close()
    eventually(lambda: "RequestWithdrawn" in json.dumps(way.gateway.evidence()[-5:]), what="the first one's end")
    assert state(way, approval, carol) == "open"
    assert answer(way, approval, carol) == 200
    assert second.reply("POST").status == 200
    second.close()
    assert sent(way, "TerminateInstances") == 1


def test_the_aws_cli(way: Way, env: dict[str, str], carol: str, aws_cli: AwsCli) -> None:
    """Held and approved; pending, then granted; denied: the CLI prints what a person needs to know."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(aws_cli, env, "ec2", "terminate-instances", "--instance-ids", "i-1")
        assert answer(way, asked(way, env, carol), carol) == 200
        assert held.result(60).returncode == 0, held.result().stderr
    pending = aws_cli(env, "ec2", "stop-instances", "--instance-ids", "i-1")
    approval = asked(way, env, carol)
    assert b"ApprovalPending" in pending.stderr and approval.encode() in pending.stderr
    assert answer(way, approval, carol) == 200
    assert aws_cli(env, "ec2", "stop-instances", "--instance-ids", "i-1").returncode == 0
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(aws_cli, env, "ec2", "terminate-instances", "--instance-ids", "i-2")
        assert answer(way, asked(way, env, carol), carol, False, "ask the owner first") == 200
        assert b"ask the owner first" in held.result(60).stderr
    assert (sent(way, "TerminateInstances"), sent(way, "StopInstances")) == (1, 1)


def test_the_javascript_sdk(way: Way, env: dict[str, str], carol: str, node_sdk: NodeSdk) -> None:
    """Pending by name and with the id; granted to the retry; denied with the reason."""
    delete = {"client": "DynamoDB", "command": "DeleteTable", "input": {"TableName": "t"}}
    (pending,) = node_sdk(env, delete)
    approval = asked(way, env, carol)
    assert pending["name"] == "ApprovalPending" and approval in pending["message"]
    assert answer(way, approval, carol) == 200
    done, again = node_sdk(env, delete, delete)
    assert done["ok"], done
    assert again["name"] == "ApprovalPending"
    assert answer(way, asked(way, env, carol), carol, False, "never") == 200
    assert sent(way, "DeleteTable") == 1


def test_two_people(way: Way, env: dict[str, str], carol: str, issuer: OidcIssuer) -> None:
    """The second approval lets it pass, and the same person's second is none."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env, "delete_volume", VolumeId="vol-1")
        approval = asked(way, env, carol)
        assert answer(way, approval, carol) == 200
        assert answer(way, approval, issuer.token("carol", ("sre", "platform"), owner=None)) == 200
        assert state(way, approval, carol) == "open"
        assert not held.done()
        assert answer(way, approval, issuer.token("dave", ("sre",), owner=None)) == 200
        assert not isinstance(held.result(60), tuple)


def test_an_operation_for_a_time(way: Way, env: dict[str, str], carol: str) -> None:
    """Scope operation: the same operation on the same resources passes again, on others it does not."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env, "reboot_instances")
        approval = asked(way, env, carol)
        assert answer(way, approval, carol) == 200
        assert not isinstance(held.result(60), tuple)
        assert not isinstance(call(env, "reboot_instances"), tuple)
        assert sent(way, "RebootInstances") == 2
        other = pool.submit(call, env, "reboot_instances", InstanceIds=["i-2"])
        second = asked(way, env, carol)
        assert answer(way, second, carol, False) == 200
        assert other.result(60)[0] == "AccessDenied"
    assert way.gateway.operators("POST", f"/approvals/{approval}/revoke", carol, {"reason": "done"})[0] == 200
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(call, env, "reboot_instances")
        assert answer(way, asked(way, env, carol), carol, False) == 200
        assert again.result(60)[0] == "AccessDenied"
    assert sent(way, "RebootInstances") == 2


def test_a_masked_resource_is_still_the_one_that_was_approved(way: Way, env: dict[str, str], carol: str) -> None:
    """Approvers see a mask in its place; the grant for the operation is for that resource all the same, and no other."""
    one, two = ("ghp_" + secrets.token_hex(18) for _ in range(2))
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env, "reboot_instances", InstanceIds=[one])
        approval = asked(way, env, carol)
        assert one not in json.dumps(way.gateway.operators("GET", f"/approvals/{approval}", carol)[1])
        assert answer(way, approval, carol) == 200
        assert not isinstance(held.result(60), tuple)
        assert not isinstance(call(env, "reboot_instances", InstanceIds=[one]), tuple)
        other = pool.submit(call, env, "reboot_instances", InstanceIds=[two])
        assert answer(way, asked(way, env, carol), carol, False) == 200
        assert other.result(60)[0] == "AccessDenied"


def test_just_in_time_access(way: Way, env: dict[str, str], carol: str) -> None:
    """Scope session: what the rule names, on anything, until it is revoked or the session ends; not in another session."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env, "start_instances")
        approval = asked(way, env, carol)
        assert answer(way, approval, carol) == 200
        assert not isinstance(held.result(60), tuple)
        assert not isinstance(call(env, "start_instances", InstanceIds=["i-7"]), tuple)
        assert not isinstance(call(env, "monitor_instances"), tuple)
        stranger = way.gateway.session(subject="alice")
        theirs = pool.submit(call, stranger, "start_instances")
        assert answer(way, asked(way, stranger, carol), carol, False) == 200
        assert theirs.result(60)[0] == "AccessDenied"
        way.gateway.operators("POST", f"/approvals/{approval}/revoke", carol, {})
        after = pool.submit(call, env, "monitor_instances")
        assert answer(way, asked(way, env, carol), carol, False) == 200
        assert after.result(60)[0] == "AccessDenied"


def test_the_end_of_the_session(way: Way, env: dict[str, str], carol: str) -> None:
    """Ends what is held at once, and its questions with it."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env)
        approval = asked(way, env, carol)
        assert way.gateway.internal("DELETE", "/session", credential=env["FLOWWARDEN_HANDLE"])[0] == 200
        assert isinstance(held.result(10), tuple)
    assert state(way, approval, carol) == "withdrawn"
    assert sent(way, "TerminateInstances") == 0


def test_everything_is_in_the_evidence(way: Way, env: dict[str, str], carol: str) -> None:
    """Question, view, answer and use: with who and which digest, in order."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env)
        approval = asked(way, env, carol)
        state(way, approval, carol)
        assert answer(way, approval, carol, reason="ticket 7") == 200
        assert not isinstance(held.result(60), tuple)

    def told() -> list[dict[str, Any]]:
        return [r for r in way.gateway.evidence() if r["type"] == "approval" and r.get("approval") == approval]

    records = eventually(lambda: told() if any(r["event"] == "used" for r in told()) else None, what="the use's record")
    assert [record["event"] for record in records] == ["asked", "viewed", "answered", "approved", "used"]
    assert records[2]["by"]["subject"] == "carol" and records[2]["reason"] == "ticket 7"
    assert len({record["digest"] for record in records}) == 1


def test_many_held_while_others_pass(way: Way, env: dict[str, str], carol: str) -> None:
    """Held calls cost others nothing: a call beside them takes about as long as before."""
    sts = boto_client("sts", env)

    def median() -> float:
        took = []
        for _ in range(21):
            start = time.perf_counter()
            sts.get_caller_identity()
            took.append(time.perf_counter() - start)
        return sorted(took)[10]

    median()
    alone = median()
    clients = []
    for number in range(MANY):
        clients.append(way.tunnel(env, EC2))
        post(clients[-1], env, BODY.replace(b"i-9", b"i-%d" % number))
    eventually(lambda: len(mine(way, env, carol)) == MANY, what="all of them held")
    beside = median()
    assert beside < 3 * alone + 0.02, (alone, beside)
    way.gateway.internal("DELETE", "/session", credential=env["FLOWWARDEN_HANDLE"])
    assert {client.reply("POST").status for client in clients} == {403}
    for client in clients:
        client.close()
    assert sent(way, "TerminateInstances") == 0


def test_on_timeout_allow(tmp_path: Path, issuer: OidcIssuer) -> None:
    """Nobody answers: it passes, as the rule says, and an alarm is in the evidence, at load and at use."""
    lenient = rule("StopInstances", hold="200ms", on_timeout="allow")
    with way_with(tmp_path, issuer, lenient) as way:
        gateway = way.gateway
        assert sum(record["type"] == "alarm" for record in gateway.evidence()) == 1
        assert not isinstance(call(gateway.session(), "stop_instances"), tuple)
        assert sent(way, "StopInstances") == 1
        records = eventually(lambda: [r for r in gateway.evidence() if r.get("event") == "allowed"], what="the record")
        assert len(records) == 1
        assert sum(record["type"] == "alarm" for record in gateway.evidence()) == 2


def test_a_crash_keeps_what_was_answered(tmp_path: Path, issuer: OidcIssuer, carol: str) -> None:
    """kill -9: spent stays spent, open stays open, and a late grant is used once by the same session afterwards."""
    with way_with(tmp_path, issuer, *RULES) as way:
        gateway = way.gateway
        env = gateway.session(subject="alice")
        assert call(env, "stop_instances")[0] == "ApprovalPending"
        used = asked(way, env, carol)
        assert answer(way, used, carol) == 200
        assert not isinstance(call(env, "stop_instances"), tuple)
        assert call(env, "stop_instances", InstanceIds=["i-2"])[0] == "ApprovalPending"
        late = asked(way, env, carol)
        gateway.kill()
        gateway.start()
        assert state(way, used, carol) == "spent"
        assert state(way, late, carol) == "open"
        assert call(env, "stop_instances")[0] == "ApprovalPending", "a spent grant lets nothing pass"
        assert answer(way, late, carol) == 200
        assert not isinstance(call(env, "stop_instances", InstanceIds=["i-2"]), tuple)
        assert call(env, "stop_instances", InstanceIds=["i-2"])[0] == "ApprovalPending"
        assert sent(way, "StopInstances") == 2
