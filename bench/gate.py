"""The whole gate beside a bare mitmdump: same client, same server, same call, in one run."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from load import HOST, Measured, drive, free_port, signed_call, start_server, wait_for_port

BIN = Path(sys.executable).parent
SHIPPED = Path(__file__).parents[1] / "rules"


def token(folder: Path) -> str:
    """A local issuer's key file, and a token of it."""
    key = rsa.generate_private_key(65537, 2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    (folder / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "bench", "use": "sig", "alg": "RS256"}]}))
    now = int(time.time())
    claims = {
        "iss": "https://bench.example.com",
        "aud": "flowwarden",
        "sub": "bench",
        "groups": ["developers"],
        "iat": now,
        "exp": now + 3600,
    }
    return jwt.encode(claims, key, "RS256", {"kid": "bench"})


PROGRAM = (str(BIN / "flowwarden"), "run", "--conf")


def gateway(
    stack: ExitStack,
    folder: Path,
    upstream: int,
    trusted: Path,
    program: tuple[str, ...] = PROGRAM,
    more: tuple[str, ...] = (),
    policy: str = "",
) -> tuple[subprocess.Popen[bytes], int]:
    """`flowwarden run` with the shipped rules, every station on, and the server as its sandbox."""
    port, admin = free_port(), free_port()
    env = {**os.environ, "AWS_CA_BUNDLE": str(trusted)}
    sandbox = f"https://localhost:{upstream}\nssl_verify_upstream_trusted_ca: {trusted}"
    process = start(folder, port, admin, sandbox, env, program, more, policy)
    stack.callback(_stop, process)
    wait_for_port(admin)
    wait_for_port(port)
    return process, port


def start(
    folder: Path,
    port: int,
    admin: int,
    sandbox: str,
    env: dict[str, str],
    program: tuple[str, ...] = PROGRAM,
    more: tuple[str, ...] = (),
    policy: str = "",
) -> subprocess.Popen[bytes]:
    """Writes the files of a gateway and starts it."""
    rules = folder / "rules"
    shutil.copytree(SHIPPED, rules)
    shutil.copy(folder / "jwks.json", rules / "jwks.json")
    if policy:
        (rules / "policy.yaml").write_text(policy)
    (rules / "identity.yaml").write_text(
        "issuers:\n  - {issuer: 'https://bench.example.com', audience: flowwarden, jwks: jwks.json}\n"
        "credentials:\n  - {groups: [developers], assume_role: 'arn:aws:iam::123456789012:role/bench', accounts: ['123456789012'], duration: 15m}\n"
    )
    (folder / "mitm.conf").write_text(
        f"listen_host: 127.0.0.1\nlisten_port: {port}\nwarden_admin_listen: 127.0.0.1:{admin}\nwarden_sandbox: {sandbox}\n"
    )
    return subprocess.Popen(
        [*program, str(folder / "mitm.conf"), *more], cwd=folder, stdout=subprocess.DEVNULL, env=env
    )


def bare(stack: ExitStack, folder: Path, trusted: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    process = subprocess.Popen(
        [str(BIN / "mitmdump"), "-q", "--listen-host", "127.0.0.1", "-p", str(port), "--set", f"confdir={folder / 'bare'}",
         "--set", f"ssl_verify_upstream_trusted_ca={trusted}", *arguments],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    stack.callback(_stop, process)
    wait_for_port(port)
    return process, port


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def measure(rounds: int = 3, requests: int = 4000) -> dict[str, Measured]:
    """Gate, bare mitmdump and mitmdump -w, in turns; the median round of each by CPU."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="flowwarden-bench-")))
        upstream, trusted = start_server(stack, folder)
        bearer = token(folder)
        gate, port = gateway(stack, folder, upstream, trusted)
        plain, plain_port = bare(stack, folder, trusted)
        saving, saving_port = bare(stack, folder, trusted, "-w", str(folder / "bare.mitm"))
        bare_ca = folder / "bare" / "mitmproxy-ca-cert.pem"
        started = _session(port, bearer)
        credential = base64.b64encode(f"flowwarden:{started['handle']}".encode()).decode()
        found: dict[str, list[Measured]] = {"gate": [], "mitmdump": [], "mitmdump -w": []}
        for _ in range(rounds):
            keys = started["credentials"]
            call = signed_call(keys["AccessKeyId"], keys["SecretAccessKey"], keys.get("SessionToken", ""))
            ca = folder / "state" / "ca" / "mitmproxy-ca-cert.pem"
            found["gate"].append(drive(gate.pid, port, f"{HOST}:443", HOST, credential, ca, call, requests=requests))
            target = f"localhost:{upstream}"
            found["mitmdump"].append(
                drive(plain.pid, plain_port, target, "localhost", "", bare_ca, call, requests=requests)
            )
            found["mitmdump -w"].append(
                drive(saving.pid, saving_port, target, "localhost", "", bare_ca, call, requests=requests)
            )
        return {name: sorted(runs, key=lambda run: run.cpu)[len(runs) // 2] for name, runs in found.items()}


def stations(requests: int = 4000) -> dict[str, float]:
    """µs a small call that each station takes, all of them on."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="flowwarden-bench-")))
        upstream, trusted = start_server(stack, folder)
        bearer = token(folder)
        out = folder / "spent.json"
        program = (sys.executable, str(Path(__file__).with_name("timed_gateway.py")))
        gate, port = gateway(stack, folder, upstream, trusted, program, (str(out),))
        started = _session(port, bearer)
        credential = base64.b64encode(f"flowwarden:{started['handle']}".encode()).decode()
        keys = started["credentials"]
        call = signed_call(keys["AccessKeyId"], keys["SecretAccessKey"], keys.get("SessionToken", ""))
        ca = folder / "state" / "ca" / "mitmproxy-ca-cert.pem"
        drive(gate.pid, port, f"{HOST}:443", HOST, credential, ca, call, connections=1, requests=400)
        gate.send_signal(signal.SIGUSR2)
        time.sleep(0.2)
        drive(gate.pid, port, f"{HOST}:443", HOST, credential, ca, call, connections=1, requests=requests)
        gate.send_signal(signal.SIGUSR1)
        while not out.exists():
            time.sleep(0.02)
        spent = json.loads(out.read_text())
        return {name: seconds / (requests + 50) * 1e6 for name, (seconds, _calls) in spent.items()}


Route = tuple[int, str, str, str, Path]
"""How a client reaches the server through a proxy: what `load.connection` takes."""


@dataclass
class Pair:
    """A gate and a bare mitmdump before one server; `keys` are the phantoms of the gate's session."""

    folder: Path
    upstream: int
    gate_port: int
    bare_port: int
    credential: str
    keys: dict[str, str]

    def gate(self, host: str) -> Route:
        return self.gate_port, f"{host}:443", host, self.credential, self.folder / "state/ca/mitmproxy-ca-cert.pem"

    def bare(self) -> Route:
        return self.bare_port, f"localhost:{self.upstream}", "localhost", "", self.folder / "bare/mitmproxy-ca-cert.pem"


def pair(stack: ExitStack, serve: Callable[[int, str], None], rule: dict[str, object], stream: str) -> Pair:
    """Both of them under one rule; `stream` is the size from which mitmdump streams bodies."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="flowwarden-bench-")))
    upstream, trusted = start_server(stack, folder, serve)
    bearer = token(folder)
    _process, port = gateway(stack, folder, upstream, trusted, policy=json.dumps({"rules": [rule]}))
    _plain, plain_port = bare(stack, folder, trusted, "--set", f"stream_large_bodies={stream}")
    started = _session(port, bearer)
    credential = base64.b64encode(f"flowwarden:{started['handle']}".encode()).decode()
    return Pair(folder, upstream, port, plain_port, credential, dict(started["credentials"]))


def _session(port: int, bearer: str) -> dict[str, Any]:
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{port}"}))
    request = urllib.request.Request(
        "http://flowwarden.internal/session", method="POST", headers={"Authorization": f"Bearer {bearer}"}
    )
    with opener.open(request, timeout=30) as answer:
        return dict(json.load(answer))


if __name__ == "__main__":
    for name, spent in stations(int(os.environ.get("REQUESTS", "4000"))).items():
        print(f"{name:12} {spent:7.1f} µs")
    for name, run in measure(int(os.environ.get("ROUNDS", "3")), int(os.environ.get("REQUESTS", "4000"))).items():
        print(f"{name:12} {run.cpu:7.0f} µs CPU  {run.rate:6.0f}/s  p50 {run.p50:.2f} ms  p99 {run.p99:.2f} ms")
