"""The gateway as its own process, started as a user starts it: `flowwarden run --conf …` in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .clients import ProxyClient, basic
from .issuer import OidcIssuer

ACCOUNT = "123456789012"
REGION = "eu-central-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/agent-developer"
PROGRAM = Path(sys.executable).parent / "flowwarden"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def identity(issuer: OidcIssuer, **changes: Any) -> dict[str, Any]:
    """rules/identity.yaml for the tests; keyword arguments replace top-level keys."""
    return {
        "issuers": [
            {
                "issuer": issuer.url,
                "audience": issuer.audience,
                "jwks": f"{issuer.url}/keys",
                "algorithms": ["RS256", "ES256"],
                "groups_claim": "groups",
                "agent_claim": "azp",
                "owner_claim": "owner",
                "max_lifetime": "12h",
            }
        ],
        "sessions": {"ttl": "1h", "max": "12h"},
        "credentials": [
            {
                "groups": ["developers", "sre"],
                "assume_role": ROLE,
                "accounts": [ACCOUNT],
                "duration": "15m",
            }
        ],
        "roles": {
            "approver": {"groups": ["sre"]},
            "viewer": {"groups": ["audit"]},
            "admin": {"groups": ["platform"]},
        },
        **changes,
    }


POLICY: dict[str, Any] = {
    "default": "deny",
    "rules": [
        {
            "id": "developers-work",
            "effect": "allow",
            "groups": ["developers"],
            "actions": [
                "s3:*",
                "sts:*",
                "dynamodb:*",
                "ec2:*",
                "lambda:*",
                "secretsmanager:*",
                "iam:Get*",
                "iam:List*",
            ],
        },
        {
            "id": "keep-iam-users",
            "effect": "deny",
            "actions": ["iam:Delete*", "iam:CreateAccessKey"],
            "reason": "Identity changes go through Terraform.",
        },
        {"id": "keep-buckets", "effect": "deny", "actions": ["s3:DeleteBucket"], "reason": "Buckets are for ever."},
        {
            "id": "terminate-needs-a-human",
            "effect": "approve",
            "actions": ["ec2:TerminateInstances"],
            "approvers": {"groups": ["sre"], "count": 1},
            "scope": "request",
            "hold": "20s",
            "expires": "60s",
            "on_timeout": "deny",
        },
        {
            "id": "packages",
            "effect": "allow",
            "hosts": ["localhost", "packages.example.com"],
            "methods": ["GET", "HEAD"],
            "paths": ["/simple/*"],
        },
    ],
}
MASKS: dict[str, Any] = {
    "masks": [
        {"id": "secret-fields", "fields": ["SecretString", "SecretBinary", "Password"], "groups": ["developers"]},
        {"id": "github-token", "pattern": r"\bghp_[A-Za-z0-9]{36}\b", "keywords": ["ghp_"], "replace": "redact"},
    ]
}


class GatewayProcess:
    """Writes the files, starts the process, waits until it is ready, and collects what it prints."""

    program: Sequence[str] = ()  # what is run in place of `flowwarden run`

    def __init__(
        self,
        folder: Path,
        issuer: OidcIssuer,
        *,
        sandbox: str,
        options: Mapping[str, Any] | None = None,
        identity_rules: Mapping[str, Any] | None = None,
        policy: Mapping[str, Any] = POLICY,
        masks: Mapping[str, Any] = MASKS,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.issuer = issuer
        self.port, self.admin_port = free_port(), free_port()
        self.conf = folder / "mitm.conf"
        self.rules = folder / "rules"
        self.rules.mkdir(parents=True, exist_ok=True)
        self.write_rules("identity", identity_rules or identity(issuer))
        self.write_rules("policy", policy)
        self.write_rules("masks", masks)
        self.options: dict[str, Any] = {
            "listen_host": "127.0.0.1",
            "listen_port": self.port,
            "warden_admin_listen": f"127.0.0.1:{self.admin_port}",
            **({"warden_sandbox": sandbox} if sandbox else {}),
            **(options or {}),
        }
        self.conf.write_text(json.dumps(self.options, indent=1))
        inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self.env = {**inherited, "HOME": str(folder), "LANG": "C.UTF-8", **(env or {})}
        self.process: subprocess.Popen[str] | None = None
        self.output: list[str] = []
        self._readers: list[threading.Thread] = []
        self._connections: list[ProxyClient] = []

    # -- files -----------------------------------------------------------------------------------------------------

    def write_rules(self, name: str, rules: Mapping[str, Any] | str) -> None:
        """JSON is YAML; a text is written as it is."""
        text = rules if isinstance(rules, str) else json.dumps(rules, indent=1)
        temporary = self.rules / f"{name}.yaml.tmp"
        temporary.write_text(text)
        temporary.replace(self.rules / f"{name}.yaml")

    @property
    def recordings(self) -> Path:
        return self.folder / "recordings"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def evidence(self) -> list[dict[str, Any]]:
        """The evidence log's records; a last line that is still being written is left out."""
        path = self.recordings / "evidence.ndjson"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    # -- the process -----------------------------------------------------------------------------------------------

    def spawn(self, *arguments: str) -> GatewayProcess:
        """Starts without waiting."""
        command = [*(self.program or (str(PROGRAM), "run", "--conf", str(self.conf))), *arguments]
        self.output.clear()
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        reader.start()
        self._readers = [reader]
        return self

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line)

    def start(self, *arguments: str, timeout: float = 60) -> GatewayProcess:
        """Starts and waits until /health says that it is ready; RuntimeError with its output if it ends before."""
        self.spawn(*arguments)
        end = time.monotonic() + timeout
        while not (self.healthy() and self.listening()):
            self._wait(0.02)
            if self.returncode is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"the gateway did not become ready (exit code {self.returncode}):\n{self.text}")
        return self

    def _wait(self, seconds: float) -> None:
        assert self.process is not None
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True

    @property
    def returncode(self) -> int | None:
        return self.process.poll() if self.process else None

    @property
    def text(self) -> str:
        return "".join(self.output)

    def refused(self, *arguments: str, timeout: float = 60) -> str:
        """Starts what must not start: exit code 2, one line, no traceback. The line."""
        self.spawn(*arguments)
        assert self.process is not None
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the gateway started, or hangs:\n{self.text}") from None
        for reader in self._readers:
            reader.join(10)
        text = self.text.strip()
        if self.returncode != 2 or "Traceback" in text or not 0 < len(text.splitlines()) <= 2:
            raise AssertionError(f"exit code {self.returncode}, and it says:\n{text}")
        return text

    def stop(self, timeout: float = 40) -> int:
        """SIGTERM and wait; the exit code."""
        assert self.process is not None
        for client in self._connections:
            client.close()
        if self.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the gateway did not stop within {timeout} s:\n{self.text}") from None
        for reader in self._readers:
            reader.join(10)
        return self.process.returncode

    def kill(self) -> None:
        """kill -9."""
        if self.process:
            self.process.kill()
            self.process.wait()
            for reader in self._readers:
                reader.join(10)

    def __enter__(self) -> GatewayProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.returncode is None:
            self.stop()

    # -- the agent's side ------------------------------------------------------------------------------------------

    def proxy(self, credential: str) -> str:
        return f"http://flowwarden:{credential}@127.0.0.1:{self.port}"

    def client(self, credential: str = "", **options: Any) -> ProxyClient:
        """A raw connection to the proxy; trusts the gateway's CA."""
        made = ProxyClient(self.port, self.ca(), credential=credential, **options)
        self._connections.append(made)
        return made

    def ca(self) -> Path:
        """The gateway's CA certificate, as an agent's container gets it: from /ca.pem through the proxy."""
        path = self.folder / "agent-ca.pem"
        if not path.exists():
            status, body = self.internal("GET", "/ca.pem")
            if status != 200:
                raise AssertionError(f"/ca.pem answered {status}: {body[:200]!r}")
            path.write_bytes(body)
        return path

    def internal(
        self, method: str, path: str, *, credential: str = "", bearer: str = "", body: bytes = b""
    ) -> tuple[int, bytes]:
        """A request to http://flowwarden.internal through the proxy."""
        fields = [("Host", "flowwarden.internal")]
        if credential:
            fields.append(("Proxy-Authorization", basic(credential)))
        if bearer:
            fields.append(("Authorization", f"Bearer {bearer}"))
        if method not in {"GET", "HEAD"} and not body:
            fields.append(("Content-Length", "0"))
        with ProxyClient(self.port) as client:
            reply = client.request(
                method, f"http://flowwarden.internal{path}", [*fields, ("Connection", "close")], body
            )
        return reply.status, reply.body

    def session(self, token: str | None = None, subject: str = "alice", **claims: Any) -> dict[str, str]:
        """Starts a session and returns the environment that an agent's container gets."""
        status, body = self.internal("POST", "/session", bearer=token or self.issuer.token(subject, **claims))
        if status not in {200, 201}:
            raise AssertionError(f"POST /session answered {status}: {body[:500]!r}")
        return self.environment(json.loads(body))

    def environment(self, made: Mapping[str, Any]) -> dict[str, str]:
        """The variables of `flowwarden session start --format env`, from the JSON of POST /session."""
        found = {key.lower(): value for key, value in made.items()}
        keys = {key.lower(): value for key, value in found.get("credentials", found).items()}

        def key(*names: str) -> str:
            return next(str(keys[name]) for name in names if name in keys)

        ca = str(self.ca())
        return {
            "HTTPS_PROXY": self.proxy(str(found["handle"])),
            "AWS_ACCESS_KEY_ID": key("access_key_id", "accesskeyid", "aws_access_key_id"),
            "AWS_SECRET_ACCESS_KEY": key("secret_access_key", "secretaccesskey", "aws_secret_access_key"),
            "AWS_SESSION_TOKEN": key("session_token", "sessiontoken", "aws_session_token"),
            "AWS_CA_BUNDLE": ca,
            "NODE_EXTRA_CA_CERTS": ca,
            "SSL_CERT_FILE": ca,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "FLOWWARDEN_HANDLE": str(found["handle"]),
            "FLOWWARDEN_SESSION": str(found.get("session", found.get("id", ""))),
        }

    # -- the operators' side ---------------------------------------------------------------------------------------

    def operators(self, method: str, path: str, token: str = "", body: Any = None) -> tuple[int, dict[str, Any]]:
        """A call of the operators' API with an OIDC token."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}{path}", method=method)
        if token:
            asked.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            asked.add_header("Content-Type", "application/json")
            asked.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def questions(self, token: str, state: str = "open") -> list[dict[str, Any]]:
        """The approvals in this state, as an approver sees them."""
        status, answer = self.operators("GET", f"/approvals?state={state}", token)
        if status != 200:
            raise AssertionError(f"GET /approvals answered {status}: {answer}")
        found: list[dict[str, Any]] = answer["approvals"]
        return found

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> Any:
        """Runs another command of `flowwarden` in the gateway's folder."""
        return subprocess.run(
            [str(PROGRAM), *arguments],
            cwd=self.folder,
            env=self.env | dict(env or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
