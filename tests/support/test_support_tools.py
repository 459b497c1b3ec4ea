"""The AWS CLI and the JavaScript SDK straight against the strict server: what goes wrong later is the gateway's doing."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from .certs import Authority
from .sigv4_judge import Secret
from .strict_aws import StrictAws
from .tools import AwsCli, NodeSdk


def keys(secret: Secret) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": secret.key_id,
        "AWS_SECRET_ACCESS_KEY": secret.secret,
        "AWS_SESSION_TOKEN": secret.token,
    }


def test_the_aws_cli(strict_aws: StrictAws, aws_cli: AwsCli, tmp_path: Path) -> None:
    env = keys(strict_aws.new_key(token=True)) | {"AWS_ENDPOINT_URL": strict_aws.url}
    done = aws_cli(env, "sts", "get-caller-identity")
    assert json.loads(done.stdout)["Account"] == "123456789012", done.stderr
    (tmp_path / "a b+c").write_bytes(b"data" * 1000)
    done = aws_cli(env, "s3", "cp", str(tmp_path / "a b+c"), "s3://bucket/x/")
    assert done.returncode == 0, done.stderr
    assert strict_aws.s3.buckets["bucket"].objects["x/a b+c"].data == b"data" * 1000
    assert not strict_aws.refused


def test_the_javascript_sdk(authority: Authority, node_sdk: NodeSdk) -> None:
    with StrictAws(tls=authority.server_context("127.0.0.1")) as aws:
        env = keys(aws.new_key(token=True)) | {"TEST_ENDPOINT": aws.url, "NODE_EXTRA_CA_CERTS": str(authority.pem)}
        key = "ü a+b/!'()*"
        text = base64.b64encode(b"text").decode()
        answers = node_sdk(
            env,
            {"client": "S3", "command": "PutObject", "input": {"Bucket": "b", "Key": key}, "bodyBase64": text},
            {"client": "S3", "command": "GetObject", "input": {"Bucket": "b", "Key": key}},
            {"client": "STS", "command": "GetCallerIdentity", "input": {}},
            {"client": "S3", "command": "GetObject", "input": {"Bucket": "b", "Key": "none"}},
        )
        assert [answer["ok"] for answer in answers] == [True, True, True, False], (answers, aws.refused)
        assert answers[1]["bodyBase64"] == text
        assert answers[3]["name"] == "NoSuchKey"
        assert len(aws.accepted) == 3
