"""What a hostile agent tries from inside its container: through its own session, with its own keys, in any bytes."""

from __future__ import annotations

import base64
import json
import re
import secrets
import string
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clients import Keys, Reply, eventually, sign
from support.gateway import POLICY, REGION, ROLE, identity
from support.issuer import OidcIssuer
from support.strict_aws import Answer, Exchange
from support.way import Way

OTHER = "210987654321"
RULES = [
    {"id": "not-in-the-other-account", "effect": "deny", "actions": ["ec2:StopInstances"], "accounts": [OTHER]},
    {
        "id": "allowed-in-silence",
        "effect": "approve",
        "actions": ["ec2:RebootInstances"],
        "approvers": {"groups": ["sre"], "count": 1},
        "scope": "request",
        "hold": "3s",
        "expires": "60s",
        "on_timeout": "allow",
    },
]
LENT = {"groups": ["developers"], "assume_role": ROLE, "accounts": [ROLE.split(":")[4], OTHER], "duration": "15m"}


@pytest.fixture(scope="module")
def _way(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    policy = POLICY | {"rules": [*POLICY["rules"], *RULES]}
    rules = identity(issuer, credentials=[LENT])
    with Way.opened(tmp_path_factory.mktemp("agent"), issuer, policy=policy, identity_rules=rules) as way:
        yield way


@pytest.fixture
def way(_way: Way) -> Iterator[Way]:
    with _way.fresh() as way:
        yield way


@pytest.fixture(scope="module")
def alice(_way: Way) -> dict[str, str]:
    return _way.gateway.session(subject="alice")


def token() -> str:
    return "ghp_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(36))


def fetch(way: Way, env: dict[str, str], url: str, *fields: tuple[str, str]) -> Reply:
    """A URL as it is, without a signature of the session's."""
    host = url.split("/")[2]
    with way.tunnel(env, host) as client:
        return client.request("GET", url.partition(host)[2], [("Host", host), *fields])


def presigned(way: Way, url: str) -> str:
    """A URL that somebody else's key has signed, and that AWS takes."""
    key = way.aws.new_key()
    target, _ = sign(Keys(key.key_id, key.secret), "GET", url, service="s3", region=REGION, presign=300)
    return f"https://{url.split('/')[2]}{target}"


def answer_of(way: Way, service: str, body: bytes, kind: str) -> None:
    def script(exchange: Exchange) -> Answer | None:
        if exchange.service != service:
            return None
        return 200, {"content-type": kind, "content-length": str(len(body))}, body

    way.aws.answer(script)


def test_secrets_in_the_answer_to_a_head_request(way: Way, alice: dict[str, str]) -> None:
    secret = token()

    def script(exchange: Exchange) -> Answer | None:
        if exchange.service != "s3":
            return None
        fields = {"content-length": "5", "content-type": "text/plain", "x-amz-meta-token": secret}
        return 200, fields, b"" if exchange.method == "HEAD" else b"hello"

    way.aws.answer(script)
    for method in ("GET", "HEAD"):
        reply = way.raw(alice, method, "https://bucket.s3.eu-central-1.amazonaws.com/k", service="s3")
        assert reply.status == 200 and reply.header("content-length") == "5"
        assert reply.header("x-amz-meta-token").startswith("[MASKED:github-token")


def test_a_presigned_url_that_an_agent_wrote_down_and_read_again(way: Way, alice: dict[str, str]) -> None:
    """A stranger's signature does not become AWS's by standing in an object: it would carry data anywhere."""
    url = presigned(way, "https://strangers-bucket.s3.eu-central-1.amazonaws.com/what-was-stolen")
    answer_of(way, "s3", url.encode(), "text/plain")
    assert way.raw(alice, "GET", "https://bucket.s3.eu-central-1.amazonaws.com/k", service="s3").body == url.encode()
    before = len(way.calls)
    reply = fetch(way, alice, url)
    assert reply.status == 403 and "InvalidAccessKeyId" in reply.text
    assert len(way.calls) == before


def test_a_part_of_what_an_issued_url_leads_to(way: Way, alice: dict[str, str]) -> None:
    """It is fetched wider, masked and cut, as any part of an object."""
    secret = token()
    body = b"x" * 100 + b" " + secret.encode() + b" " + b"y" * 100
    url = presigned(way, "https://awslambda-tasks.s3.eu-central-1.amazonaws.com/code")
    listing = json.dumps({"Configuration": {}, "Code": {"RepositoryType": "S3", "Location": url}})

    def script(exchange: Exchange) -> Answer | None:
        if exchange.service == "lambda":
            return 200, {"content-type": "application/json"}, listing.encode()
        first, _, last = exchange.seen.header("range").removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last), len(body) - 1)
        part = body[start : end + 1]
        return 206, {"content-type": "text/plain", "content-range": f"bytes {start}-{end}/{len(body)}"}, part

    way.aws.answer(script)
    function = "https://lambda.eu-central-1.amazonaws.com/2015-03-31/functions/f"
    assert way.raw(alice, "GET", function, service="lambda").status == 200
    parts = b""
    for start in (0, 110, 125):
        reply = fetch(way, alice, url, ("Range", f"bytes={start}-{start + (109 if not start else 14)}"))
        assert reply.status == 206
        parts += reply.body
    assert len(parts) == 140
    assert secret.encode()[:8] not in parts and secret.encode()[9:20] not in parts


def test_a_body_without_a_length_is_not_collected_for_whoever_asks(way: Way) -> None:
    """flowwarden.internal answers strangers too: they are given no memory."""
    with way.gateway.client() as client:
        head = "POST http://flowwarden.internal/session HTTP/1.1\r\nHost: flowwarden.internal\r\n"
        client.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
        assert client.reply().status == 413


def assumed(way: Way, env: dict[str, str], account: str) -> dict[str, str]:
    """The session's environment with phantoms for a role that the agent has assumed by itself."""
    body = (
        f"Action=AssumeRole&Version=2011-06-15&RoleSessionName=again"
        f"&RoleArn=arn%3Aaws%3Aiam%3A%3A{account}%3Arole%2Fagent-developer"
    )
    form = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
    url = "https://sts.eu-central-1.amazonaws.com/"
    reply = way.raw(env, "POST", url, service="sts", body=body.encode(), fields=(form,))
    assert reply.status == 200, reply.text

    def member(name: str) -> str:
        return reply.text.partition(f"<{name}>")[2].partition("<")[0]

    return env | {
        "AWS_ACCESS_KEY_ID": member("AccessKeyId"),
        "AWS_SECRET_ACCESS_KEY": member("SecretAccessKey"),
        "AWS_SESSION_TOKEN": member("SessionToken"),
    }


def ec2(way: Way, env: dict[str, str], action: str) -> Reply:
    form = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
    body = f"Action={action}&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0".encode()
    return way.raw(env, "POST", f"https://ec2.{REGION}.amazonaws.com/", service="ec2", body=body, fields=(form,))


def test_a_role_in_another_account_is_judged_as_that_account(way: Way, alice: dict[str, str]) -> None:
    """Rules for an account hold for calls with the keys of a role there, whichever account the session's lease is of."""
    assert ec2(way, alice, "StopInstances").status == 200
    other = assumed(way, alice, OTHER)
    before = len(way.calls)
    reply = ec2(way, other, "StopInstances")
    assert reply.status == 403 and "not-in-the-other-account" in reply.text
    assert len(way.calls) == before


def test_what_nobody_answered_is_judged_by_the_rules_of_now(way: Way, alice: dict[str, str]) -> None:
    """`on_timeout: allow` lets pass what the rules allowed when it was asked; if they have changed, it is asked anew."""
    before = len(way.calls)
    held: list[Reply] = []
    waiting = threading.Thread(target=lambda: held.append(ec2(way, alice, "RebootInstances")))
    waiting.start()
    try:
        denied = {"id": "no-reboot", "effect": "deny", "actions": ["ec2:RebootInstances"]}
        rules = [*POLICY["rules"], *RULES]
        eventually(lambda: "asked" in str(way.gateway.evidence()[-5:]), what="the question")
        way.gateway.write_rules("policy", POLICY | {"rules": [*rules, denied]})
        waiting.join(20)
    finally:
        way.gateway.write_rules("policy", POLICY | {"rules": [*POLICY["rules"], *RULES]})
    assert held and held[0].status == 403 and "the rules changed" in held[0].text
    assert len(way.calls) == before


def test_tls_to_the_proxy_itself_is_http1(way: Way, alice: dict[str, str]) -> None:
    """HTTP/2 is for the hosts that need it: its memory is not bounded."""
    client = way.gateway.client(alice["FLOWWARDEN_HANDLE"])
    assert client.start_tls("proxy.example.com", alpn=("h2", "http/1.1")) == "http/1.1"
    fields = [("Host", "flowwarden.internal"), *client.proxy_fields()]
    assert client.request("GET", "http://flowwarden.internal/whoami", fields).status == 200


def resident(way: Way) -> int:
    """Bytes of memory that the gateway has."""
    assert way.gateway.process is not None
    status = Path(f"/proc/{way.gateway.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the gateway's memory from /proc")
def test_bodies_that_nobody_completed_are_given_back(way: Way, alice: dict[str, str]) -> None:
    """Connections that send most of a large body and close leave nothing behind that adds up."""
    host = "dynamodb.eu-central-1.amazonaws.com"
    head = f"POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: DynamoDB_20120810.PutItem\r\n"
    head += "Content-Type: application/x-amz-json-1.0\r\nContent-Length: 30000001\r\n\r\n"
    before = resident(way)
    for _ in range(8):
        clients = [way.tunnel(alice, host) for _ in range(4)]
        for client in clients:
            client.send(head.encode())
            for _ in range(30):
                client.send(b"x" * 1_000_000)
        time.sleep(0.5)  # until the gateway has them all
        for client in clients:
            client.close()
    assert resident(way) - before < 350 << 20  # 960 MB were sent


def test_keys_in_a_request_are_in_no_recording(way: Way, alice: dict[str, str]) -> None:
    """Keys that the agent gives to S3 (SSE-C) or to another service open what they protect for every reader."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    name = "x-amz-server-side-encryption-customer-key"
    fields = (
        (f"{name}-algorithm", "AES256"),
        (name, key),
        (f"x-amz-copy-source-{name.removeprefix('x-amz-')}", key),
        ("api-key", key),
    )
    url = "https://bucket.s3.eu-central-1.amazonaws.com/kept"
    assert way.raw(alice, "GET", url, service="s3", fields=fields).status in (200, 404)
    files = [path for path in way.gateway.recordings.rglob("*") if path.is_file()]
    assert any(b"/kept" in path.read_bytes() for path in files)
    assert not [path for path in files if key.encode() in path.read_bytes()]


@pytest.mark.parametrize("wanted", ["Bytes=5-14", "bytes=5-14, 20-21", "bytes=5-14;q"])
def test_a_range_that_is_spelt_oddly(way: Way, alice: dict[str, str], wanted: str) -> None:
    """However it is spelt, and whatever S3 makes of it, half a secret does not pass."""
    body = b" " + token().encode() + b" " * 100

    def script(exchange: Exchange) -> Answer | None:
        if exchange.service != "s3":
            return None
        asked = exchange.seen.header("range").lower().removeprefix("bytes=")
        first, last = re.match(r"(\d+)-(\d+)", asked).groups()  # type: ignore[union-attr]
        start, end = int(first), min(int(last), len(body) - 1)
        return 206, {"content-range": f"bytes {start}-{end}/{len(body)}"}, body[start : end + 1]

    way.aws.answer(script)
    url = "https://bucket.s3.eu-central-1.amazonaws.com/k"
    reply = way.raw(alice, "GET", url, service="s3", fields=(("Range", wanted),))
    assert body[5:15] not in reply.body
    assert reply.status == (206 if wanted == "Bytes=5-14" else 502)
