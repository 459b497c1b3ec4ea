"""The AWS CLI and the JavaScript SDK, unmodified, on the whole way."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support.clients import boto_client
from support.tools import AwsCli, NodeSdk
from support.way import Way


def test_the_aws_cli(way: Way, alice: dict[str, str], aws_cli: AwsCli, tmp_path: Path) -> None:
    done = aws_cli(alice, "sts", "get-caller-identity")
    assert json.loads(done.stdout)["Account"] == "123456789012", done.stderr
    source = tmp_path / "a b+c ü"
    source.write_bytes(b"data" * 3_000_000)  # 12 MB: multipart
    done = aws_cli(alice, "s3", "cp", str(source), "s3://bucket/x/")
    assert done.returncode == 0, done.stderr
    assert way.aws.s3.buckets["bucket"].objects["x/a b+c ü"].data == source.read_bytes()
    done = aws_cli(alice, "s3", "cp", "s3://bucket/x/a b+c ü", str(tmp_path / "back"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert not way.aws.refused


def test_the_aws_cli_prints_the_reason(way: Way, alice: dict[str, str], aws_cli: AwsCli) -> None:
    done = aws_cli(alice, "iam", "delete-user", "--user-name", "u")
    assert done.returncode
    assert b"AccessDenied" in done.stderr and b"keep-iam-users" in done.stderr
    assert b"Identity changes go through Terraform." in done.stderr
    done = aws_cli(alice, "s3", "rb", "s3://bucket")
    assert done.returncode and b"Buckets are for ever." in done.stderr
    assert way.calls == []


def test_no_spelling_of_a_command_hides_its_call(way: Way, alice: dict[str, str], aws_cli: AwsCli) -> None:
    """Rules see calls, not command lines: options in between, --force and an SDK come to the same."""
    for command in (
        ("iam", "--output", "json", "delete-user", "--user-name", "u"),
        ("--region", "eu-west-1", "iam", "delete-user", "--cli-input-json", '{"UserName": "u"}'),
        ("s3", "rb", "--force", "s3://bucket"),
    ):
        done = aws_cli(alice, *command)
        assert done.returncode != 0 and b"Refused by flowwarden" in done.stdout + done.stderr, command
    with pytest.raises(ClientError, match="Refused by flowwarden"):
        boto_client("iam", alice).delete_user(UserName="u")
    assert not {seen.action for seen in way.aws.accepted} & {"DeleteUser", "DeleteBucket"}
    assert "bucket" in way.aws.s3.buckets


def test_the_aws_cli_prints_a_bad_token(way: Way, alice: dict[str, str], aws_cli: AwsCli) -> None:
    for token, code in ((way.issuer.expired(), b"ExpiredToken"), (way.issuer.wrongly_signed(), b"InvalidToken")):
        done = aws_cli(alice | {"HTTPS_PROXY": way.gateway.proxy(token)}, "sts", "get-caller-identity")
        assert done.returncode and code in done.stderr
    assert way.calls == []


KEYS = [
    "a b+c=d%e:f@g!h'i(j)k*l~m#n?o[p]",
    "grüße/日本",
    "double//slash",
    "a%2Fb",
    "trailing/",
    "./dot",
    "a/../dot",
    "a.b/c..d",
]


def test_keys_of_the_aws_cli(way: Way, alice: dict[str, str], aws_cli: AwsCli, tmp_path: Path) -> None:
    """Each key is written, read and listed as it was meant; the CLI's own endpoint rules are in between."""
    source = tmp_path / "source"
    for number, key in enumerate(KEYS):
        source.write_bytes(key.encode() * 100)
        done = aws_cli(alice, "s3api", "put-object", "--bucket", "bucket", "--key", key, "--body", str(source))
        assert done.returncode == 0, done.stderr
        assert way.aws.s3.buckets["bucket"].objects[key].data == key.encode() * 100
        back = tmp_path / str(number)
        done = aws_cli(alice, "s3api", "get-object", "--bucket", "bucket", "--key", key, str(back))
        assert done.returncode == 0 and back.read_bytes() == key.encode() * 100, done.stderr
    assert not way.aws.refused


def test_keys_of_the_javascript_sdk(way: Way, alice: dict[str, str], node_sdk: NodeSdk) -> None:
    bodies = {key: base64.b64encode(f"js {key}".encode()).decode() for key in KEYS}
    where = [{"Bucket": "bucket", "Key": key} for key in KEYS]
    puts = [{"client": "S3", "command": "PutObject", "input": one, "bodyBase64": bodies[one["Key"]]} for one in where]
    gets = [{"client": "S3", "command": "GetObject", "input": one} for one in where]
    answers = node_sdk(alice, *puts, *gets)
    assert all(answer["ok"] for answer in answers), answers
    assert [answer["bodyBase64"] for answer in answers[len(KEYS) :]] == list(bodies.values())
    for key in KEYS:
        assert way.aws.s3.buckets["bucket"].objects[key].data == f"js {key}".encode()
    assert not way.aws.refused


def test_the_javascript_sdk(way: Way, alice: dict[str, str], node_sdk: NodeSdk) -> None:
    key = "ü a+b/!'()*"
    body = base64.b64encode(b"text" * 1000).decode()
    answers = node_sdk(
        alice,
        {"client": "STS", "command": "GetCallerIdentity", "input": {}},
        {"client": "S3", "command": "PutObject", "input": {"Bucket": "bucket", "Key": key}, "bodyBase64": body},
        {"client": "S3", "command": "GetObject", "input": {"Bucket": "bucket", "Key": key}},
        {"client": "S3", "command": "ListObjectsV2", "input": {"Bucket": "bucket"}},
        {"client": "DynamoDB", "command": "ListTables", "input": {}},
        {"client": "S3", "command": "DeleteBucket", "input": {"Bucket": "bucket"}},
    )
    assert [answer["ok"] for answer in answers] == [True] * 5 + [False], answers
    assert answers[2]["bodyBase64"] == body
    assert answers[5]["name"] == "AccessDenied" and "keep-buckets" in answers[5]["message"]
    assert way.aws.s3.buckets["bucket"].objects[key].data == b"text" * 1000
    assert not way.aws.refused


def test_the_javascript_sdk_prints_a_bad_token(way: Way, alice: dict[str, str], node_sdk: NodeSdk) -> None:
    for token, code in ((way.issuer.expired(), "ExpiredToken"), (way.issuer.wrongly_signed(), "InvalidToken")):
        env = alice | {"HTTPS_PROXY": way.gateway.proxy(token)}
        (answer,) = node_sdk(env, {"client": "STS", "command": "GetCallerIdentity", "input": {}})
        assert not answer["ok"] and code in {answer["name"], answer["code"]}, answer
    assert way.calls == []
