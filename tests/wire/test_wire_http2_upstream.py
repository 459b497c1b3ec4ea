"""HTTP/2 towards upstream: many streams on one connection, each sealed, signed, cut and recorded by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from flowwarden import access, proof
from flowwarden.failing import stream_request
from support.certs import Authority
from support.harness import SECRET, At, Proxy, Station, after, running
from support.wire_clients import PATIENCE


class Stream:
    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers
        self.body = b""
        self.ended = False
        self.reset: int | None = None


class Http2Upstream:
    """Answers each stream when it has ended; `held` streams are answered when the test says so."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.connections = 0
        self.changed = asyncio.Condition()
        self.release = asyncio.Event()
        self.release.set()
        self.fail_with: int | None = None
        self.early = False

    async def until(self, check: Callable[[], object]) -> None:
        async with self.changed, asyncio.timeout(PATIENCE):
            await self.changed.wait_for(check)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        conn.initiate_connection()
        writer.write(conn.data_to_send())
        mine: dict[int, Stream] = {}
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                for event in conn.receive_data(chunk):
                    self._take(conn, event, mine)
                async with self.changed:
                    self.changed.notify_all()
                if any(isinstance(stream, Stream) and stream.ended for stream in mine.values()):
                    await self.release.wait()
                self._answer(conn, mine)
                writer.write(conn.data_to_send())
        writer.close()

    def _take(self, conn: Any, event: Any, mine: dict[int, Stream]) -> None:
        if isinstance(event, h2.events.RequestReceived):
            stream = mine[event.stream_id] = Stream(dict(event.headers))
            self.streams.append(stream)
            if self.early:
                conn.send_headers(event.stream_id, [(":status", "400")])
                conn.send_data(event.stream_id, b"early", end_stream=True)
        elif isinstance(event, h2.events.DataReceived):
            mine[event.stream_id].body += event.data
            conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            mine[event.stream_id].ended = True
        elif isinstance(event, h2.events.StreamReset):
            mine[event.stream_id].reset = event.error_code
            mine.pop(event.stream_id)

    def _answer(self, conn: Any, mine: dict[int, Stream]) -> None:
        for number, stream in list(mine.items()):
            if not stream.ended:
                continue
            mine.pop(number)
            if self.early:
                continue
            if self.fail_with is not None:
                conn.reset_stream(number, self.fail_with)
                continue
            body = stream.headers[":path"].encode()
            conn.send_headers(number, [(":status", "200"), ("content-length", str(len(body)))])
            conn.send_data(number, body, end_stream=True)


@contextlib.asynccontextmanager
async def over_http2(tmp: Path, **options: Any) -> AsyncIterator[tuple[Proxy, Http2Upstream]]:
    authority = Authority(tmp)
    context = authority.server_context("127.0.0.1")
    context.set_alpn_protocols(["h2"])
    upstream = Http2Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, ssl=context)
    address = server.sockets[0].getsockname()[:2]
    async with running(**options) as proxy:
        proxy.master.options.update(ssl_verify_upstream_trusted_ca=str(authority.pem))
        proxy.guard.signer.dial = lambda _flow: (address, True)  # type: ignore[union-attr, method-assign]
        yield proxy, upstream
    server.close()


async def test_streams_share_a_connection_and_are_signed_one_by_one(tmp_path):
    async with over_http2(tmp_path) as (proxy, upstream):
        async with proxy.client("h2") as client:
            answers = [client.start("GET", f"/{number}", end=True) for number in range(8)]
            for number, answer in enumerate(answers):
                await client.over(answer)
                assert answer.whole and answer.body == f"/{number}".encode()
        assert upstream.connections == 1
        assert [stream.headers["authorization"] for stream in upstream.streams] == [SECRET.decode()] * 8
        assert len(await proxy.recording.until(8)) == 8


@pytest.mark.parametrize("length", [None, 8])
async def test_a_reader_that_fails_resets_its_stream_only(tmp_path, length):
    """The failing upload has no END_STREAM upstream; its neighbour is answered."""

    def fail_at_end(data: bytes) -> bytes:
        if not data:
            raise RuntimeError("no")
        return data

    def begin(flow: Any) -> None:
        if flow.request.path == "/bad":
            stream_request(flow, "intend", fail_at_end)
        proof.let_pass(flow, "intend")

    def change(stations: list[Station]) -> list[Station]:
        for station in stations:
            if station.name == "intend":
                station.requestheaders = begin  # type: ignore[attr-defined]
        return stations

    async with over_http2(tmp_path, streams_request=True, change=change) as (proxy, upstream):
        async with proxy.client("h2") as client:
            bad = client.start("PUT", "/bad", length=length)
            client.data(bad, b"four")
            await upstream.until(lambda: upstream.streams and upstream.streams[0].body == b"four")
            upstream.release.clear()
            good = client.start("GET", "/good", end=True)
            await upstream.until(lambda: len(upstream.streams) == 2)
            client.data(bad, b"more", end=True)
            await client.over(bad)
            upstream.release.set()
            await client.over(good)
        assert bad.whole and bad.status == 502 and good.whole and good.body == b"/good"
        assert upstream.connections == 1 and not upstream.streams[0].ended
        assert len(await proxy.recording.until(2)) == 2


async def test_a_stream_that_upstream_resets(tmp_path):
    """502 in the gateway's form for that call; the next one is served on the same connection."""
    async with over_http2(tmp_path) as (proxy, upstream):
        async with proxy.client("h2") as client:
            upstream.fail_with = 2
            answer = await client.ask()
            assert answer.whole and answer.status == 502
            upstream.fail_with = None
            assert (await client.ask("GET", "/again")).body == b"/again"
        assert upstream.connections == 1
        assert len(await proxy.recording.until(2)) == 2


async def test_a_client_that_leaves_resets_its_stream(tmp_path):
    async with over_http2(tmp_path) as (proxy, upstream):
        async with proxy.client("h2") as client:
            answer = client.start("PUT", "/a", length=100)
            await upstream.until(lambda: not upstream.streams)
            client.leave(answer)
            assert (await client.ask("GET", "/b")).body == b"/b"
        assert [stream.headers[":path"] for stream in upstream.streams] == ["/b"]


async def test_an_answer_that_comes_early(tmp_path):
    """It is whole, the upload is reset, and the connection goes on."""
    async with over_http2(tmp_path, streams_request=True) as (proxy, upstream):
        upstream.early = True
        async with proxy.client("h2") as client:
            answer = client.start("PUT", "/a", length=1000)
            await client.over(answer)
            assert answer.whole and answer.body == b"early"
            await upstream.until(lambda: upstream.streams[0].reset is not None)
            client.data(answer, bytes(1000), end=True)
            upstream.early = False
            assert (await client.ask("GET", "/b")).body == b"/b"
        assert proxy.recording.outcomes == ["400 ok", "200 ok"]


async def test_without_the_seal_not_a_frame_goes(tmp_path):
    """A refused call opens no stream upstream."""
    meddler = At("meddler", request=lambda flow: flow.request.headers.add("x-a", "b"))
    async with over_http2(tmp_path, change=after("intend", meddler)) as (proxy, upstream):
        async with proxy.client("h2") as client:
            assert (await client.ask()).status == 502
        assert upstream.streams == []


class Large:
    """A body on disk: as many blocks as somebody asks for."""

    sha256 = "known"
    read_so_far = 0
    behind = None

    def write(self, data: bytes) -> None:
        pass

    async def read(self) -> bytes:
        self.read_so_far += 1
        return bytes(1 << 18) if self.read_so_far < 40 else b""


async def test_a_spooled_body_waits_for_the_window_of_upstream(tmp_path):
    """What upstream does not take stays on disk; when it takes it, the whole body comes."""
    spool = Large()

    def begin(flow) -> None:
        if flow.request.method == "PUT":
            access.of(flow).body, access.of(flow).spool = "spool", spool

    def intend(flow) -> None:
        if flow.request.method == "PUT":
            stream_request(flow, "intend", lambda data: data)
        proof.let_pass(flow, "intend")

    def change(stations):
        next(station for station in stations if station.name == "intend").request = intend
        return after("connect", At("spooling", requestheaders=begin))(stations)

    async with over_http2(tmp_path, change=change) as (proxy, upstream):
        takes, kept, whole = upstream._take, [], asyncio.Event()

        def hesitate(conn, event, mine) -> None:
            if not isinstance(event, h2.events.DataReceived) or whole.is_set():
                takes(conn, event, mine)
                return
            mine[event.stream_id].body += event.data
            kept.append((conn, event))

        upstream._take = hesitate
        async with proxy.client("h2") as client:
            answer = client.start("PUT", "/a", chunked=True)
            client.data(answer, b"x", end=True)
            await upstream.until(lambda: sum(len(event.data) for _, event in kept) >= 65535)
            for _ in range(200):
                await asyncio.sleep(0.001)
            assert spool.read_so_far < 20
            whole.set()
            for conn, event in kept:
                conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            client.start("GET", "/b", end=True)  # upstream's acknowledgements leave with what it reads next
            await client.over(answer)
            assert len(upstream.streams[0].body) == 39 << 18
