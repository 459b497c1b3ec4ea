"""Where the gateway's own credentials come from, by boto3's chain as it is: EC2, ECS and SSO answer from local stubs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flowwarden.credentials import phantoms
from flowwarden.credentials.rules import CredentialRule, CredentialRules
from flowwarden.credentials.vault import Vault
from flowwarden.types import Principal, Session
from support.strict_sts import Role, StrictSts, serving

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/agent"
GATEWAY = f"arn:aws:sts::{ACCOUNT}:assumed-role/gateway/i-1"
RULE = CredentialRule(accounts=(ACCOUNT,), assume_role=(ROLE,))
Answer = Callable[[str, str, dict[str, str]], tuple[int, str]]


@contextmanager
def stub(answer: Answer) -> Iterator[str]:
    """An HTTP server on loopback: method, path and headers to status and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answer(
                self.command, self.path, {name.lower(): value for name, value in self.headers.items()}
            )
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_PUT = do_GET

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StrictSts]:
    """A strict STS that trusts the gateway, and a machine that has no credentials yet."""
    with serving(StrictSts(roles={ROLE: Role(ROLE, {GATEWAY})})) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", running.url)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        running.base = running.user(GATEWAY)  # type: ignore[attr-defined]
        yield running


def keys(strict: StrictSts) -> dict[str, str]:
    key, secret = strict.base  # type: ignore[attr-defined]
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"AccessKeyId": key, "SecretAccessKey": secret, "Token": "", "Expiration": until}


async def lends(strict: StrictSts, source: str = "gateway") -> None:
    """A lease through this source, by AssumeRole and as the source's own."""
    rules = (
        CredentialRule((ACCOUNT,), frozenset({"own"}), source=source),
        CredentialRule((ACCOUNT,), assume_role=(ROLE,), source=source),
    )
    vault = Vault(CredentialRules(rules))
    try:
        for group in ("a", "own"):
            one = Session(group, Principal("i", "alice", groups=frozenset({group})), 0, 1e12, 1e12, "", phantoms.mint())
            lease = await vault.lease(one)
            assert lease.account == ACCOUNT and lease.credentials.access_key_id in strict.keys
            assert lease.role_arn == ("" if group == "own" else ROLE)
        assert set(vault.secrets()) & {held.secret for held in strict.keys.values() if held.arn == GATEWAY}
    finally:
        vault.close()


async def test_an_instance_role(strict, monkeypatch):
    """EC2's metadata service, version 2: a token first, then the role, then its credentials."""
    asked = []

    def imds(method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        asked.append((method, path))
        if (method, path) == ("PUT", "/latest/api/token"):
            return 200, "the-token"
        if headers.get("x-aws-ec2-metadata-token") != "the-token":
            return 401, ""
        if path == "/latest/meta-data/iam/security-credentials/":
            return 200, "gateway"
        return 200, json.dumps({"Code": "Success", "Type": "AWS-HMAC", **keys(strict)})

    with stub(imds) as url:
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        await lends(strict)
    assert ("GET", "/latest/meta-data/iam/security-credentials/gateway") in asked


async def test_a_containers_role(strict, monkeypatch, tmp_path):
    """ECS and EKS Pod Identity: an address from the environment, with a token from a file."""
    (tmp_path / "token").write_text("pod-token")

    def endpoint(_method: str, _path: str, headers: dict[str, str]) -> tuple[int, str]:
        if headers.get("authorization") != "pod-token":
            return 403, "{}"
        return 200, json.dumps(keys(strict))

    with stub(endpoint) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/v1/credentials")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        await lends(strict)


async def test_a_service_accounts_role(strict, monkeypatch, tmp_path):
    """EKS with IRSA: the pod's token for AssumeRoleWithWebIdentity, which nobody signs."""
    strict.web_token = "pod-token"
    (tmp_path / "token").write_text("pod-token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", f"arn:aws:iam::{ACCOUNT}:role/gateway")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    await lends(strict)


async def test_sso(strict, monkeypatch, tmp_path):
    """A profile of IAM Identity Center: the token that `aws sso login` left, and the portal's GetRoleCredentials."""
    start = "https://example.awsapps.com/start"
    (tmp_path / "config").write_text(
        f"[profile work]\nsso_session = work\nsso_account_id = {ACCOUNT}\nsso_role_name = gateway\n"
        f"[sso-session work]\nsso_start_url = {start}\nsso_region = eu-central-1\n"
    )
    cache = tmp_path / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    token = {"startUrl": start, "region": "eu-central-1", "accessToken": "portal-token", "expiresAt": until}
    (cache / f"{hashlib.sha1(b'work', usedforsecurity=False).hexdigest()}.json").write_text(json.dumps(token))

    def portal(_method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        if headers.get("x-amz-sso_bearer_token") != "portal-token" or "role_name=gateway" not in path:
            return 401, "{}"
        found = keys(strict)
        role = {
            "accessKeyId": found["AccessKeyId"],
            "secretAccessKey": found["SecretAccessKey"],
            "sessionToken": "",
            "expiration": int((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1000),
        }
        return 200, json.dumps({"roleCredentials": role})

    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    monkeypatch.setattr("botocore.tokens.SSOTokenProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    with stub(portal) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", url)
        await lends(strict, "work")
