"""`flowwarden session start` gives an agent's container everything it needs, in each of its formats."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.clients import boto_client
from support.gateway import PROGRAM, GatewayProcess, identity
from support.issuer import OidcIssuer
from support.strict_aws import StrictAws
from support.tools import AwsCli
from support.way import Way


def start(way: Way, folder: Path, form: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    proxy = f"http://127.0.0.1:{way.gateway.port}"
    arguments = ["--format", form, "--proxy", proxy, "--folder", str(folder), "--region", "eu-central-1"]
    env = {"FLOWWARDEN_TOKEN": token or way.issuer.token("quinn")}
    done: subprocess.CompletedProcess[str] = way.gateway.run("session", "start", *arguments, env=env)
    return done


def variables(way: Way, folder: Path, form: str) -> dict[str, str]:
    done = start(way, folder, form)
    assert done.returncode == 0, done.stderr
    assert "fingerprint" in done.stderr
    if form == "json":
        found: dict[str, str] = json.loads(done.stdout)["environment"]
        return found
    lines = done.stdout.splitlines()
    if form == "env":
        assert all(line.startswith("export ") for line in lines)
        lines = [shlex.split(line.removeprefix("export "))[0] for line in lines]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("form", ["env", "json", "docker"])
def test_the_environment_is_all_that_an_agent_needs(way: Way, aws_cli: AwsCli, tmp_path: Path, form: str) -> None:
    """The AWS CLI with nothing but these variables; the CA bundle has the system's CAs and the gateway's."""
    env = variables(way, tmp_path, form)
    done = aws_cli(env, "sts", "get-caller-identity")
    assert done.returncode == 0, done.stderr
    bundle = Path(env["AWS_CA_BUNDLE"]).read_text()
    assert way.gateway.ca().read_text().strip() in bundle
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        assert Path(env[name]).is_file()
    assert env["AWS_REGION"] == "eu-central-1"


@pytest.mark.skipif(not shutil.which("java"), reason="no Java here to read the truststore")
def test_java_trusts_the_gateway(way: Way, tmp_path: Path) -> None:
    """Java's own TLS with JAVA_TOOL_OPTIONS alone; without it the gateway's certificates are not trusted."""
    env = variables(way, tmp_path, "json")
    program = Path(__file__).parents[1] / "support" / "Handshake.java"
    for some, trusted in ((env, True), ({**env, "JAVA_TOOL_OPTIONS": ""}, False)):
        done = subprocess.run(
            ["java", str(program), "sts.eu-central-1.amazonaws.com"],
            env={"PATH": os.environ["PATH"], **some},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode == 0) == trusted, done.stderr
        assert ("200" in done.stdout and "mitmproxy" in done.stdout) == trusted, done.stdout


def credential_process(way: Way, proxy: str, token: str = "") -> subprocess.CompletedProcess[str]:
    env = {"HTTPS_PROXY": proxy, "FLOWWARDEN_TOKEN": token}
    done: subprocess.CompletedProcess[str] = way.gateway.run(
        "session", "start", "--format", "credential-process", env=env
    )
    return done


def test_the_credential_process(way: Way, tmp_path: Path, aws_cli: AwsCli) -> None:
    """The keys are those of the session that HTTPS_PROXY names, also where that is a token; the AWS CLI runs it by itself."""
    env = variables(way, tmp_path, "json")
    made = json.loads(credential_process(way, env["HTTPS_PROXY"]).stdout)
    assert made["Version"] == 1 and made["AccessKeyId"] == env["AWS_ACCESS_KEY_ID"]
    bare = {name: value for name, value in env.items() if not name.startswith("AWS_") or name == "AWS_CA_BUNDLE"}
    proxy = way.gateway.proxy(way.issuer.token("quentin"))
    with_token = bare | {"HTTPS_PROXY": proxy, "https_proxy": proxy}
    config = tmp_path / "config"
    config.write_text(
        f"[default]\nregion = eu-central-1\ncredential_process = {PROGRAM} session start --format credential-process\n"
    )
    for some, subject in ((bare, "quinn"), (with_token, "quentin")):
        done = aws_cli(some | {"AWS_CONFIG_FILE": str(config)}, "sts", "get-caller-identity")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["Arn"].endswith(f"/{subject}")
    done = credential_process(way, f"http://127.0.0.1:{way.gateway.port}", way.issuer.token("quinn"))
    assert done.returncode and "HTTPS_PROXY names no session" in done.stderr and not done.stdout


def test_a_process_that_lives_for_hours(
    start_gateway: Callable[..., GatewayProcess], issuer: OidcIssuer, strict_aws: StrictAws, tmp_path: Path
) -> None:
    """botocore asks its credential_process again before the session ends: the same keys, for longer, in one process."""
    rules = identity(issuer, sessions={"ttl": "15s", "max": "1h"})
    strict_aws.open_sts = True
    gateway = start_gateway(sandbox=strict_aws.url, identity_rules=rules)
    way = Way(strict_aws, gateway, issuer)
    env = gateway.session(subject="longlived")

    def expires() -> datetime:
        done = credential_process(way, env["HTTPS_PROXY"], issuer.token("longlived"))
        found = json.loads(done.stdout)
        assert found["AccessKeyId"] == env["AWS_ACCESS_KEY_ID"], done.stderr
        return datetime.fromisoformat(found["Expiration"])

    client = boto_client("sts", env)
    first = expires()
    while datetime.now(UTC) < first:
        assert client.get_caller_identity()
        assert expires() >= first
    assert client.get_caller_identity(), "the session has outlived its first end"


@pytest.mark.parametrize("kind", ["expired", "wrongly_signed", "unsigned"])
def test_a_bad_token_is_one_line(way: Way, tmp_path: Path, kind: str) -> None:
    done = start(way, tmp_path, "env", getattr(way.issuer, kind)())
    assert done.returncode == 1 and not done.stdout
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr


def test_a_gateway_that_is_not_there_is_one_line(way: Way, tmp_path: Path) -> None:
    env = {"FLOWWARDEN_TOKEN": way.issuer.token()}
    done = way.gateway.run("session", "start", "--proxy", "http://127.0.0.1:1", "--folder", str(tmp_path), env=env)
    assert done.returncode == 2 and "127.0.0.1:1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
