"""Agents run again against what a gateway recorded of them: stock clients, no change but the environment, nothing dialled."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from flowwarden import replay
from support.clients import boto_client
from support.gateway import PROGRAM
from support.tools import AwsCli, NodeSdk
from support.way import Way

LARGE = bytes(range(256)) * 12_000  # 3 MB: streams both ways, and lies in bodies/


class Unseekable(io.RawIOBase):
    """A body of which nobody can say the hash beforehand: boto3 streams it in chunks with a trailer."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(size)

    def readable(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self._data.getvalue())


def boto3_story(env: dict[str, str]) -> list[Any]:
    """Virtual hosts, streamed bodies both ways, HEAD, an error, a secret in the request."""
    s3, sts = boto_client("s3", env), boto_client("sts", env)
    secrets = boto_client("secretsmanager", env)
    seen: list[Any] = [sts.get_caller_identity()["Account"]]
    s3.put_object(Bucket="bucket", Key="a b/ü", Body=b"small")
    s3.put_object(Bucket="bucket", Key="large", Body=Unseekable(LARGE))
    seen.append(s3.head_object(Bucket="bucket", Key="large")["ContentLength"])
    seen.append(s3.get_object(Bucket="bucket", Key="large")["Body"].read() == LARGE)
    seen.append(s3.get_object(Bucket="bucket", Key="a b/ü")["Body"].read())
    seen.append(sorted(one["Key"] for one in s3.list_objects_v2(Bucket="bucket")["Contents"]))
    try:
        s3.get_object(Bucket="bucket", Key="missing")
    except ClientError as error:
        seen.append(error.response["Error"]["Code"])
    try:
        s3.delete_bucket(Bucket="bucket")
    except ClientError as error:
        seen.append(error.response["Error"]["Message"])  # the gateway's own refusal
    secrets.create_secret(Name="db", SecretString="ghp_" + "x1Y2" * 9)
    return seen


@pytest.fixture
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that this process dials; a test says what may be among them."""
    dialled: list[Any] = []
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        dialled.append(address)
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", _numbers_only(socket.getaddrinfo))
    return dialled


def _numbers_only(real: Any) -> Any:
    def getaddrinfo(host: Any, *more: Any, **named: Any) -> Any:
        assert host in ("127.0.0.1", b"127.0.0.1"), f"the name {host} was looked up"
        return real(host, *more, **named)

    return getaddrinfo


def test_boto3_through_the_proxy(way: Way, only_loopback: list[Any]) -> None:
    """The same answers, byte for byte, through tunnels; and the gateway and AWS hear of nothing."""
    env = way.gateway.session(subject="replayed")
    seen = boto3_story(env)
    asked = len(way.aws.seen)
    only_loopback.clear()
    with replay.serving(way.gateway.recordings, env["FLOWWARDEN_SESSION"]) as server:
        assert boto3_story(server.environment) == seen
        assert server.answers.misses == []
        assert server.answers.left == []
        port = int(server.url.rsplit(":", 1)[1])
    assert {address[1] for address in only_loopback} == {port}
    assert len(way.aws.seen) == asked


def test_the_aws_cli_and_javascript(way: Way, aws_cli: AwsCli, node_sdk: NodeSdk, tmp_path: Path) -> None:
    """Multipart upload and download by the CLI's threads; the JavaScript SDK's virtual hosts and streams."""
    env = way.gateway.session(subject="clients")
    source = tmp_path / "twelve"
    source.write_bytes(b"data" * 3_000_000)
    body = base64.b64encode(b"text" * 300_000).decode()
    calls = (
        {"client": "STS", "command": "GetCallerIdentity", "input": {}},
        {"client": "S3", "command": "PutObject", "input": {"Bucket": "bucket", "Key": "ü a+b"}, "bodyBase64": body},
        {"client": "S3", "command": "GetObject", "input": {"Bucket": "bucket", "Key": "ü a+b"}},
        {"client": "DynamoDB", "command": "ListTables", "input": {}},
        {"client": "S3", "command": "DeleteBucket", "input": {"Bucket": "bucket"}},
    )

    def story(env: dict[str, str], back: Path) -> list[Any]:
        who = aws_cli(env, "sts", "get-caller-identity")
        up = aws_cli(env, "s3", "cp", str(source), "s3://bucket/x/twelve")
        down = aws_cli(env, "s3", "cp", "s3://bucket/x/twelve", str(back))
        assert (up.returncode, down.returncode) == (0, 0), (up.stderr, down.stderr)
        return [json.loads(who.stdout), back.read_bytes() == source.read_bytes(), node_sdk(env, *calls)]

    seen = story(env, tmp_path / "one")
    asked = len(way.aws.seen)
    with replay.serving(way.gateway.recordings, env["FLOWWARDEN_SESSION"]) as server:
        again = story(server.environment, tmp_path / "two")
        assert server.answers.misses == []
    assert again == seen and seen[1]
    assert len(way.aws.seen) == asked


def test_the_command(way: Way, tmp_path: Path) -> None:
    """`replay --serve` prints what `session start` prints; with the gateway's CA; misses are listed at the end."""
    env = way.gateway.session(subject="command")
    boto_client("sts", env).get_caller_identity()
    process = subprocess.Popen(
        [PROGRAM, "replay", env["FLOWWARDEN_SESSION"], "--serve", "0", "--folder", tmp_path / "home"],
        cwd=way.gateway.folder, env=way.gateway.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    found: dict[str, str] = {}
    while "AWS_REGION" not in found:
        line = process.stdout.readline()
        assert line, process.communicate()
        if match := re.fullmatch(r"export (\w+)=(.*)\n", line):
            found[match[1]] = match[2].strip("'")
    assert Path(found["AWS_CA_BUNDLE"]).parent == tmp_path / "home" / "replay"  # not in the place of a live session's
    found["AWS_CA_BUNDLE"] = str(way.gateway.ca())  # who trusts the gateway trusts a replay
    assert boto_client("sts", found).get_caller_identity()["Account"] == "123456789012"
    with pytest.raises(ClientError, match="not in the recording"):
        boto_client("dynamodb", found).list_tables()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1, err
    assert "1 answered, 1 missed" in err and "missed: dynamodb:ListTables" in err
    assert all(line.startswith("export ") for line in out.splitlines()), out  # nothing but what a shell may source


@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="a network namespace of its own needs root on Linux"
)
def test_without_any_network(way: Way, tmp_path: Path) -> None:
    """In a network namespace that has nothing but loopback, agent and replay both, the story is the same."""
    env = way.gateway.session(subject="alone")
    boto_client("sts", env).get_caller_identity()
    script = (
        "import sys; from pathlib import Path; from flowwarden import replay; from support.clients import boto_client\n"
        "with replay.serving(Path(sys.argv[1]), sys.argv[2]) as server:\n"
        "    print(boto_client('sts', server.environment).get_caller_identity()['Account'], server.answers.misses)\n"
    )
    command = f'ip link set lo up && exec {sys.executable} -c "$0" "$@"'
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", command, script, way.gateway.recordings, env["FLOWWARDEN_SESSION"]],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr or "ip: not found" in done.stderr:
        pytest.skip(f"no namespace can be made here: {done.stderr.strip()}")
    assert done.stdout.strip() == "123456789012 []", done.stderr
