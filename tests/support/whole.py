"""The real chain in this process: its own services, rules and evidence log, before an upstream that judges."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitmproxy import options as moptions

from flowwarden import build, chain, options
from flowwarden.credentials.lease import Lease
from flowwarden.guard import Guard
from flowwarden.identity.tokens import VerifiedToken
from flowwarden.master import DumpMaster
from flowwarden.services import Services
from flowwarden.types import Credentials, Phantom, Principal

from .clients import Keys, sign
from .harness import authority
from .wire_clients import CLIENTS, PATIENCE, Answer, Client, Upstream

REGION, ACCOUNT = "eu-central-1", "123456789012"
ISSUER = "https://issuer.example.com"
HOST = f"bucket.s3.{REGION}.amazonaws.com"
IDENTITY: dict[str, Any] = {
    "issuers": [{"issuer": ISSUER, "audience": "flowwarden", "jwks": f"{ISSUER}/keys", "algorithms": ["RS256"]}],
    "sessions": {"ttl": "1h", "max": "12h"},
    "credentials": [
        {
            "groups": ["developers"],
            "assume_role": f"arn:aws:iam::{ACCOUNT}:role/agent",
            "accounts": [ACCOUNT],
            "duration": "15m",
        }
    ],
}
POLICY: dict[str, Any] = {
    "default": "deny",
    "rules": [
        {"id": "work", "effect": "allow", "groups": ["developers"], "actions": ["s3:*"]},
        {"id": "web", "effect": "allow", "groups": ["developers"], "hosts": ["*.example.com"]},
    ],
}
MASKS: dict[str, Any] = {"masks": [{"id": "passwords", "pattern": r"\bpassword-[0-9]{8}\b", "keywords": ["password-"]}]}


@dataclass
class Whole:
    """A gateway that runs, one session of it, and what is behind it."""

    master: DumpMaster
    services: Services
    guard: Guard
    upstream: Upstream
    folder: Path
    port: int
    handle: str
    phantom: Phantom
    real: Credentials

    def head(
        self, method: str, path: str, body: bytes = b"", *, payload: str = ""
    ) -> tuple[str, list[tuple[str, str]]]:
        """Target and fields of a request to the bucket, signed with the session's phantom keys."""
        keys = Keys(self.phantom.access_key_id, self.phantom.secret_access_key, self.phantom.session_token)
        fields = (("x-amz-content-sha256", payload),) if payload else ()
        url = f"https://{HOST}{path}"
        target, made = sign(keys, method, url, service="s3", region=REGION, body=body, payload=payload, fields=fields)
        left_out = {"host", "content-length", "transfer-encoding"}
        return target, [(name.lower(), value) for name, value in made if name.lower() not in left_out]

    @contextlib.asynccontextmanager
    async def client(self, version: str, host: str = HOST, *, sni: str = "") -> AsyncIterator[Client]:
        async with self.tunnel(host) as (reader, writer):
            await writer.start_tls(self.trust(CLIENTS[version].version), server_hostname=sni or host)
            client = CLIENTS[version](reader, writer, host)
            try:
                yield client
            finally:
                await client.close()

    def trust(self, alpn: str) -> Any:
        import ssl

        context = ssl.create_default_context(cafile=str(authority() / "mitmproxy-ca-cert.pem"))
        context.set_alpn_protocols([alpn])
        return context

    @contextlib.asynccontextmanager
    async def tunnel(
        self, host: str, port: int = 443, *, credential: str | None = None, status: bytes = b"200"
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A CONNECT that was answered with this status."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{self.proxy_auth}\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            assert head.split(b" ")[1] == status, head
            yield reader, writer
        finally:
            writer.close()

    @property
    def proxy_auth(self) -> str:
        return "Proxy-Authorization: Basic " + base64.b64encode(f"x:{self.handle}".encode()).decode()

    async def put(self, version: str, path: str, body: bytes, *, streams: bool) -> Answer:
        """A PutObject in two parts; `streams`: with an unsigned payload, so that it need not be read whole."""
        target, fields = self.head("PUT", path, body, payload="UNSIGNED-PAYLOAD" if streams else "")
        async with self.client(version) as client:
            answer = client.start("PUT", target, fields, length=len(body))
            client.data(answer, body[:4])
            client.data(answer, body[4:], end=True)
            return await client.over(answer)

    async def get(self, version: str, path: str) -> Answer:
        target, fields = self.head("GET", path)
        async with self.client(version) as client:
            return await client.ask("GET", target, headers=fields)

    async def evidence(self) -> list[dict[str, Any]]:
        """The log's records, after everything that was noted so far is on disk."""
        await self.services.recorder.append("alarm", {"kind": "test", "message": "everything before this is on disk"})
        path = self.folder / "recordings" / "evidence.ndjson"
        return [json.loads(line) for line in path.read_bytes().splitlines()]


@contextlib.asynccontextmanager
async def whole(folder: Path, *, private: bool = False, **settings: Any) -> AsyncIterator[Whole]:
    """The gateway of `folder`, every AWS call answered by the upstream."""
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rules = folder / "rules"
    rules.mkdir(parents=True)
    for name, content in (("identity", IDENTITY), ("policy", POLICY), ("masks", MASKS)):
        (rules / f"{name}.yaml").write_text(json.dumps(content))
    opts = moptions.Options()
    options.declare(opts)
    master = DumpMaster(opts)
    opts.update(
        warden_rules=str(rules),
        warden_recordings=str(folder / "recordings"),
        warden_state=str(folder / "state"),
        warden_sandbox=f"http://127.0.0.1:{port}",
        warden_http2_hosts=["*"],
        confdir=str(authority()),
        listen_host="127.0.0.1",
        listen_port=0,
        **settings,
    )
    options.refuse_open_gate(opts)
    made = build.services(opts)
    principal = Principal(ISSUER, "alice", owner="olga", groups=frozenset({"developers"}))
    now = time.time()
    session, handle = made.sessions.start(
        VerifiedToken(principal, ISSUER, "alice", secrets.token_hex(), now, now + 3600)
    )
    real = Credentials("ASIA" + secrets.token_hex(8).upper(), secrets.token_hex(20), secrets.token_hex(20))
    lease = Lease(session.id, real, ACCOUNT, "", (ACCOUNT,), now + 3600)
    made.vault.current = lambda _session: lease  # type: ignore[method-assign]
    guard = chain.guard(made)
    master.addons.remove(master.addons.get("errorcheck"))
    master.add_chain(guard)
    task = asyncio.create_task(master.run())
    proxy = master.addons.get("proxyserver")
    try:
        async with asyncio.timeout(PATIENCE):
            while not proxy.listen_addrs() and not task.done():  # noqa: ASYNC110 - mitmproxy has no event for it
                await asyncio.sleep(0)
        yield Whole(master, made, guard, upstream, folder, proxy.listen_addrs()[0][1], handle, session.phantom, real)
    finally:
        master.shutdown()
        await asyncio.wait_for(task, PATIENCE)
        await made.recorder.close()
        server.close()
