"""A real proxy with the wire and stations made of plain functions, an upstream that notes every byte, and raw clients."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
from mitmproxy import http
from mitmproxy import options as moptions

from flowwarden import access, proof
from flowwarden.guard import Guard, Signer, Station, stream_request, stream_response
from flowwarden.master import DumpMaster
from flowwarden.types import Request

HOST = "upstream.example.com"
SECRET = b"x-real-secret"


class Upstream:
    """A plain HTTP/1 server that keeps every byte it gets, and answers with a script."""

    def __init__(self) -> None:
        self.connections: list[bytearray] = []
        self.closed: list[asyncio.Event] = []
        self.answer: Callable[[bytes, asyncio.StreamWriter], Any] | None = None
        self.got = asyncio.Condition()

    @property
    def bytes(self) -> bytes:
        return b"".join(bytes(each) for each in self.connections)

    async def until(self, check: Callable[[bytes], bool]) -> None:
        async with self.got:
            await asyncio.wait_for(self.got.wait_for(lambda: check(self.bytes)), 20)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = bytearray()
        closed = asyncio.Event()
        self.connections.append(seen)
        self.closed.append(closed)
        try:
            while chunk := await reader.read(65536):
                seen += chunk
                async with self.got:
                    self.got.notify_all()
                if self.answer is not None:
                    made = self.answer(bytes(seen), writer)
                    if made is not None:
                        await made
                elif b"\r\n\r\n" in seen and self._complete(bytes(seen)):
                    seen_copy = bytes(seen)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                    del seen_copy
        except ConnectionError:
            pass
        finally:
            closed.set()
            writer.close()

    @staticmethod
    def _complete(seen: bytes) -> bool:
        head, _, body = (
            seen.rpartition(b"\r\n\r\n") if b"content-length" not in seen.lower() else seen.partition(b"\r\n\r\n")
        )
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return len(body) >= int(line.split(b":")[1])
        return True


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
        self.ended = asyncio.Condition()
        self.release: asyncio.Event | None = None

    async def _note(self, outcome: str) -> None:
        async with self.ended:
            self.outcomes.append(outcome)
            self.ended.notify_all()

    async def until(self, count: int = 1) -> list[str]:
        async with self.ended:
            await asyncio.wait_for(self.ended.wait_for(lambda: len(self.outcomes) >= count), 20)
        return self.outcomes

    async def response(self, flow: http.HTTPFlow) -> None:  # type: ignore[override]
        if self.release is not None:
            await self.release.wait()
        why = access.of(flow).refusal
        assert flow.response is not None
        proof.let_out(flow, self.name)
        await self._note(f"{flow.response.status_code} {why.message if why else 'ok'}")

    async def error(self, flow: http.HTTPFlow) -> None:
        await self._note(f"error {flow.error.msg if flow.error else ''}")


@dataclass
class Proxy:
    master: DumpMaster
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
    async def tunnel(self, alpn: str = "http/1.1") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """TLS inside CONNECT."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert b" 200 " in head.split(b"\r\n")[0] + b" ", head
            await writer.start_tls(self.trust([alpn]), server_hostname=HOST)
            yield reader, writer
        finally:
            writer.close()

    async def send(self, raw: bytes, *, eof: bool = False) -> bytes:
        """One HTTP/1 exchange in a tunnel: everything the client got until the answer was complete or the end."""
        async with self.tunnel() as (reader, writer):
            writer.write(raw)
            return await read_answer(reader)

    async def send2(
        self, method: str = "GET", path: str = "/", body: bytes = b"", headers: list[tuple[str, str]] | None = None
    ) -> Answer2:
        async with self.tunnel("h2") as (reader, writer):
            return await h2_exchange(reader, writer, method, path, body, headers or [])


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """An HTTP/1 answer, as far as it comes; a cut shows in a body shorter than its Content-Length, or no last chunk."""
    got = b""
    while True:
        try:
            chunk = await asyncio.wait_for(reader.read(65536), 20)
        except ConnectionError:
            return got
        if not chunk:
            return got
        got += chunk
        head, end, body = got.partition(b"\r\n\r\n")
        while end and head.startswith(b"HTTP/1.1 100"):
            got = body
            head, end, body = got.partition(b"\r\n\r\n")
        if not end:
            continue
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            if body.endswith(b"0\r\n\r\n"):
                return got
        elif b"content-length:" in lower:
            if len(body) >= int(lower.split(b"content-length:")[1].split(b"\r\n")[0]):
                return got


@dataclass
class Answer2:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False  # END_STREAM came
    reset: bool = False


async def h2_exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    body: bytes,
    headers: list[tuple[str, str]],
) -> Answer2:
    conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    conn.initiate_connection()
    fields = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path), *headers]
    conn.send_headers(1, fields, end_stream=not body)
    rest = body
    answer = Answer2()
    while not (answer.ended or answer.reset):
        while rest and not answer.ended:
            size = min(len(rest), conn.local_flow_control_window(1), conn.max_outbound_frame_size)
            if size <= 0:
                break
            conn.send_data(1, rest[:size], end_stream=size == len(rest))
            rest = rest[size:]
        writer.write(conn.data_to_send())
        try:
            chunk = await asyncio.wait_for(reader.read(65536), 20)
        except ConnectionError:
            chunk = b""
        if not chunk:
            answer.reset = True
            break
        for event in conn.receive_data(chunk):
            if isinstance(event, h2.events.ResponseReceived):
                answer.headers = dict(event.headers)
                answer.status = int(answer.headers[":status"])
            elif isinstance(event, h2.events.DataReceived):
                answer.body += event.data
                conn.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, h2.events.StreamEnded):
                answer.ended = True
            elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                answer.reset = True
    writer.write(conn.data_to_send())
    return answer


@contextlib.asynccontextmanager
async def running(
    tmp: Path,
    *,
    streams_request: bool = False,
    streams_answer: bool = False,
    change: Callable[[list[Station]], list[Station]] = lambda stations: stations,
    body_limit: int = 1 << 20,
) -> AsyncIterator[Proxy]:
    """A proxy on a free port whose stations let pass; `change` may replace any of them."""
    upstream = Upstream()
    server = await asyncio.start_server(upstream._serve, "127.0.0.1", 0)
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
    master = DumpMaster(opts)
    opts.update(
        confdir=str(tmp / "ca"),
        listen_host="127.0.0.1",
        listen_port=0,
        connection_strategy="lazy",
        rawtcp=False,
        upstream_cert=False,
    )
    guard = Guard(stations, body_limit=body_limit)
    master.add_chain(guard)
    task = asyncio.create_task(master.run())
    try:
        while not (proxy := master.addons.get("proxyserver")).listen_addrs():
            if task.done():
                task.result()
            await asyncio.sleep(0)
        yield Proxy(
            master,
            guard,
            proxy.listen_addrs()[0][1],
            tmp / "ca" / "mitmproxy-ca-cert.pem",
            upstream,
            recording,
            stations,
        )
    finally:
        master.shutdown()
        await asyncio.wait_for(task, 20)
        server.close()


__all__ = ["HOST", "SECRET", "Answer2", "Proxy", "Upstream", "datetime", "ipaddress", "read_answer", "running"]
