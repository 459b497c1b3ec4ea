"""boto3, the AWS CLI and the JavaScript SDK read every masked answer without an error or a retry, checksums on.

Each client may try three times; the server counts what came.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from masking_tools import SUMS, alnum, aws_secret, github

from support.clients import boto_client
from support.strict_aws import Answer, Exchange
from support.tools import AwsCli, NodeSdk
from support.way import Way

TOKEN = github(6)
MASK = "[MASKED:github-token]"
TEXT = f"a note, {TOKEN}, and the rest\n"
BLOB = base64.b64encode(TEXT.encode()).decode()
SETTINGS = Config(response_checksum_validation="when_supported", s3={"addressing_style": "virtual"})


ROWS = "".join(f"{n} {alnum(40, n)}\n" for n in range(60_000))
OBJECTS = {
    "small": f"[default]\naws_secret_access_key = {aws_secret()}\nregion = eu-west-1\n".encode(),
    "large": f"{ROWS}key {TOKEN}\n{ROWS}".encode(),  # 5 MB: it streams
    "clean": ROWS[:900].encode(),
    "packed": gzip.compress(ROWS.encode()),
}


def objects(exchange: Exchange) -> Answer | None:
    """S3 as it is where checksums are asked for: /<name>/<kind>[-composite], whole and in parts."""
    if exchange.service != "s3" or exchange.method not in {"GET", "HEAD"}:
        return None
    found = re.fullmatch(r"(?:/bucket)?/([a-z]+)/([a-z0-9]+)(-composite)?", exchange.path)
    if found is None:
        return None
    exchange.read()
    data = OBJECTS[found[1]]
    fields = {"Content-Type": "text/plain", "ETag": '"0123"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    status, start, stop = 200, 0, len(data)
    if part := re.fullmatch(r"bytes=(\d+)-(\d*)", exchange.header("range")):
        status, start, stop = 206, int(part[1]), min(len(data), int(part[2] or len(data)) + 1)
        fields["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    if exchange.header("x-amz-checksum-mode") == "ENABLED" and (status == 200 or stop - start == len(data)):
        summed = SUMS[found[2]](data)
        fields[f"x-amz-checksum-{found[2]}"] = summed + "-1" if found[3] else summed
        fields["x-amz-checksum-type"] = "COMPOSITE" if found[3] else "FULL_OBJECT"
    return status, fields | {"Content-Length": str(stop - start)}, data[start:stop]


XML = {"content-type": "text/xml"}
MESSAGE = {
    "MessageId": "1",
    "ReceiptHandle": "r" * 40,
    "Body": TEXT,
    "MD5OfBody": hashlib.md5(TEXT.encode()).hexdigest(),
}
DECODED = (
    "<DecodeAuthorizationMessageResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><DecodeAuthorizationMessageResult>"
    f"<DecodedMessage>{json.dumps({'context': TEXT})}</DecodedMessage></DecodeAuthorizationMessageResult>"
    "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></DecodeAuthorizationMessageResponse>"
)
Case = tuple[str, str, dict[str, Any], Any, dict[str, str], Callable[[Any], Any]]
# (JavaScript client, command, parameters, the answer's body, its own header fields, what to look at in the answer)
CASES: dict[str, Case] = {
    "dynamodb": ("DynamoDB", "GetItem", {"TableName": "t", "Key": {"k": {"S": "1"}}},
                 {"Item": {"note": {"S": TEXT}, "n": {"N": "5"}}}, {}, lambda a: a["Item"]["note"]["S"]),
    "sqs": ("SQS", "ReceiveMessage", {"QueueUrl": "https://sqs.eu-central-1.amazonaws.com/123456789012/q"},
            {"Messages": [MESSAGE]}, {}, lambda a: a["Messages"][0]["Body"]),
    "kinesis": ("Kinesis", "GetRecords", {"ShardIterator": "s" * 20},
                {"Records": [{"Data": BLOB, "SequenceNumber": "1", "PartitionKey": "p"}], "MillisBehindLatest": 0}, {},
                lambda a: _text(a["Records"][0]["Data"])),
    "lambda": ("Lambda", "Invoke", {"FunctionName": "f"}, {"statusCode": 200, "body": TEXT},
               {"X-Amz-Log-Result": BLOB, "X-Amz-Executed-Version": "$LATEST"}, lambda a: _text(a["LogResult"], text=True)),
    "logs": ("CloudWatchLogs", "GetLogEvents", {"logGroupName": "g", "logStreamName": "s"},
             {"events": [{"timestamp": 1, "message": TEXT, "ingestionTime": 2}], "nextForwardToken": "f/1"}, {},
             lambda a: a["events"][0]["message"]),
    "secretsmanager": ("SecretsManager", "GetSecretValue", {"SecretId": "x"},
                       {"Name": "x", "SecretString": TEXT, "CreatedDate": 1.5}, {}, lambda a: a["SecretString"]),
    "ssm": ("SSM", "GetParameter", {"Name": "x", "WithDecryption": True},
            {"Parameter": {"Name": "x", "Type": "SecureString", "Value": TEXT, "Version": 3}}, {},
            lambda a: a["Parameter"]["Value"]),
    "sts": ("STS", "DecodeAuthorizationMessage", {"EncodedMessage": "e"}, DECODED, XML, lambda a: a["DecodedMessage"]),
    "rds-data": ("RDSData", "ExecuteStatement",
                 {"resourceArn": "arn:aws:rds:eu-central-1:123456789012:cluster:c", "sql": "select id, password from u",
                  "secretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:s-abcdef"},
                 {"records": [[{"longValue": 4}, {"stringValue": TEXT}]],
                  "columnMetadata": [{"name": "id"}, {"name": "password"}], "numberOfRecordsUpdated": 0}, {},
                 lambda a: a["records"][0][1]["stringValue"]),
}  # fmt: skip
WHOLE = {"secretsmanager": "[MASKED:aws-members]", "ssm": "[MASKED:aws-members]", "rds-data": "[MASKED:secret-columns]"}
COMMANDS = {
    "dynamodb": ["--table-name", "t", "--key", '{"k": {"S": "1"}}'],
    "sqs": ["--queue-url", "https://sqs.eu-central-1.amazonaws.com/123456789012/q"],
    "kinesis": ["--shard-iterator", "s" * 20],
    "lambda": ["--function-name", "f"],
    "logs": ["--log-group-name", "g", "--log-stream-name", "s"],
    "secretsmanager": ["--secret-id", "x"],
    "ssm": ["--name", "x", "--with-decryption"],
    "sts": ["--encoded-message", "e"],
    "rds-data": [
        "--resource-arn", CASES["rds-data"][2]["resourceArn"], "--secret-arn", CASES["rds-data"][2]["secretArn"],
        "--sql", CASES["rds-data"][2]["sql"],
    ],
}  # fmt: skip


def _text(value: bytes | str, *, text: bool = False) -> str:
    """Bytes as boto3 gives them, base64 as the others do; `text`: a base64 member that no client decodes."""
    return base64.b64decode(value).decode() if isinstance(value, str) or text else value.decode()


def _answers(way: Way, name: str) -> None:
    _, _, _, body, more, _ = CASES[name]
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    fields = {"content-type": "application/x-amz-json-1.0" if name == "dynamodb" else "application/x-amz-json-1.1"}
    if name in {"lambda", "rds-data"}:
        fields["content-type"] = "application/json"
    if name == "dynamodb":
        fields["x-amz-crc32"] = str(binascii.crc32(data))

    def handler(exchange: Exchange) -> Answer | None:
        if exchange.service != name or exchange.action == "AssumeRole":
            return None
        exchange.read()
        return 200, fields | more, data

    way.aws.answer(handler)


def _judged(way: Way, name: str, seen: Any) -> None:
    """The client read what the mask left, and asked once."""
    assert isinstance(seen, str)
    expected = WHOLE.get(name, TEXT.replace(TOKEN, MASK))
    assert (json.loads(seen)["context"] if name == "sts" else seen) == expected
    assert len(way.calls) == 1, [call.target for call in way.calls]


@pytest.mark.parametrize("name", CASES)
def test_masking_boto3(masked_way: Way, masked_agent: dict[str, str], name: str) -> None:
    _, command, params, _, _, look = CASES[name]
    _answers(masked_way, name)
    client = boto_client(name, masked_agent, attempts=3)
    answer = getattr(client, re.sub(r"(?<!^)(?=[A-Z])", "_", command).lower())(**params)
    _judged(masked_way, name, look(answer))
    if name == "lambda":
        assert json.loads(answer["Payload"].read())["body"] == TEXT.replace(TOKEN, MASK)
    if name == "rds-data":
        assert "columnMetadata" not in answer


@pytest.mark.parametrize("name", CASES)
def test_masking_javascript(masked_way: Way, masked_agent: dict[str, str], node_sdk: NodeSdk, name: str) -> None:
    client, command, params, _, _, look = CASES[name]
    _answers(masked_way, name)
    env = masked_agent | {"AWS_MAX_ATTEMPTS": "3"}
    (answer,) = node_sdk(env, {"client": client, "command": command, "input": params})
    assert answer["ok"], answer
    _judged(masked_way, name, look(answer))


@pytest.mark.parametrize("name", CASES)
def test_masking_cli(masked_way: Way, masked_agent: dict[str, str], aws_cli: AwsCli, tmp_path: Path, name: str) -> None:
    _, command, _, _, _, look = CASES[name]
    _answers(masked_way, name)
    words = re.sub(r"(?<!^)(?=[A-Z])", "-", command).lower()
    out = [str(tmp_path / "out")] if name == "lambda" else []
    done = aws_cli(masked_agent | {"AWS_MAX_ATTEMPTS": "3"}, name, words, *COMMANDS[name], *out)
    assert done.returncode == 0, done.stderr
    _judged(masked_way, name, look(json.loads(done.stdout)))


KINDS = [*SUMS, "crc32-composite", "sha256-composite"]


def _hidden(name: str, part: slice = slice(None)) -> bytes:
    """An object as a client has to see it: the same length, the secret gone."""
    data = OBJECTS[name]
    for secret, rule in ((TOKEN.encode(), b"github-token"), (aws_secret().encode(), b"aws-secret-key")):
        data = data.replace(secret, b"[MASKED:" + rule + b"*" * (len(secret) - len(rule) - 9) + b"]")
    return data[part]


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("kind", KINDS)
def test_masking_boto3_objects(masked_way: Way, masked_agent: dict[str, str], name: str, kind: str) -> None:
    """Every kind of checksum, of the whole object and of its parts, small and streamed, masked and clean."""
    masked_way.aws.answer(objects)
    s3 = boto_client("s3", masked_agent, attempts=3, config=SETTINGS)
    key, size = f"{name}/{kind}", len(OBJECTS[name])
    assert s3.get_object(Bucket="bucket", Key=key, ChecksumMode="ENABLED")["Body"].read() == _hidden(name)
    assert s3.head_object(Bucket="bucket", Key=key)["ContentLength"] == size
    answer = s3.get_object(Bucket="bucket", Key=key, Range="bytes=30-400", ChecksumMode="ENABLED")
    assert answer["Body"].read() == _hidden(name, slice(30, 401))
    assert answer["ContentRange"] == f"bytes 30-{min(400, size - 1)}/{size}"
    assert len(masked_way.calls) == 3


def test_masking_javascript_objects(masked_way: Way, masked_agent: dict[str, str], node_sdk: NodeSdk) -> None:
    masked_way.aws.answer(objects)
    asked = [
        {"Bucket": "bucket", "Key": f"{name}/{kind}", "ChecksumMode": "ENABLED", **({"Range": part} if part else {})}
        for name in OBJECTS
        for kind in KINDS
        for part in ("", "bytes=30-400")
    ]
    env = masked_agent | {"AWS_MAX_ATTEMPTS": "3"}
    answers = node_sdk(env, *({"client": "S3", "command": "GetObject", "input": one} for one in asked))
    for one, answer in zip(asked, answers, strict=True):
        assert answer["ok"], (one, answer)
        part = slice(30, 401) if "Range" in one else slice(None)
        assert base64.b64decode(answer["bodyBase64"]) == _hidden(one["Key"].split("/")[0], part), one
    assert len(masked_way.calls) == len(asked)


def test_masking_cli_objects(masked_way: Way, masked_agent: dict[str, str], aws_cli: AwsCli, tmp_path: Path) -> None:
    """`s3api get-object` with checksums and ranges, and `s3 cp` of an object in several parts."""
    masked_way.aws.answer(objects)
    env: Mapping[str, str] = masked_agent | {"AWS_MAX_ATTEMPTS": "3"}
    file = tmp_path / "out"
    for kind in ("crc64nvme", "sha256", "crc32-composite"):
        asked = ["s3api", "get-object", "--bucket", "bucket", "--checksum-mode", "ENABLED", "--key", f"large/{kind}"]
        done = aws_cli(env, *asked, str(file))
        assert done.returncode == 0 and file.read_bytes() == _hidden("large"), done.stderr
        done = aws_cli(env, *asked, "--range", "bytes=9-3000000", str(file))
        assert done.returncode == 0 and file.read_bytes() == _hidden("large", slice(9, 3_000_001)), done.stderr
    assert len(masked_way.calls) == 6
    settings = tmp_path / "config"
    settings.write_text("[default]\ns3 =\n  multipart_threshold = 2MB\n  multipart_chunksize = 2MB\n")
    done = aws_cli(env | {"AWS_CONFIG_FILE": str(settings)}, "s3", "cp", "s3://bucket/large/crc32", str(file))
    assert done.returncode == 0 and file.read_bytes() == _hidden("large"), done.stderr
    assert len(masked_way.calls) == 6 + 1 + -(-len(OBJECTS["large"]) // (2 << 20))
