"""A real proxy with the wire and stations made of plain functions, between an upstream and clients that judge."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mitmproxy import certs, http
from mitmproxy import options as moptions

from flowwarden import access, proof
from flowwarden.failing import stream_request, stream_response
from flowwarden.guard import Guard
from flowwarden.master import DumpMaster, WebMaster
from flowwarden.station import Signer, Station
from flowwarden.types import Request
from flowwarden.wire.memory import Memory

from .wire_clients import CLIENTS, HOST, PATIENCE, Client, Upstream

SECRET = b"x-real-secret"

certs.load_pem_private_key = cache(
    certs.load_pem_private_key
)  # checking the CA's key takes longer than most tests here


class At(Station):
    """A station of single hooks: `At("meddler", request=lambda flow: …)`."""

    def __init__(self, name: str, **hooks: Callable[..., Any]) -> None:
        self.name = name
        for event, hook in hooks.items():
            setattr(self, event, hook)


def after(name: str, *more: Station) -> Callable[[list[Station]], list[Station]]:
    """A `change` that puts stations behind another one."""

    def change(stations: list[Station]) -> list[Station]:
        at = [station.name for station in stations].index(name) + 1
        return [*stations[:at], *more, *stations[at:]]

    return change


def without(name: str) -> Callable[[list[Station]], list[Station]]:
    """A `change` that takes a station out."""
    return lambda stations: [station for station in stations if station.name != name]


class Connecting(Station):
    name = "connect"

    def http_connect(self, flow: http.HTTPFlow) -> None:
        tunnel = access.tunnel(flow.client_conn)
        tunnel.host, tunnel.port = flow.request.host, flow.request.port

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        access.of(flow).request = Request(
            flow.request.method, "https", HOST, 443, flow.request.path, flow.request.headers.fields
        )
        proof.let_pass(flow, self.name)


class Passing(Station):
    """A request station that lets pass, on the head when the body streams, else on the whole request."""

    def __init__(self, name: str, streams: bool = False) -> None:
        self.name = name
        self.streams = streams

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if self.streams:
            if self.name == "intend":
                stream_request(flow, "intend", lambda data: data)
            proof.let_pass(flow, self.name)

    def request(self, flow: http.HTTPFlow) -> None:
        if not callable(flow.request.stream):
            proof.let_pass(flow, self.name)


class Signing(Signer):
    name = "sign"

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address

    def sign(self, flow: http.HTTPFlow) -> http.Request:
        signed = flow.request.copy()
        signed.headers["authorization"] = SECRET.decode()
        return signed

    def dial(self, flow: http.HTTPFlow) -> tuple[tuple[str, int], bool]:
        return self.address, False


class Answering(Station):
    def __init__(self, name: str, streams: bool = False) -> None:
        self.name = name
        self.streams = streams

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if self.name == "mask" and self.streams:
            stream_response(flow, "mask", lambda data: data)

    def response(self, flow: http.HTTPFlow) -> None:
        if self.name == "mask" and not self.streams:
            assert flow.response is not None
            flow.response.raw_content = access.of(flow).raw_answer
        proof.let_out(flow, self.name)


class Recording(Answering):
    """Notes what an evidence log would hold."""

    def __init__(self) -> None:
        super().__init__("record")
        self.outcomes: list[str] = []
        self.flows: list[str] = []  # whose outcomes they are
        self.ended = asyncio.Condition()
        self.release: asyncio.Event | None = None
        self.held = asyncio.Event()  # set while `release` is waited for
        self.on_flow: Callable[[http.HTTPFlow], object] = lambda flow: None

    async def _note(self, flow: http.HTTPFlow, outcome: str) -> None:
        self.flows.append(flow.id)
        async with self.ended:
            self.outcomes.append(outcome)
            self.ended.notify_all()

    async def until(self, count: int = 1) -> list[str]:
        async with self.ended:
            await asyncio.wait_for(self.ended.wait_for(lambda: len(self.outcomes) >= count), 20)
        return self.outcomes

    async def response(self, flow: http.HTTPFlow) -> None:  # type: ignore[override]
        self.on_flow(flow)
        if self.release is not None:
            self.held.set()
            await self.release.wait()
        why = access.of(flow).refusal
        assert flow.response is not None
        proof.let_out(flow, self.name)
        await self._note(flow, f"{flow.response.status_code} {why.message if why else 'ok'}")

    async def error(self, flow: http.HTTPFlow) -> None:
        self.on_flow(flow)
        await self._note(flow, f"error {flow.error.msg if flow.error else ''}")


@dataclass
class Proxy:
    master: DumpMaster | WebMaster
    task: asyncio.Task[None]
    guard: Guard
    port: int
    ca: Path
    upstream: Upstream
    recording: Recording
    stations: list[Station] = field(default_factory=list)

    def trust(self, alpn: list[str]) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.set_alpn_protocols(alpn)
        return context

    @contextlib.asynccontextmanager
    async def raw(self, connect: bool = True) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection to the proxy, with a CONNECT that was answered with 200."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            if connect:
                writer.write(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
                assert head.split(b" ")[1] == b"200", head
            yield reader, writer
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def tunnel(
        self, alpn: str = "http/1.1", sni: str = HOST
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """TLS inside CONNECT."""
        async with self.raw() as (reader, writer):
            await writer.start_tls(self.trust([alpn]), server_hostname=sni)
            yield reader, writer

    @contextlib.asynccontextmanager
    async def client(self, version: str) -> AsyncIterator[Client]:
        """A client that speaks `h1` or `h2` inside TLS inside CONNECT."""
        kind = CLIENTS[version]
        async with self.tunnel(kind.version) as streams:
            client = kind(*streams)
            try:
                yield client
            finally:
                await client.close()

    async def exchange(self, raw: bytes) -> bytes:
        """Raw bytes in a tunnel, and everything that came back until the gateway closed."""
        async with self.tunnel() as (reader, writer):
            writer.write(raw)
            return await drained(reader)


async def drained(reader: asyncio.StreamReader) -> bytes:
    """Everything until the peer closes."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while chunk := await asyncio.wait_for(reader.read(65536), PATIENCE):
            got += chunk
    return got


@cache
def authority() -> Path:
    """The gateway's CA: one for the whole run, because making one takes longer than most of these tests."""
    return Path(tempfile.mkdtemp(prefix="flowwarden-tests-ca-"))


@contextlib.asynccontextmanager
async def running(
    *,
    streams_request: bool = False,
    streams_answer: bool = False,
    change: Callable[[list[Station]], list[Station]] = lambda stations: stations,
    body_limit: int = 1 << 20,
    memory: Memory | None = None,
    kind: type[Guard] = Guard,
    web: int = 0,
) -> AsyncIterator[Proxy]:
    """A proxy on a free port whose stations let pass; `change` may replace any of them. `web`: a port for the web view."""
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()[:2]
    recording = Recording()
    stations: list[Station] = [
        Connecting(),
        *(Passing(name, streams_request) for name in proof.REQUEST_STATIONS[1:]),
        Signing(address),
        Answering("swap"),
        Answering("mask", streams_answer),
        recording,
    ]
    stations = change(stations)
    opts = moptions.Options()
    master = WebMaster(opts) if web else DumpMaster(opts)
    if web:
        opts.update(web_host="127.0.0.1", web_port=web, web_open_browser=False)
    opts.update(
        confdir=str(authority()),
        listen_host="127.0.0.1",
        listen_port=0,
        connection_strategy="lazy",
        rawtcp=False,
        upstream_cert=False,
    )
    guard = kind(stations, body_limit=body_limit, memory=memory)
    master.addons.remove(master.addons.get("errorcheck"))  # it would end the process on an error in its first moments
    master.add_chain(guard)
    task = asyncio.create_task(master.run())
    try:
        while not (proxy := master.addons.get("proxyserver")).listen_addrs():
            if task.done():
                task.result()
            await asyncio.sleep(0)
        yield Proxy(
            master,
            task,
            guard,
            proxy.listen_addrs()[0][1],
            authority() / "mitmproxy-ca-cert.pem",
            upstream,
            recording,
            stations,
        )
    finally:
        master.shutdown()
        await asyncio.wait_for(task, PATIENCE)
        server.close()
    assert len(set(recording.flows)) == len(recording.flows), f"a call has two outcomes: {recording.outcomes}"


__all__ = [
    "HOST",
    "SECRET",
    "Answering",
    "At",
    "Connecting",
    "Passing",
    "Proxy",
    "Recording",
    "Signing",
    "after",
    "drained",
    "running",
    "without",
]
