"""Uploads that need an approval and are too large for memory: read to disk, hashed, held, and sent from there."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.chunks import chunked_upload
from support.clients import Keys, ProxyClient, boto_client, eventually, sign
from support.gateway import POLICY, REGION
from support.h2client import Http2Client
from support.issuer import OidcIssuer
from support.tools import AwsCli
from support.way import Way

BUCKET = "uploads"
HOST = f"{BUCKET}.s3.{REGION}.amazonaws.com"
SIZE = 3 << 20  # three times what is held in memory
DATA = os.urandom(SIZE)
SHA = hashlib.sha256(DATA).hexdigest()


def rule(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "effect": "approve",
        "actions": ["s3:PutObject"],
        "resources": [f"arn:aws:s3:::{BUCKET}/{name}*"],
        "approvers": {"groups": ["sre"]},
        "hold": "20s",
        "expires": "60s",
        **changes,
    }


@pytest.fixture(scope="module")
def _way(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    rules = [*POLICY["rules"], rule("held"), rule("late", hold="200ms"), rule("jit", scope="session", **{"for": "30m"})]
    options = {"warden_body_limit": "1m", "warden_spool_limit": "8m", "warden_http2_hosts": ["*.s3.*"]}
    policy = POLICY | {"rules": rules}
    with Way.opened(tmp_path_factory.mktemp("uploads"), issuer, policy=policy, options=options) as way:
        s3 = boto_client("s3", way.gateway.session())
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield way


@pytest.fixture
def way(way: Way) -> Iterator[Way]:
    yield way
    eventually(lambda: not spools(way), what="the end of every spool")


def spools(way: Way) -> list[str]:
    """The gateway's open files in its state folder that have no name."""
    assert way.gateway.process
    found = []
    for link in Path(f"/proc/{way.gateway.process.pid}/fd").iterdir():
        try:
            found.append(os.readlink(link))
        except OSError:
            continue
    return [name for name in found if name.startswith(str(way.gateway.state)) and name.endswith("(deleted)")]


def asked(way: Way, env: dict[str, str], token: str) -> dict[str, Any]:
    """The one open question of a session, whole."""

    def mine() -> list[dict[str, Any]]:
        return [q for q in way.gateway.questions(token) if q["session"] == env["FLOWWARDEN_SESSION"]]

    (question,) = eventually(mine, what="a question")
    return way.gateway.operators("GET", f"/approvals/{question['id']}", token)[1]


def answer(way: Way, approval: str, token: str, approve: bool = True, reason: str = "looked at") -> None:
    body = {"approve": approve, "reason": reason}
    assert way.gateway.operators("POST", f"/approvals/{approval}/answer", token, body)[0] == 200


def stopped(way: Way) -> tuple[threading.Event, threading.Event]:
    """AWS reads no further than a body's first block until the first event is set; the second says that it has come."""
    gate, began = threading.Event(), threading.Event()

    def block(seen: Any, read: int) -> None:
        if seen.method == "PUT":  # not the lease's own call
            began.set()
            gate.wait(60)

    way.aws.on_block = block
    return gate, began


def puts(way: Way, key: str) -> list[Any]:
    return [seen for seen in way.calls if seen.method == "PUT" and key in seen.target]


def stored(way: Way, key: str) -> bytes:
    return bytes(way.aws.s3.buckets[BUCKET].objects[key].data)


@pytest.mark.parametrize("checksum", ["when_supported", "when_required"])
@pytest.mark.parametrize("approve", [True, False])
def test_boto3(way: Way, env: dict[str, str], carol: str, approve: bool, checksum: str) -> None:
    """With and without an unsigned trailer: held after it was read, sent when approved; AWS sees the very bytes."""
    from botocore.config import Config

    key = f"held/boto3-{approve}-{checksum}"
    s3 = boto_client("s3", env, config=Config(request_checksum_calculation=checksum))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: s3.put_object(Bucket=BUCKET, Key=key, Body=DATA))
        question = asked(way, env, carol)
        summary = question["summary"]
        assert summary["body_sha256"] == SHA and summary["body_bytes"] >= SIZE and summary["body"] == ""
        assert len(spools(way)) == 1 and not puts(way, key)
        answer(way, question["id"], carol, approve)
        if approve:
            assert running.result(60)["ETag"]
        else:
            with pytest.raises(ClientError, match="looked at"):
                running.result(60)
    if approve:
        (seen,) = puts(way, key)
        assert seen.sha256 == SHA and not way.aws.refused
    else:
        assert not puts(way, key)


def test_a_late_answer(way: Way, env: dict[str, str], carol: str) -> None:
    """Another date, another signature, other chunks: the retry is the same upload, and uses the grant once."""
    s3 = boto_client("s3", env)
    with pytest.raises(ClientError, match="ApprovalPending"):
        s3.put_object(Bucket=BUCKET, Key="late/1", Body=DATA)
    question = asked(way, env, carol)
    answer(way, question["id"], carol)
    with pytest.raises(ClientError, match="ApprovalPending"):  # one byte changed (fault 33)
        s3.put_object(Bucket=BUCKET, Key="late/1", Body=DATA[:-1] + bytes([DATA[-1] ^ 1]))
    assert not puts(way, "late/1")
    s3.put_object(Bucket=BUCKET, Key="late/1", Body=DATA)
    with pytest.raises(ClientError, match="ApprovalPending"):
        s3.put_object(Bucket=BUCKET, Key="late/1", Body=DATA)
    (seen,) = puts(way, "late/1")
    assert seen.sha256 == SHA


@pytest.mark.parametrize(("signed", "trailer"), [(True, False), (True, True), (False, True)])
def test_chunks(way: Way, env: dict[str, str], carol: str, signed: bool, trailer: bool) -> None:
    """Chunk signatures are checked before anybody is asked, and made again as the body leaves; a retry may cut otherwise."""
    key = f"late/chunks-{signed}-{trailer}"

    def put(size: int, break_at: int = 0) -> Any:
        fields, body = chunked_upload(
            Keys.of(env), f"https://{HOST}/{key}", DATA, size, region=REGION, trailer=trailer, signed=signed
        )
        if break_at:
            body = body[:break_at] + bytes([body[break_at] ^ 1]) + body[break_at + 1 :]
        with way.tunnel(env, HOST) as client:
            return client.request("PUT", f"/{key}", fields, body)

    if signed:
        broken = put(1 << 18, 2 << 20)
        assert broken.status == 403 and "SignatureDoesNotMatch" in broken.text
        assert not [q for q in way.gateway.questions(carol) if q["session"] == env["FLOWWARDEN_SESSION"]]
    assert put(1 << 18).status == 403
    question = asked(way, env, carol)
    assert question["summary"]["body_sha256"] == SHA
    answer(way, question["id"], carol)
    done = put(1 << 17)
    assert done.status == 200, done.text
    (seen,) = puts(way, key)
    assert seen.sha256 == SHA and not way.aws.refused


def head(
    env: dict[str, str], key: str, *fields: tuple[str, str], data: bytes = DATA
) -> tuple[str, list[tuple[str, str]]]:
    return sign(
        Keys.of(env),
        "PUT",
        f"https://{HOST}/{key}",
        service="s3",
        region=REGION,
        fields=fields,
        payload="UNSIGNED-PAYLOAD",
    )


def test_expect_100_continue(way: Way, env: dict[str, str], carol: str) -> None:
    """The client may send as soon as the call is not denied: there is nothing to approve before the body is known."""
    target, fields = head(env, "held/expect", ("Content-Length", str(SIZE)))
    with way.tunnel(env, HOST) as client:
        client.stream.send_head(f"PUT {target} HTTP/1.1", [*fields, ("Expect", "100-continue")])
        first = client.stream.head()
        assert first is not None and first.status == 100
        client.send(DATA)
        answer(way, asked(way, env, carol)["id"], carol)
        assert client.reply("PUT").status == 200
    assert puts(way, "held/expect")[0].sha256 == SHA


def test_a_length_that_is_not_announced(way: Way, env: dict[str, str], carol: str) -> None:
    target, fields = head(env, "held/chunked", ("Transfer-Encoding", "chunked"))
    with way.tunnel(env, HOST) as client:
        client.stream.send_head(f"PUT {target} HTTP/1.1", fields)
        for at in range(0, SIZE, 1 << 20):
            client.send(b"100000\r\n" + DATA[at : at + (1 << 20)] + b"\r\n")
        client.send(b"0\r\n\r\n")
        answer(way, asked(way, env, carol)["id"], carol)
        client.reply("PUT")
    assert puts(way, "held/chunked")[0].sha256 == SHA


def test_over_http2(way: Way, env: dict[str, str], carol: str) -> None:
    client = way.gateway.client(env["FLOWWARDEN_HANDLE"])
    assert client.tunnel(HOST, alpn=("h2",)) == "h2"
    h2, (target, fields) = Http2Client(client), head(env, "held/h2", ("Content-Length", str(SIZE)))
    pseudo = [(":method", "PUT"), (":authority", HOST), (":scheme", "https"), (":path", target)]
    stream = h2.open([*pseudo, *((n.lower(), v) for n, v in fields if n.lower() != "host")], end=False)
    h2.send(stream, DATA, end=True)
    answer(way, asked(way, env, carol)["id"], carol)
    assert h2.wait(stream).status == 200
    client.close()
    assert puts(way, "held/h2")[0].sha256 == SHA


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit(way: Way, env: dict[str, str], announced: bool) -> None:
    """413 in S3's own form: at once where it is announced, else as soon as it is seen."""
    length = ("Content-Length", str(9 << 20)) if announced else ("Transfer-Encoding", "chunked")
    target, fields = head(env, "held/large", length)
    with way.tunnel(env, HOST) as client:
        client.stream.send_head(f"PUT {target} HTTP/1.1", fields)
        if not announced:
            for _ in range(9):
                client.send(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
        reply = client.reply("PUT")
    assert reply.status == 413
    assert "<Code>RequestEntityTooLarge</Code>" in reply.text and "warden_spool_limit" in reply.text
    assert not puts(way, "held/large")


@pytest.mark.parametrize("when", ["sending", "held"])
def test_a_client_that_leaves(way: Way, env: dict[str, str], carol: str, when: str) -> None:
    """Its spool is gone, its question withdrawn, nothing was sent."""
    target, fields = head(env, f"held/left-{when}", ("Content-Length", str(SIZE)))
    client: ProxyClient = way.tunnel(env, HOST)
    client.stream.send_head(f"PUT {target} HTTP/1.1", fields)
    client.send(DATA[: SIZE if when == "held" else 2 << 20])
    eventually(lambda: spools(way), what="a spool")
    approval = asked(way, env, carol)["id"] if when == "held" else ""
    client.close()
    eventually(lambda: not spools(way), timeout=1.5, what="the spool's end")
    if approval:
        state = way.gateway.operators("GET", f"/approvals/{approval}", carol)[1]["state"]
        assert state == "withdrawn"
    assert not puts(way, "held/left")


def test_a_client_that_leaves_while_it_is_sent(way: Way, env: dict[str, str], carol: str) -> None:
    """AWS sees a body without its end, and stores nothing."""
    gate, began = stopped(way)
    target, fields = head(env, "held/gone", ("Content-Length", str(SIZE)))
    client: ProxyClient = way.tunnel(env, HOST)
    client.stream.send_head(f"PUT {target} HTTP/1.1", fields)
    client.send(DATA)
    answer(way, asked(way, env, carol)["id"], carol)
    assert began.wait(30)
    client.close()
    eventually(lambda: not spools(way), timeout=5, what="the spool's end")
    gate.set()
    way.aws.wait_for(lambda aws: bool(aws.truncated))
    assert "held/gone" not in way.aws.s3.buckets[BUCKET].objects


def test_an_upload_under_a_session_grant_streams(way: Way, env: dict[str, str], carol: str) -> None:
    """The first one is read and held; what the grant covers is not even read to disk, and ends with it."""
    s3 = boto_client("s3", env)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: s3.put_object(Bucket=BUCKET, Key="jit/1", Body=DATA))
        question = asked(way, env, carol)
        answer(way, question["id"], carol)
        first.result(60)
        gate, began = stopped(way)
        second = pool.submit(lambda: s3.put_object(Bucket=BUCKET, Key="jit/2", Body=os.urandom(7 << 20)))
        assert began.wait(30)
        assert not spools(way)
        assert way.gateway.operators("POST", f"/approvals/{question['id']}/revoke", carol, {"reason": "stop"})[0] == 200
        gate.set()
        with pytest.raises(Exception, match=r"revoked|closed|reset"):
            second.result(60)
    assert "jit/2" not in way.aws.s3.buckets[BUCKET].objects


def test_the_aws_cli(way: Way, env: dict[str, str], carol: str, aws_cli: AwsCli, tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(DATA)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(
            aws_cli, env, "s3api", "put-object", "--bucket", BUCKET, "--key", "held/cli", "--body", str(file)
        )
        answer(way, asked(way, env, carol)["id"], carol)
        assert held.result(60).returncode == 0, held.result().stderr
    assert puts(way, "held/cli")[0].sha256 == SHA


def test_the_evidence(way: Way, env: dict[str, str], carol: str) -> None:
    """The intent has the hash of what was approved, and the kept body is that; verify agrees."""
    s3 = boto_client("s3", env)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: s3.put_object(Bucket=BUCKET, Key="held/evidence", Body=DATA))
        question = asked(way, env, carol)
        answer(way, question["id"], carol)
        running.result(60)
    intent = next(r for r in reversed(way.gateway.evidence()) if r["type"] == "intent")
    outcome = next(
        r for r in reversed(way.gateway.evidence()) if r["type"] == "outcome" and r["flow"] == intent["flow"]
    )
    (body,) = outcome["bodies"]
    assert intent["approval"] == question["id"]
    assert intent["request_sha256"] == body["sha256"] and body["kept"] and intent["request_bytes"] == body["size"]
    assert way.gateway.run("verify").returncode == 0


@pytest.mark.parametrize("key", ["held/ended", "jit/ended", "free/ended"])
def test_a_session_that_ends_takes_its_uploads_with_it(
    way: Way, env: dict[str, str], carol: str, issuer: OidcIssuer, key: str
) -> None:
    """One that waited on disk, one under a standing grant, and one that no rule asks about: AWS sees none of them whole."""
    size = 7 << 20
    gate, began = stopped(way)
    target, fields = head(env, key, ("Content-Length", str(size)))
    with way.tunnel(env, HOST) as client:
        client.stream.send_head(f"PUT {target} HTTP/1.1", fields)
        free = key.startswith("free")
        client.send(bytes(size - 1 if free else size))
        if not free:
            answer(way, asked(way, env, carol)["id"], carol)
        assert began.wait(30)
        admin = issuer.token("root", ("platform",), owner=None)
        assert way.gateway.operators("DELETE", f"/sessions/{env['FLOWWARDEN_SESSION']}", admin)[0] == 200
        gate.set()
        if free:
            client.send(b"x")
        way.aws.wait_for(lambda aws: bool(aws.truncated or puts(way, key)[0].state == "accepted"))
    assert way.aws.truncated and key not in way.aws.s3.buckets[BUCKET].objects
