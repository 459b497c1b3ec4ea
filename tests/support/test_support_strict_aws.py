"""The strict server is judged by the signers it will judge with: botocore's and awscrt's, without a gateway between."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awscrt.auth
import awscrt.http
import boto3
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from . import sigv4_judge as sigv4
from .certs import Authority
from .chunks import chunked_upload
from .clients import Keys
from .sigv4_judge import Secret
from .strict_aws import Seen, StrictAws

REGION = "eu-central-1"
PLAIN = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, proxies={})


@pytest.fixture
def aws() -> Iterator[StrictAws]:
    with StrictAws() as server:
        yield server


@pytest.fixture
def tls_aws(tmp_path: Path) -> Iterator[tuple[StrictAws, Path]]:
    authority = Authority(tmp_path)
    with StrictAws(tls=authority.server_context("127.0.0.1")) as server:
        yield server, authority.pem


def client(aws: StrictAws, service: str, key: Secret | None = None, **options: Any) -> Any:
    key = key or aws.new_key()
    config = PLAIN.merge(options.pop("config", Config()))
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=aws.url,
        aws_access_key_id=key.key_id,
        aws_secret_access_key=key.secret,
        aws_session_token=key.token or None,
        config=config,
        **options,
    )


def raw(aws: StrictAws, method: str, target: str, headers: dict[str, str], body: Any = None) -> tuple[int, bytes]:
    """Sends exactly this target and these fields."""
    connection = http.client.HTTPConnection("127.0.0.1", aws.port, timeout=20)
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body, encode_chunked=False)
    answer = connection.getresponse()
    return answer.status, answer.read()


def only(aws: StrictAws) -> Seen:
    (seen,) = aws.seen
    return seen


# -- botocore ----------------------------------------------------------------------------------------------------------

KEYS = [
    "plain",
    "a b+c=d%e:f@g!h'i(j)k*l~m#n?o[p]",
    "grüße/日本",
    "double//slash",
    "./dot/../dot",
    "a%2Fb",
    "trailing/",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("token", [False, True])
def test_botocore_s3_keys(aws: StrictAws, key: str, token: bool) -> None:
    s3 = client(aws, "s3", aws.new_key(token=token))
    body = key.encode() * 100
    s3.put_object(Bucket="bucket", Key=key, Body=body)
    assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == body
    assert [row["Key"] for row in s3.list_objects_v2(Bucket="bucket")["Contents"]] == [key]
    assert s3.head_object(Bucket="bucket", Key=key)["ContentLength"] == len(body)
    assert len(aws.accepted) == 4


def test_botocore_trailer_upload_over_tls(tls_aws: tuple[StrictAws, Path]) -> None:
    """Over TLS today's default is STREAMING-UNSIGNED-PAYLOAD-TRAILER."""
    aws, ca = tls_aws
    s3 = client(aws, "s3", verify=str(ca))
    s3.put_object(Bucket="bucket", Key="k", Body=b"x" * 300_000)
    (seen,) = aws.accepted
    assert seen.payload == sigv4.UNSIGNED_TRAILER
    assert seen.length == 300_000 and "x-amz-checksum-crc32" in seen.trailer
    for kind in ("CRC32C", "SHA1", "SHA256", "CRC64NVME"):
        s3.put_object(Bucket="bucket", Key="k", Body=b"x" * 3000, ChecksumAlgorithm=kind)
        assert f"x-amz-checksum-{kind.lower()}" in aws.accepted[-1].trailer
    assert len(aws.accepted) == 5


def test_botocore_multipart(aws: StrictAws) -> None:
    data = bytes(range(256)) * (40 << 10)
    client(aws, "s3").upload_fileobj(io.BytesIO(data), "bucket", "big")
    assert aws.s3.buckets["bucket"].objects["big"].sha256 == hashlib.sha256(data).hexdigest()
    assert not aws.refused


def test_botocore_other_protocols(aws: StrictAws) -> None:
    client(aws, "dynamodb").put_item(TableName="t", Item={"k": {"S": "v"}})
    client(aws, "lambda").get_function(FunctionName="arn:aws:lambda:eu-central-1:123456789012:function:f")
    client(aws, "ec2").describe_instances(Filters=[{"Name": "tag:a b", "Values": ["*+~"]}])
    client(aws, "sqs").list_queues()
    client(aws, "bedrock-runtime").converse(modelId="arn:aws:bedrock:eu-central-1::x/y:0", messages=[])
    client(aws, "cloudwatch").list_metrics()
    client(aws, "iam").list_users()
    assert [seen.service for seen in aws.accepted] == [
        "dynamodb",
        "lambda",
        "ec2",
        "sqs",
        "bedrock",
        "monitoring",
        "iam",
    ]
    assert not aws.refused


@pytest.mark.parametrize("method", ["get_object", "put_object"])
@pytest.mark.parametrize("token", [False, True])
def test_botocore_presigned(aws: StrictAws, method: str, token: bool) -> None:
    s3 = client(aws, "s3", aws.new_key(token=token), config=Config(signature_version="s3v4"))
    s3.put_object(Bucket="bucket", Key="a b", Body=b"1")
    url = s3.generate_presigned_url(method, Params={"Bucket": "bucket", "Key": "a b"}, ExpiresIn=60)
    verb = "GET" if method == "get_object" else "PUT"
    target = url.removeprefix(aws.url)
    host = {"Host": f"127.0.0.1:{aws.port}"}
    assert raw(aws, verb, target, host | {"Content-Length": "0"})[0] == 200
    assert raw(aws, verb, target.replace("X-Amz-Expires=60", "X-Amz-Expires=61"), host)[0] == 403
    assert raw(aws, verb, target, host | {"x-amz-acl": "public-read"})[0] == 403
    aws.clock = lambda: time.time() + 61
    assert raw(aws, verb, target, host)[0] == 403


def test_presigned_sts(aws: StrictAws) -> None:
    key = aws.new_key(token=True)
    asked = AWSRequest("GET", f"{aws.url}/?Action=GetCallerIdentity&Version=2011-06-15", headers={"x-k8s-aws-id": "c"})
    SigV4QueryAuth(Credentials(key.key_id, key.secret, key.token), "sts", REGION, 60).add_auth(asked)
    target = asked.prepare().url.removeprefix(aws.url)
    fields = {"Host": f"127.0.0.1:{aws.port}", "x-k8s-aws-id": "c"}
    assert raw(aws, "GET", target, fields)[0] == 200
    assert raw(aws, "GET", target, fields | {"x-k8s-aws-id": "d"})[0] == 403


# -- every difference is refused ---------------------------------------------------------------------------------------


def signed(
    aws: StrictAws, key: Secret, method: str, target: str, *, body: bytes = b"", service: str = "s3"
) -> dict[str, str]:
    asked = AWSRequest(method, aws.url + target, data=body, headers={"X-Amz-Meta-A": "1"})
    auth = S3SigV4Auth if service == "s3" else SigV4Auth
    asked.context["payload_signing_enabled"] = True
    auth(Credentials(key.key_id, key.secret, key.token or None), service, REGION).add_auth(asked)
    return {"Host": f"127.0.0.1:{aws.port}", "Content-Length": str(len(body))} | dict(asked.headers.items())


CHANGES: dict[str, tuple[dict[str, str], str]] = {
    "signature": ({"Authorization": "0"}, "SignatureDoesNotMatch"),
    "a signed header": ({"X-Amz-Meta-A": "2"}, "SignatureDoesNotMatch"),
    "an x-amz header that is not signed": ({"x-amz-meta-b": "2"}, "AccessDenied"),
    "host": ({"Host": "bucket.s3.eu-central-1.amazonaws.com"}, "SignatureDoesNotMatch"),
    "date": ({"X-Amz-Date": "20200101T000000Z"}, "SignatureDoesNotMatch"),
    "payload hash": ({"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, "SignatureDoesNotMatch"),
    "security token": ({"X-Amz-Security-Token": "other"}, "InvalidClientTokenId"),
    "no signature": ({"Authorization": ""}, "MissingAuthenticationToken"),
    "a header for proxies": ({"Proxy-Authorization": "Basic eDp5"}, "malformed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_difference_is_refused(aws: StrictAws, change: str) -> None:
    key = aws.new_key(token=True)
    fields = signed(aws, key, "PUT", "/bucket/k?x=1", body=b"body")
    assert raw(aws, "PUT", "/bucket/k?x=1", fields, b"body")[0] == 200
    changes, code = CHANGES[change]
    for name, value in changes.items():
        fields[name] = fields[name][:-1] + ("1" if fields[name][-1] == "0" else "0") if value == "0" else value
        if not value:
            del fields[name]
    status, body = raw(aws, "PUT", "/bucket/k?x=1", fields, b"body")
    assert status in {400, 403} and (code.encode() in body or aws.seen[-1].state == code)


@pytest.mark.parametrize(
    "target", ["/bucket/k?x=2", "/bucket/k", "/bucket/K?x=1", "/bucket//k?x=1", "/bucket/k?x=1&x=1"]
)
def test_another_target_is_refused(aws: StrictAws, target: str) -> None:
    fields = signed(aws, aws.new_key(), "GET", "/bucket/k?x=1")
    assert raw(aws, "GET", target, fields)[0] == 403
    assert only(aws).code == "SignatureDoesNotMatch"


def test_another_body_is_refused(aws: StrictAws) -> None:
    fields = signed(aws, aws.new_key(), "PUT", "/bucket/k", body=b"body")
    assert b"XAmzContentSHA256Mismatch" in raw(aws, "PUT", "/bucket/k", fields, b"bodY")[1]
    assert "k" not in aws.s3.buckets["bucket"].objects
    fields = signed(aws, aws.new_key(), "POST", "/", body=b"body", service="sqs")
    assert raw(aws, "POST", "/", fields, b"bodY")[0] == 403


def test_skew_and_expiry(aws: StrictAws) -> None:
    key = aws.new_key(token=True, lasts=1000)
    fields = signed(aws, key, "GET", "/", service="lambda")
    for later, status in ((290, 200), (310, 403), (-310, 403), (1001, 403)):
        aws.clock = lambda later=later: time.time() + later  # type: ignore[misc]
        assert raw(aws, "GET", "/", fields)[0] == status
    assert [seen.code for seen in aws.refused] == ["RequestTimeTooSkewed", "RequestTimeTooSkewed", "ExpiredToken"]


def test_both_kinds_of_authentication_are_refused(aws: StrictAws) -> None:
    key = aws.new_key()
    s3 = client(aws, "s3", key, config=Config(signature_version="s3v4"))
    target = s3.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}).removeprefix(aws.url)
    assert raw(aws, "GET", target, signed(aws, key, "GET", target))[0] == 400


# -- awscrt ------------------------------------------------------------------------------------------------------------


def crt_sign(key: Secret, asked: awscrt.http.HttpRequest, service: str, **options: Any) -> None:
    s3 = service == "s3"
    config = awscrt.auth.AwsSigningConfig(
        algorithm=awscrt.auth.AwsSigningAlgorithm.V4,
        signature_type=options.pop("kind", awscrt.auth.AwsSignatureType.HTTP_REQUEST_HEADERS),
        credentials_provider=awscrt.auth.AwsCredentialsProvider.new_static(key.key_id, key.secret, key.token or None),
        region=REGION,
        service=service,
        use_double_uri_encode=not s3,
        should_normalize_uri_path=not s3,
        signed_body_header_type=awscrt.auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        **options,
    )
    awscrt.auth.aws_sign_request(asked, config).result(10)


@pytest.mark.parametrize(
    ("service", "target"),
    [
        ("s3", "/bucket/a%20b%2Bc//d/../e?x=%2F&a=&a=1"),
        ("lambda", "/2015-03-31/functions/arn%3Aaws%3Ax/code/"),
        ("lambda", "/a/./b/../c//d?b=2&a=1&a=0"),
        ("execute-api", "/prod/%C3%BC"),
    ],
)
@pytest.mark.parametrize("presigned", [False, True])
def test_awscrt_agrees(aws: StrictAws, service: str, target: str, presigned: bool) -> None:
    key = aws.new_key(token=True)
    asked = awscrt.http.HttpRequest("GET", target, awscrt.http.HttpHeaders([("Host", f"127.0.0.1:{aws.port}")]))
    options: dict[str, Any] = {}
    if presigned:
        options = {"kind": awscrt.auth.AwsSignatureType.HTTP_REQUEST_QUERY_PARAMS, "expiration_in_seconds": 60}
        if service == "s3":
            options["signed_body_value"] = sigv4.UNSIGNED
    crt_sign(key, asked, service, **options)
    aws.answer(lambda exchange: (200, {}, b""))
    assert raw(aws, "GET", asked.path, dict(asked.headers))[0] == 200, only(aws).message


# -- aws-chunked, signed by a small client of its own -------------------------------------------------------------------


def chunk_upload(aws: StrictAws, data: bytes, size: int, trailer: bool) -> tuple[dict[str, str], bytes]:
    key = aws.new_key()
    keys = Keys(key.key_id, key.secret)
    fields, body = chunked_upload(keys, f"{aws.url}/bucket/chunked", data, size, region=REGION, trailer=trailer)
    return dict(fields), body


@pytest.mark.parametrize("trailer", [False, True])
@pytest.mark.parametrize(("length", "size"), [(0, 8192), (5, 8192), (30_000, 8192), (16384, 8192)])
def test_signed_chunks(aws: StrictAws, trailer: bool, length: int, size: int) -> None:
    data = bytes(length)
    fields, body = chunk_upload(aws, data, size, trailer)
    status, text = raw(aws, "PUT", "/bucket/chunked", fields, body)
    assert status == 200, text
    assert only(aws).length == length
    assert aws.s3.buckets["bucket"].objects["chunked"].data == data
    assert sum(only(aws).chunk_sizes) == length


@pytest.mark.parametrize("trailer", [False, True])
def test_one_bit_in_a_chunk_a_chunk_signature_or_the_trailer_is_refused(aws: StrictAws, trailer: bool) -> None:
    data = bytes(20_000)
    marks = [b"chunk-signature=", b"\r\n\0\0\0", b"x-amz-trailer-signature:", b"x-amz-checksum-crc32:"]
    for mark in marks if trailer else marks[:2]:
        fields, body = chunk_upload(aws, data, 8192, trailer)
        at = body.rindex(mark) + len(mark)
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        assert raw(aws, "PUT", "/bucket/chunked", fields, changed)[0] in {400, 403}, mark
    assert not aws.accepted
    assert "chunked" not in aws.s3.buckets["bucket"].objects


def test_chunks_in_another_order_or_cut_are_refused(aws: StrictAws) -> None:
    data = b"a" * 8192 + b"b" * 8192
    fields, body = chunk_upload(aws, data, 8192, trailer=False)
    frame = body.index(b"2000;", 10)
    assert (
        raw(aws, "PUT", "/bucket/chunked", fields, body[frame : 2 * frame] + body[:frame] + body[2 * frame :])[0] == 403
    )
    fields, body = chunk_upload(aws, data, 8192, trailer=False)
    fields["Content-Length"] = str(frame)
    assert b"IncompleteBody" in raw(aws, "PUT", "/bucket/chunked", fields, body[:frame])[1]
    assert not aws.accepted


# -- scripts, truncation, STS ------------------------------------------------------------------------------------------


def test_a_truncated_upload_is_seen_as_that(aws: StrictAws) -> None:
    fields = signed(aws, aws.new_key(), "PUT", "/bucket/k", body=b"x" * 1000)
    connection = http.client.HTTPConnection("127.0.0.1", aws.port)
    connection.putrequest("PUT", "/bucket/k", skip_host=True)
    for name, value in fields.items():
        connection.putheader(name, value)
    connection.endheaders(b"x" * 500)
    connection.close()
    assert aws.wait_for(lambda server: bool(server.truncated))
    assert only(aws).state == "truncated" and "k" not in aws.s3.buckets["bucket"].objects


def test_scripted_answers_wait_and_reset(aws: StrictAws) -> None:
    from .strict_aws import Answer, Exchange, Reset

    gate = threading.Event()

    def broken() -> Iterator[bytes]:
        yield b"first"
        gate.wait(20)
        raise Reset

    def script(exchange: Exchange) -> Answer | None:
        return (200, {"content-length": "100"}, broken()) if exchange.method == "GET" else None

    aws.answer(script)
    fields = signed(aws, aws.new_key(), "GET", "/bucket/k")
    connection = http.client.HTTPConnection("127.0.0.1", aws.port)
    connection.request("GET", "/bucket/k", headers=fields)
    answer = connection.getresponse()
    assert answer.read(5) == b"first"
    gate.set()
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        answer.read()


def test_sts_gives_credentials_that_work_and_refuses_what_sts_refuses(aws: StrictAws) -> None:
    stranger = Secret("AKIA" + "Z" * 16, "unknown")
    role = {"RoleArn": "arn:aws:iam::123456789012:role/agent", "RoleSessionName": "someone@example.com"}
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        client(aws, "sts", stranger).assume_role(**role)
    aws.open_sts = True
    sts = client(aws, "sts", stranger)
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {"StringNotEqualsIfExists": {"aws:ResourceAccount": ["123456789012"]}},
            },
        ],
    }
    made = sts.assume_role(
        **role,
        SourceIdentity="me",
        Tags=[{"Key": "subject", "Value": "a@b"}],
        DurationSeconds=900,
        Policy=json.dumps(policy),
    )["Credentials"]
    lease = aws.sts.leases[0]
    assert lease.tags == {"subject": "a@b"} and lease.source_identity == "me"
    key = Secret(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    assert ":assumed-role/agent/someone@example.com" in client(aws, "sts", key).get_caller_identity()["Arn"]
    client(aws, "s3", key).put_object(Bucket="mine", Key="k")
    aws.s3.buckets["mine"].owner = "999999999999"
    with pytest.raises(ClientError, match="AccessDenied"):
        client(aws, "s3", key).put_object(Bucket="mine", Key="k")
    wrong: list[dict[str, Any]] = [
        {"RoleSessionName": "a b"},
        {"RoleSessionName": "x" * 65},
        {"RoleArn": "arn:aws:iam::1:role/agent"},
        {"DurationSeconds": 899},
        {"SourceIdentity": "ü" * 3},
        {"Tags": [{"Key": "a", "Value": "b\tc"}]},
        {"Tags": [{"Key": "a", "Value": "1"}, {"Key": "A", "Value": "2"}]},
        {"Tags": [{"Key": f"k{n}", "Value": ""} for n in range(51)]},
        {"Tags": [{"Key": "aws:x", "Value": "1"}]},
        {"Policy": "{}"},
        {"Policy": json.dumps(policy | {"Id": "x" * 2048})},
    ]
    for fields in wrong:
        with pytest.raises(ClientError):
            client(aws, "sts", stranger, config=Config(parameter_validation=False)).assume_role(**(role | fields))
    with pytest.raises(ClientError, match="DurationSeconds"):
        client(aws, "sts", key).assume_role(**role, DurationSeconds=3601)
    assert len(aws.sts.leases) == 1


def test_a_large_body_is_verified_and_not_kept(tls_aws: tuple[StrictAws, Path]) -> None:
    aws, ca = tls_aws
    size = (32 << 20) + 1
    s3 = client(aws, "s3", verify=str(ca))
    s3.put_object(Bucket="b", Key="k", Body=io.BytesIO(bytes(size)))
    stored = aws.s3.buckets["b"].objects["k"]
    assert stored.size == size and stored.data is None and stored.sha256 == hashlib.sha256(bytes(size)).hexdigest()
    assert len(aws.accepted[0].body) == 1 << 20
    aws.s3.synthetic("b", "s", 200_001)
    assert len(s3.get_object(Bucket="b", Key="s", Range="bytes=100-")["Body"].read()) == 199_901
