"""Signatures on the whole way: what the agent signs is checked, what leaves is signed so that a strict AWS takes it."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.config import Config

from support.chunks import chunked_upload
from support.clients import Keys, boto_client, eventually, sign
from support.gateway import REGION
from support.way import Way

S3 = f"https://bucket.s3.{REGION}.amazonaws.com"
STS = f"https://sts.{REGION}.amazonaws.com"
QUERY = "/?Action=GetCallerIdentity&Version=2011-06-15"
Fields = list[tuple[str, str]]


def put(way: Way, env: dict[str, str], fields: Fields, body: bytes, target: str = "/k", split: int = 0) -> Any:
    with way.tunnel(env, f"bucket.s3.{REGION}.amazonaws.com") as client:
        return client.request("PUT", target, fields, body, split=split)


def head_of(method: str, target: str, fields: Fields) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def nothing_stored(way: Way) -> bool:
    """AWS may have seen a part of a body, but never a whole one."""
    return not way.aws.accepted or all(seen.action == "AssumeRole" for seen in way.aws.accepted)


# -- what the agent signs (fault 48) -------------------------------------------------------------------------------------


def test_a_wrong_body_hash(way: Way, alice: dict[str, str]) -> None:
    target, fields = sign(Keys.of(alice), "PUT", f"{S3}/k", service="s3", region=REGION, body=b"body")
    reply = put(way, alice, [*fields, ("Content-Length", "4")], b"bodY", target)
    assert reply.status in {400, 403} and "XAmzContentSHA256Mismatch" in reply.text
    assert nothing_stored(way)


def test_an_unsigned_x_amz_header(way: Way, alice: dict[str, str]) -> None:
    reply = way.raw(alice, "GET", f"{S3}/k", service="s3", extra=(("x-amz-acl", "public-read"),))
    assert reply.status == 403
    assert way.calls == []


HEADS: dict[str, Fields] = {
    "repeated": [("x-amz-meta-a", "one"), ("x-amz-meta-a", "two"), ("X-Amz-Meta-A", "three")],
    "spaced": [("x-amz-meta-a", "  two   words "), ("x-amz-meta-b", "")],
    "ordered": [("x-amz-meta-b", "1"), ("x-amz-meta-a", "2"), ("x-amz-meta-a-b", "3")],
    "odd": [("x-amz-meta-a", 'a,b;c="d e"'), ("x-amz-meta-b", "%2F+%20")],
}
QUERIES = [
    "list-type=2&prefix=a%20b&delimiter=%2F",
    "list-type=2&prefix=&delimiter",
    "prefix=%C3%A4~-_.&list-type=2&start-after=z%2Bz%26%3D",
]


@pytest.mark.parametrize("case", HEADS)
def test_headers_as_clients_send_them(way: Way, alice: dict[str, str], case: str) -> None:
    """Repeated, spaced and odd: botocore signs them, the gateway takes that, and a strict AWS takes the gateway's."""
    target, fields = sign(
        Keys.of(alice), "PUT", f"{S3}/{case}", service="s3", region=REGION, body=b"body", fields=HEADS[case]
    )
    reply = put(way, alice, [*fields, ("Content-Length", "4")], b"body", target)
    assert reply.status == 200, reply.text
    assert way.aws.s3.buckets["bucket"].objects[case].data == b"body"


@pytest.mark.parametrize("query", QUERIES)
def test_queries_as_clients_send_them(way: Way, alice: dict[str, str], query: str) -> None:
    """Empty and encoded: what AWS is sent it finds rightly signed."""
    reply = way.raw(alice, "GET", f"{S3}/?{query}", service="s3")
    assert reply.status == 200 and not way.aws.refused, reply.text


def test_a_query_with_a_parameter_twice(way: Way, alice: dict[str, str]) -> None:
    """Which of the two AWS would read is not for a gateway to guess."""
    reply = way.raw(alice, "GET", f"{S3}/?list-type=2&prefix=a&prefix=b", service="s3")
    assert reply.status == 400 and "twice" in reply.text and way.calls == []


@pytest.mark.parametrize("sent", ["a+b", "%7E%2a"])
def test_a_query_that_is_not_in_its_canonical_form(way: Way, alice: dict[str, str], sent: str) -> None:
    """AWS takes a signature over the canonical form, and over nothing else; so a client gets through with that one alone."""
    canonical = {"a+b": "a%20b", "%7E%2a": "~%2A"}[sent]
    target, fields = sign(Keys.of(alice), "GET", f"{S3}/?list-type=2&prefix={canonical}", service="s3", region=REGION)
    with way.tunnel(alice, S3.removeprefix("https://")) as client:
        reply = client.request("GET", target.replace(canonical, sent), fields)
    assert reply.status == 200 and not way.aws.refused, reply.text


@pytest.mark.parametrize("named", ["X-Amz-Date", "keep-alive, x-amz-expected-bucket-owner", "Authorization", "Host"])
def test_a_connection_header_that_would_take_away_what_is_signed(way: Way, alice: dict[str, str], named: str) -> None:
    """Upstream's front may drop what Connection names: a signed header, or the account pin."""
    reply = way.raw(alice, "GET", f"{S3}/k", service="s3", extra=(("Connection", named),))
    assert reply.status == 400 and "Connection" in reply.text
    assert way.calls == []
    assert way.raw(alice, "PUT", f"{S3}/k", service="s3", extra=(("Connection", "keep-alive, TE"),)).status == 200


@pytest.mark.parametrize("port", [80, 443])
@pytest.mark.parametrize(
    ("name", "said"), [(S3.removeprefix("https://"), "go over TLS"), ("signed.example.com", "use https")]
)
def test_what_is_signed_never_leaves_in_clear_text(
    way: Way, alice: dict[str, str], name: str, port: int, said: str
) -> None:
    """An endpoint with http:// is refused before a lease is lent, on any port: its token could be read on the way."""
    host = name + ("" if port == 80 else f":{port}")
    target, fields = sign(Keys.of(alice), "GET", f"http://{host}/k", service="s3", region=REGION)
    with way.gateway.client(alice["FLOWWARDEN_HANDLE"]) as client:
        reply = client.request("GET", f"http://{host}{target}", [*fields, *client.proxy_fields()])
    assert reply.status == 403 and said in reply.text, reply.text
    with way.gateway.client(alice["FLOWWARDEN_HANDLE"]) as client:
        assert client.connect(f"{host.partition(':')[0]}:{port}").status == 200
        assert client.request("GET", target, fields).status == 403
    assert way.calls == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([], "MissingAuthenticationToken"),
        ([("Authorization", "Bearer made-up")], "a bearer token instead of a signature"),
    ],
)
def test_an_aws_call_without_a_signature(way: Way, alice: dict[str, str], fields: Fields, said: str) -> None:
    host = STS.removeprefix("https://")
    with way.tunnel(alice, host) as client:
        reply = client.request("GET", QUERY, [("Host", host), *fields])
    assert reply.status == 403 and said in reply.text
    assert way.calls == []


@pytest.mark.parametrize("minutes", [-20, 20])
@pytest.mark.parametrize(("service", "url"), [("s3", f"{S3}/k"), ("sts", f"{STS}{QUERY}")])
def test_skew(way: Way, alice: dict[str, str], minutes: int, service: str, url: str, monkeypatch: Any) -> None:
    import botocore.auth

    when = datetime.now(UTC) + timedelta(minutes=minutes)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: when.replace(tzinfo=None))
    target, fields = sign(Keys.of(alice), "GET", url, service=service, region=REGION)
    assert when.strftime("%Y%m%dT%H%M") in dict(fields)["X-Amz-Date"]
    with way.tunnel(alice, url.split("/")[2]) as client:
        reply = client.request("GET", target, fields)
    assert reply.status == 403 and ("RequestTimeTooSkewed" in reply.text or "SignatureDoesNotMatch" in reply.text)
    assert way.calls == []


def test_another_signature_target_method_or_scope(way: Way, alice: dict[str, str]) -> None:
    target, fields = sign(Keys.of(alice), "GET", f"{STS}{QUERY}", service="sts", region=REGION)
    wrong_service = sign(Keys.of(alice), "GET", f"{STS}{QUERY}", service="s3", region=REGION)[1]
    wrong_region = sign(Keys.of(alice), "GET", f"{STS}{QUERY}", service="sts", region="us-west-2")[1]
    changed = [
        (name, value[:-1] + ("0" if value[-1] != "0" else "1") if name == "Authorization" else value)
        for name, value in fields
    ]
    cases = [
        ("GET", target, changed),
        ("GET", target.replace("Caller", "Called"), fields),
        ("HEAD", target, fields),
        ("GET", target + "&X=1", fields),
        ("GET", target, wrong_service),
        ("GET", target, wrong_region),
        ("GET", target, [field for field in fields if field[0] != "Authorization"]),
        ("GET", target, [*fields, ("Authorization", "Bearer x")]),
        ("GET", target, [*fields, ("X-Amz-Date", "20200101T000000Z")]),
    ]
    for method, where, head in cases:
        with way.tunnel(alice, f"sts.{REGION}.amazonaws.com") as client:
            reply = client.request(method, where, head)
        assert reply.status in {400, 403}, (method, where, reply.text)
    assert way.calls == []


def test_presigned(way: Way, alice: dict[str, str]) -> None:
    """GET and PUT for S3, a query call elsewhere; expired ones are refused with AWS's error."""
    keys = Keys.of(alice)
    target, fields = sign(keys, "PUT", f"{S3}/pre%20signed", service="s3", region=REGION, presign=60)
    assert put(way, alice, [fields[0]], b"presigned body", target).status == 200
    assert way.aws.s3.buckets["bucket"].objects["pre signed"].data == b"presigned body"
    target, fields = sign(keys, "GET", f"{S3}/pre%20signed", service="s3", region=REGION, presign=60)
    with way.tunnel(alice, f"bucket.s3.{REGION}.amazonaws.com") as client:
        assert client.request("GET", target, [fields[0]]).body == b"presigned body"
        assert client.request("GET", target.replace("X-Amz-Expires=60", "X-Amz-Expires=61"), [fields[0]]).status == 403
        both = sign(keys, "GET", f"{S3}{target}", service="s3", region=REGION)[1]
        assert client.request("GET", target, both).status in {400, 403}
    target, fields = sign(keys, "GET", f"{STS}{QUERY}", service="sts", region=REGION, presign=60)
    with way.tunnel(alice, f"sts.{REGION}.amazonaws.com") as client:
        assert client.request("GET", target, [fields[0]]).status == 200
    assert not way.aws.refused
    assert all(not seen.header("authorization") for seen in way.calls if seen.presigned)


def test_an_expired_presigned_url(way: Way, alice: dict[str, str], monkeypatch: Any) -> None:
    import botocore.auth

    then = datetime.now(UTC) - timedelta(minutes=3)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: then.replace(tzinfo=None))
    target, fields = sign(Keys.of(alice), "GET", f"{S3}/k", service="s3", region=REGION, presign=60)
    with way.tunnel(alice, f"bucket.s3.{REGION}.amazonaws.com") as client:
        reply = client.request("GET", target, [fields[0]])
    assert reply.status == 403 and "expired" in reply.text.lower()
    assert way.calls == []


# -- compressed bodies -------------------------------------------------------------------------------------------------

METRIC = {"MetricName": "Latency", "Value": 1.0, "Dimensions": [{"Name": "host", "Value": "a" * 100}]}


def test_a_compressed_body_by_boto3(way: Way, alice: dict[str, str]) -> None:
    """PutMetricData with request compression: the hash is of the bytes on the wire, and those go on as they are."""
    config = Config(request_min_compression_size_bytes=100)
    boto_client("cloudwatch", alice, config=config).put_metric_data(Namespace="Agents", MetricData=[METRIC] * 50)
    [seen] = way.calls
    assert seen.state == "accepted" and seen.header("content-encoding") == "gzip"
    assert b"Agents" in gzip.decompress(seen.body) and len(seen.body) < 1000
    assert any("cloudwatch:PutMetricData" in json.dumps(record) for record in way.gateway.evidence())


@pytest.mark.parametrize("right", [True, False])
def test_a_compressed_body_with_its_hash_in_a_header(way: Way, alice: dict[str, str], right: bool) -> None:
    """As the JavaScript SDK signs it: x-amz-content-sha256 over the compressed bytes, not over what they hold."""
    text = b"Action=PutMetricData&Version=2010-08-01&Namespace=Agents&MetricData.member.1.MetricName=Latency"
    body = gzip.compress(text, mtime=0)
    digest = hashlib.sha256(body if right else text).hexdigest()
    fields = (
        ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("Content-Encoding", "gzip"),
        ("X-Amz-Content-SHA256", digest),
    )
    url = f"https://monitoring.{REGION}.amazonaws.com/"
    target, head = sign(Keys.of(alice), "POST", url, service="monitoring", region=REGION, fields=fields, body=body)
    with way.tunnel(alice, url.split("/")[2]) as client:
        reply = client.request("POST", target, head, body)
    if right:
        assert reply.status == 200, reply.text
        assert way.calls[-1].state == "accepted" and way.calls[-1].sha256 == digest
    else:
        assert reply.status == 403 and "SignatureDoesNotMatch" in reply.text
        assert way.calls == []


# -- chunks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trailer", "signs"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize(("length", "size"), [(0, 8192), (5, 8192), (40_000, 8192), (3 << 20, 65536)])
def test_chunked_uploads(way: Way, alice: dict[str, str], trailer: bool, signs: bool, length: int, size: int) -> None:
    data = bytes(index % 251 for index in range(min(length, 65536))) * (length // 65536 or 1)
    fields, body = chunked_upload(
        Keys.of(alice), f"{S3}/chunked", data, size, region=REGION, trailer=trailer, signed=signs
    )
    reply = put(way, alice, fields, body, "/chunked")
    assert reply.status == 200, reply.text
    assert way.aws.s3.buckets["bucket"].objects["chunked"].data == data
    seen = way.calls[-1]
    assert seen.payload.startswith("STREAMING-") and sum(seen.chunk_sizes) == len(data)


@pytest.mark.parametrize("trailer", [False, True])
def test_the_lease_is_renewed_in_mid_upload(way: Way, trailer: bool) -> None:
    """An upload ends with the credential that it began with, though its session has had another for a while."""
    env = way.gateway.session(subject=f"renewer-{trailer}")
    leases = way.aws.sts.leases
    before, renewed = len(leases), threading.Event()
    data = bytes(range(256)) * 4096
    fields, body = chunked_upload(Keys.of(env), f"{S3}/renewed", data, 65536, region=REGION, trailer=trailer)
    way.aws.on_block = lambda seen, read: (
        renewed.wait(60) and None if seen.path == "/renewed" and read > 200_000 else None
    )
    way.aws.sts.lasts = 25.0  # so little is left that every call starts a renewal
    client = way.tunnel(env, S3.removeprefix("https://"))
    try:
        client.send(head_of("PUT", "/renewed", fields) + body[:300_000])
        assert way.aws.wait_for(lambda aws: any(seen.path == "/renewed" for seen in aws.seen))
        caller = boto_client("sts", env)
        caller.get_caller_identity()
        assert way.aws.wait_for(lambda aws: len(leases) >= before + 2)
        way.aws.sts.lasts = None

        def later() -> bool:
            caller.get_caller_identity()
            return way.calls[-1].key_id != leases[before].made.key_id

        eventually(later, what="a call with the renewed lease")
        renewed.set()
        client.send(body[300_000:])
        reply = client.reply("PUT")
    finally:
        renewed.set()
        way.aws.sts.lasts = None
        client.close()
    assert reply.status == 200, reply.text
    upload = next(seen for seen in way.calls if seen.path == "/renewed")
    assert upload.state == "accepted" and upload.key_id == leases[before].made.key_id
    assert way.aws.s3.buckets["bucket"].objects["renewed"].data == data
    assert not way.aws.refused


@pytest.mark.parametrize("trailer", [False, True])
def test_split_at_odd_places(way: Way, alice: dict[str, str], trailer: bool) -> None:
    data = b"ab\r\n0;chunk-signature=" * 300
    for split in (1, 7, 1000):
        if split == 1:
            data = data[:600]
        fields, body = chunked_upload(Keys.of(alice), f"{S3}/split", data, 256, region=REGION, trailer=trailer)
        assert put(way, alice, fields, body, "/split", split=split).status == 200
        assert way.aws.s3.buckets["bucket"].objects["split"].data == data
    assert not way.aws.refused


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("where", ["data", "signature", "trailer", "cut", "too long", "length"])
def test_a_chunked_upload_that_is_wrong_is_never_complete_at_aws(
    way: Way, alice: dict[str, str], where: str, signs: bool
) -> None:
    """Upstream sees an unterminated body, or one that its own checks refuse; the agent gets an error."""
    data = bytes(100_000)
    way.aws.s3.buckets.pop("bucket", None)
    fields, body = chunked_upload(Keys.of(alice), f"{S3}/wrong", data, 8192, region=REGION, trailer=True, signed=signs)
    at = {
        "data": 60_000,
        "signature": body.rindex(b"chunk-signature=") + 20 if signs else body.rindex(b"2000\r\n"),
        "trailer": body.rindex(b"x-amz-checksum-crc32:") + 22,
    }.get(where, 0)
    if where == "cut":
        body = body[:-200]
        fields = [(name, str(len(body)) if name == "Content-Length" else value) for name, value in fields]
    elif where == "too long":
        body += b"0\r\n\r\n"
        fields = [(name, str(len(body)) if name == "Content-Length" else value) for name, value in fields]
    elif where == "length":
        fields = [(name, "1" if name == "X-Amz-Decoded-Content-Length" else value) for name, value in fields]
    else:
        body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    try:
        reply = put(way, alice, fields, body, "/wrong")
    except OSError:
        reply = None
    assert reply is None or reply.status >= 400
    bucket = way.aws.s3.buckets.get("bucket")
    assert bucket is None or "wrong" not in bucket.objects


def test_expect_100_continue_lets_no_byte_of_a_denied_body_out(way: Way, alice: dict[str, str]) -> None:
    """A denied call gets its 403 instead of a 100; an allowed one gets the 100 first."""
    outsider = way.gateway.session(subject="judy", groups=("sre",))
    host = f"bucket.s3.{REGION}.amazonaws.com"
    for env, first in ((outsider, 403), (alice, 100)):
        target, fields = sign(Keys.of(env), "PUT", f"{S3}/expect", service="s3", region=REGION, body=b"body")
        with way.tunnel(env, host) as client:
            client.stream.send_head(
                f"PUT {target} HTTP/1.1", [*fields, ("Content-Length", "4"), ("Expect", "100-continue")]
            )
            assert client.reply("PUT").status == first
            if first == 100:
                client.send(b"body")
                assert client.reply("PUT").status == 200
    assert len(way.calls) == 1
    boto_client("s3", alice).put_object(Bucket="bucket", Key="expected", Body=b"x")


# -- recognised, and refused with a reason -----------------------------------------------------------------------------


def refused_kinds(keys: Keys) -> dict[str, tuple[str, str, str, Fields, bytes, str]]:
    """Method, host, target, fields and body of what the gateway knows and does not carry; and what it has to say."""
    host = S3.removeprefix("https://")
    express = "b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com"
    target, s3_fields = sign(keys, "GET", f"{S3}/k", service="s3", region=REGION)
    asymmetric = [(n, v.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")) for n, v in s3_fields]
    query, _ = sign(keys, "GET", f"{S3}/k", service="s3", region=REGION, presign=60)
    events = "STREAMING-AWS4-HMAC-SHA256-EVENTS"
    transcribe = f"transcribestreaming.{REGION}.amazonaws.com"
    _, event_fields = sign(
        keys, "POST", f"https://{transcribe}/stream-transcription", service="s3", region=REGION, payload=events
    )
    event_fields = [(n, v.replace("/s3/", "/transcribe/")) for n, v in event_fields]
    _, express_fields = sign(keys, "GET", f"https://{express}/k", service="s3express", region="us-east-1")
    bearer, basic = [("Authorization", "Bearer made-up")], [("Authorization", "Basic QUs6eA==")]

    def database(service: str, action: str) -> tuple[str, str]:
        name = f"db.{REGION}.example.amazonaws.com"
        return name, sign(
            keys, "GET", f"https://{name}/?Action={action}&DBUser=x", service=service, region=REGION, presign=60
        )[0]

    rds, dsql, msk = database("rds-db", "connect"), database("dsql", "DbConnect"), database("kafka-cluster", "c")
    redshift = database("redshift", "redshift:connect")
    eks, git = f"x.gr7.{REGION}.eks.amazonaws.com", f"git-codecommit.{REGION}.amazonaws.com"
    bedrock = f"bedrock-runtime.{REGION}.amazonaws.com"
    k8s = [("Authorization", "Bearer k8s-aws-v1.aHR0cHM6Ly9zdHM")]
    form: Fields = [("Content-Type", "multipart/form-data; boundary=b")]
    return {
        "SigV4A": ("GET", host, target, asymmetric, b"", "SigV4A"),
        "SigV4A in the query": ("GET", host, query.replace("HMAC-SHA256", "ECDSA-P256-SHA256"), [], b"", "SigV4A"),
        "event stream": ("POST", transcribe, "/stream-transcription", event_fields, b"x", "event stream"),
        "S3 Express": ("GET", express, "/k", express_fields, b"", "S3 Express"),
        "POST policy": ("POST", host, "/", form, b"--b", "POST policy"),
        "bearer": ("POST", bedrock, "/model/m/invoke", bearer, b"{}", "bearer token"),
        "EKS": ("GET", eks, "/api", k8s, b"", "EKS"),
        "RDS": ("GET", *rds, [], b"", "RDS"),
        "DSQL": ("GET", *dsql, [], b"", "DSQL"),
        "MSK": ("GET", *msk, [], b"", "MSK"),
        "Redshift": ("GET", *redshift, [], b"", "Redshift"),
        "CodeCommit": ("GET", git, "/v1/repos/r", basic, b"", "CodeCommit"),
    }


@pytest.mark.parametrize("kind", refused_kinds(Keys("AKIAMADEUP", "made-up")))
def test_what_is_not_carried_is_refused_with_a_reason(way: Way, alice: dict[str, str], kind: str) -> None:
    method, host, target, fields, body, said = refused_kinds(Keys.of(alice))[kind]
    named = fields if any(name == "Host" for name, _ in fields) else [("Host", host), *fields]
    with way.tunnel(alice, host) as client:
        reply = client.request(method, target, named, body)
    assert reply.status == 403 and said in reply.text, reply.text
    assert way.calls == []
