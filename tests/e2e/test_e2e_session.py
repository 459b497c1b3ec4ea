"""`flowwarden session start` gives an agent's container everything it needs, in each of its formats."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from support.clients import boto_client
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


def test_the_credential_process(way: Way, tmp_path: Path) -> None:
    done = start(way, tmp_path, "credential-process")
    made = json.loads(done.stdout)
    assert made["Version"] == 1 and made["Expiration"]
    env = variables(way, tmp_path, "json")
    assert boto_client("sts", env).get_caller_identity()


@pytest.mark.parametrize("kind", ["expired", "wrongly_signed", "unsigned"])
def test_a_bad_token_is_one_line(way: Way, tmp_path: Path, kind: str) -> None:
    done = start(way, tmp_path, "env", getattr(way.issuer, kind)())
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr


def test_a_gateway_that_is_not_there_is_one_line(way: Way, tmp_path: Path) -> None:
    env = {"FLOWWARDEN_TOKEN": way.issuer.token()}
    done = way.gateway.run("session", "start", "--proxy", "http://127.0.0.1:1", "--folder", str(tmp_path), env=env)
    assert done.returncode == 2 and "127.0.0.1:1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
