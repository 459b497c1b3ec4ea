"""boto3 reads every masked answer without an error or a retry, with its checks of checksums on."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import FlexibleChecksumError
from botocore.loaders import Loader
from masking_tools import SUMS, alnum, aws_secret, call, github, headers, shipped

from flowwarden.types import Headers


class _Raw:
    """What botocore's AWSResponse reads a body from."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def read(self, amt: int | None = None, **_: object) -> bytes:
        size = len(self.body) if amt is None else amt
        piece, self.body = self.body[:size], self.body[size:]
        return piece

    def stream(self, *_: object, **__: object) -> Any:
        yield self.read()


class _Tried(Exception):
    """The client sent its request a second time."""


def _ask(service: str, method: str, answer: tuple[int, Headers, bytes], **params: Any) -> Any:
    """What a client gets for one answer; a second try fails."""
    client = boto3.client(
        service,
        region_name="eu-west-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        config=Config(retries={"total_max_attempts": 3}, response_checksum_validation="when_supported"),
    )
    sent: list[object] = []

    def send(**_: object) -> AWSResponse:
        if sent:
            raise _Tried
        sent.append(1)
        status, fields, body = answer
        return AWSResponse("https://x/", status, {k.decode(): v.decode() for k, v in fields}, _Raw(body))

    client.meta.events.register("before-send.*.*", send)
    return getattr(client, method)(**params)


def _masked(
    operation: str, protocol: str, fields: Headers, body: bytes, status: int = 200
) -> tuple[int, Headers, bytes]:
    out = shipped().mask_answer(call(operation, protocol), status, fields, body)
    assert out.counts, "this answer should have held a secret"
    return status, out.headers, out.body


OBJECT = f"[default]\naws_secret_access_key = {aws_secret()}\n".encode()


def _object(kind: str) -> Headers:
    more = {f"x-amz-checksum-{kind}": SUMS[kind](OBJECT), "x-amz-checksum-type": "FULL_OBJECT"}
    return headers("text/plain", content_length=str(len(OBJECT)), ETag='"x"', **more)


@pytest.mark.parametrize("kind", SUMS)
@pytest.mark.parametrize("way", ["whole", "stream"])
def test_masking_boto3_reads_objects_of_every_checksum(kind: str, way: str) -> None:
    """Whole and streamed, with the length that HEAD and List tell."""
    if way == "whole":
        answer = _masked("s3:GetObject", "rest-xml", _object(kind), OBJECT)
    else:
        stream = shipped().stream(call("s3:GetObject", "rest-xml"), 200, _object(kind))
        assert stream is not None
        answer = (200, stream.headers, stream.feed(OBJECT) + stream.finish())
    got = _ask("s3", "get_object", answer, Bucket="b", Key="k", ChecksumMode="ENABLED")
    body = got["Body"].read()
    assert len(body) == len(OBJECT) == got["ContentLength"] and b"[MASKED:aws-secret-key*" in body


def test_masking_boto3_would_have_noticed() -> None:
    """The control: with the old checksum beside the masked body, boto3 refuses it."""
    _, _, body = _masked("s3:GetObject", "rest-xml", _object("crc32"), OBJECT)
    with pytest.raises(FlexibleChecksumError):
        _ask("s3", "get_object", (200, _object("crc32"), body), Bucket="b", Key="k", ChecksumMode="ENABLED")[
            "Body"
        ].read()


TOKEN = github()
BLOB = base64.b64encode(f"event {TOKEN}".encode()).decode()
ANSWERS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("secretsmanager", "get_secret_value", {"SecretId": "x"}, {"SecretString": "x1", "SecretBinary": "aGk=", "CreatedDate": 1.5}),
    ("ssm", "get_parameter", {"Name": "x"}, {"Parameter": {"Type": "SecureString", "Value": "x1", "Version": 3}}),
    ("dynamodb", "get_item", {"TableName": "t", "Key": {}}, {"Item": {"a": {"S": TOKEN}, "b": {"B": BLOB}, "password": {"N": "5"}}}),
    ("kinesis", "get_records", {"ShardIterator": "s"}, {"Records": [{"Data": BLOB, "SequenceNumber": "1", "PartitionKey": "p"}]}),
    ("logs", "get_log_events", {"logGroupName": "g", "logStreamName": "s"}, {"events": [{"timestamp": 1, "message": TOKEN}]}),
    ("lambda", "get_function_configuration", {"FunctionName": "f"}, {"Environment": {"Variables": {"A": "b1"}}, "Timeout": 3}),
    ("rds-data", "execute_statement", {"resourceArn": "a" * 20, "secretArn": "a" * 20, "sql": "s"}, {"records": [[{"stringValue": "x"}, {"longValue": 4}]]}),
    ("sqs", "receive_message", {"QueueUrl": "https://sqs.eu-west-1.amazonaws.com/1/q"}, {"Messages": [{"MessageId": "1", "Body": TOKEN, "MD5OfBody": "old"}]}),
    ("kms", "decrypt", {"CiphertextBlob": b"x"}, {"KeyId": "k", "Plaintext": BLOB}),
]  # fmt: skip


@pytest.mark.parametrize(("service", "method", "params", "answer"), ANSWERS)
def test_masking_boto3_reads_json_answers(
    service: str, method: str, params: dict[str, Any], answer: dict[str, Any]
) -> None:
    """Types hold, DynamoDB's crc32 and SQS's digest make no retry, and nothing secret is left."""
    body = json.dumps(answer).encode()
    fields = headers("application/x-amz-json-1.0", content_length=str(len(body)), x_amz_crc32=str(binascii.crc32(body)))
    model = Loader().load_service_model(service, "service-2")
    protocol = model["metadata"]["protocol"]
    names = {name.lower(): name for name in model["operations"]}
    got = _ask(
        service, method, _masked(f"{service}:{names[method.replace('_', '')]}", protocol, fields, body), **params
    )
    text = str(got)
    assert "[MASKED:" in text and TOKEN not in text


def test_masking_boto3_reads_xml_answers() -> None:
    """STS: what is real is masked, dates and ids are read as ever."""
    body = (
        "<GetSessionTokenResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><GetSessionTokenResult><Credentials>"
        f"<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>{alnum(40)}</SecretAccessKey><SessionToken>{alnum(90)}</SessionToken>"
        "<Expiration>2026-01-01T00:00:00Z</Expiration></Credentials></GetSessionTokenResult></GetSessionTokenResponse>"
    ).encode()
    got = _ask("sts", "get_session_token", _masked("sts:GetSessionToken", "query", headers("text/xml"), body))
    assert got["Credentials"]["SecretAccessKey"] == got["Credentials"]["SessionToken"] == "[MASKED:aws-members]"
    assert got["Credentials"]["Expiration"].year == 2026


def test_masking_boto3_reads_lambda_payloads() -> None:
    """Invoke's payload is a body of its own."""
    body = json.dumps({"body": json.dumps({"t": TOKEN})}).encode()
    answer = _masked("lambda:Invoke", "rest-json", headers("application/json", content_length=str(len(body))), body)
    got = _ask("lambda", "invoke", answer, FunctionName="f")
    assert json.loads(json.loads(got["Payload"].read())["body"]) == {"t": "[MASKED:github-token]"}
