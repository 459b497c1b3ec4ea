"""What a client may do: send what is no HTTP, heads without end, odd framing; leave at any moment."""

from __future__ import annotations

import asyncio

import h2.connection
import h2.events
import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame

from flowwarden import access
from flowwarden.wire import bounds
from support.harness import HOST, PATIENCE, At, after, drained, running

VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])
BOTH = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])


# -- heads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["without end", "with end"])
@pytest.mark.parametrize("where", ["tunnel", "proxy"])
async def test_a_requests_head_is_bounded(where, end):
    """64 KiB, inside a tunnel and before one; nothing goes upstream."""
    head = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nx-long: ".encode() + b"a" * (bounds.HEAD_LIMIT + 1) + end
    async with running() as proxy:
        async with proxy.tunnel() if where == "tunnel" else proxy.raw(connect=False) as (reader, writer):
            writer.write(head)
            assert (await drained(reader)).startswith(b"HTTP/1.1 431 ")
        assert proxy.upstream.bytes == b""


async def test_a_requests_head_may_have_its_limit():
    async with running() as proxy:
        async with proxy.client("h1") as client:
            for _ in range(2):
                answer = await client.ask("GET", "/", headers=[("x-long", "a" * (bounds.HEAD_LIMIT - 200))])
                assert answer.whole and answer.status == 200
        assert len(proxy.upstream.requests) == 2


@pytest.mark.parametrize("where", ["tunnel", "proxy"])
async def test_a_requests_head_is_bounded_in_time(monkeypatch, where):
    """A head that trickles gets a 408 and the connection is closed."""
    monkeypatch.setattr(bounds, "HEAD_SECONDS", 0.01)
    async with running() as proxy:
        async with proxy.tunnel() if where == "tunnel" else proxy.raw(connect=False) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHo")
            assert (await drained(reader)).startswith(b"HTTP/1.1 408 ")
        assert proxy.upstream.bytes == b""


async def test_an_earlier_heads_time_does_not_count_for_a_later_one(monkeypatch):
    """The wake-up of a head that has come whole finds another one, and leaves it alone."""
    wakeups: list[bounds.commands.RequestWakeup] = []
    asked = asyncio.Event()

    class Noted(bounds.commands.RequestWakeup):
        def __init__(self, delay: float) -> None:
            super().__init__(delay)
            wakeups.append(self)
            asked.set()

    monkeypatch.setattr(bounds.commands, "RequestWakeup", Noted)
    head = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    async with running() as proxy, proxy.tunnel() as (reader, writer):
        for number in range(2):
            writer.write(head[:5])
            await asyncio.wait_for(asked.wait(), PATIENCE)
            asked.clear()
            if number == 1:
                handler = next(iter(proxy.master.addons.get("proxyserver").connections.values()))
                await handler.server_event(bounds.events.Wakeup(wakeups[0]))
            writer.write(head[5:])
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")


def headers_frame(stream: int, block: bytes, *flags: str) -> bytes:
    frame = HeadersFrame(stream, block)
    for flag in flags:
        frame.flags.add(flag)
    return frame.serialize()


async def test_an_http2_header_block_is_bounded_in_time(monkeypatch):
    """HEADERS without END_HEADERS and nothing after."""
    monkeypatch.setattr(bounds, "HEAD_SECONDS", 0.01)
    conn = h2.connection.H2Connection()
    conn.initiate_connection()
    async with running() as proxy:
        async with proxy.tunnel("h2") as (reader, writer):
            writer.write(conn.data_to_send() + headers_frame(1, b"\x82\x87\x84", "END_STREAM"))
            events = conn.receive_data(await drained(reader))
        assert any(isinstance(event, h2.events.ConnectionTerminated) for event in events)
        assert proxy.upstream.bytes == b""


async def test_an_http2_header_block_is_bounded_in_size():
    """A flood of CONTINUATION frames ends the connection."""
    conn = h2.connection.H2Connection()
    conn.initiate_connection()
    async with running() as proxy:
        async with proxy.tunnel("h2") as (reader, writer):
            writer.write(conn.data_to_send() + headers_frame(1, b"\x82\x87\x84", "END_STREAM"))
            for _ in range(100):
                writer.write(ContinuationFrame(1, b"\x00" * 16_000).serialize())
            events = conn.receive_data(await drained(reader))
        assert any(isinstance(event, h2.events.ConnectionTerminated) for event in events)
        assert proxy.upstream.bytes == b""


# -- framing ------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody",
        b"Content-Length: 4, 4\r\n\r\nbody",
        b"Content-Length: +4\r\n\r\nbody",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"x-a: b\rContent-Length: 4\r\n\r\nbody",
        b"x-a: b\0c\r\n\r\n",
        b"x-a\r\n\r\n",
    ],
)
async def test_odd_framing_is_refused(streams, fields):
    """A request that two parsers could read differently: 400, closed, nothing upstream."""
    async with running(streams_request=streams) as proxy:
        got = await proxy.exchange(f"POST / HTTP/1.1\r\nHost: {HOST}\r\n".encode() + fields)
        assert got.startswith(b"HTTP/1.1 400 "), got
        assert proxy.upstream.bytes == b""


@pytest.mark.parametrize(
    "line", [b"GET /a\rb HTTP/1.1", b"GET /a\x7fb HTTP/1.1", b"GET /a\tb HTTP/1.1", b"G\0T / HTTP/1.1"]
)
async def test_control_characters_in_a_request_line_are_refused(line):
    async with running() as proxy:
        got = await proxy.exchange(line + f"\r\nHost: {HOST}\r\n\r\n".encode())
        assert got.startswith(b"HTTP/1.1 400 "), got
        assert proxy.upstream.bytes == b""


async def test_bare_line_feeds_are_made_canonical():
    """A head that is read with bare LF leaves with CRLF: there is no second reading of it upstream."""
    async with running() as proxy:
        async with proxy.tunnel() as (reader, writer):
            writer.write(f"GET /a HTTP/1.1\nHost: {HOST}\nx-a: b\n\n".encode())
            await reader.readuntil(b"hello")
        assert b"x-a: b\r\n" in proxy.upstream.bytes
        assert b"\n" not in proxy.upstream.bytes.replace(b"\r\n", b"")


async def test_http2_cannot_smuggle_lines():
    """A line end in an HTTP/2 field, path or method would be a second request on HTTP/1."""
    config = h2.config.H2Configuration(
        header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
    )
    attack = "a\r\nx-injected: 1"
    for name in ("x-a", ":path", ":method", ":authority"):
        fields = {":method": "GET", ":scheme": "https", ":authority": HOST, ":path": "/", name: "/" + attack}
        conn = h2.connection.H2Connection(config)
        conn.initiate_connection()
        conn.send_headers(1, list(fields.items()), end_stream=True)
        async with running() as proxy, proxy.tunnel("h2") as (reader, writer):
            writer.write(conn.data_to_send())
            ended = False
            while not ended:
                chunk = await asyncio.wait_for(reader.read(65536), PATIENCE)
                ended = not chunk or any(
                    isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated))
                    for event in conn.receive_data(chunk)
                )
            assert b"injected" not in proxy.upstream.bytes, name


@BOTH
async def test_http1_trailers_of_a_request_are_refused(streams):
    """They are part of what nobody judged; upstream never has a whole request."""
    raw = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-a: 1\r\n\r\n".encode()
    async with running(streams_request=streams) as proxy:
        assert b" 200 " not in await proxy.exchange(raw)
        await proxy.upstream.until(lambda: proxy.upstream.open == 0)
        assert not any(got.whole for got in proxy.upstream.requests) and b"x-a" not in proxy.upstream.bytes
        assert len(await proxy.recording.until()) == 1


@BOTH
async def test_http2_trailers_of_a_request_are_refused(streams):
    async with running(streams_request=streams) as proxy:
        async with proxy.client("h2") as client:
            answer = client.start("POST", "/a")
            client.data(answer, b"body")
            client.conn.send_headers(1, [("x-a", "1")], end_stream=True)
            client.writer.write(client.conn.data_to_send())
            await client.over(answer)
        assert answer.whole and answer.status == 400
        assert not any(got.whole for got in proxy.upstream.requests) and b"x-a" not in proxy.upstream.bytes


# -- pipelining ---------------------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order():
    async def echo(got, writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + got.target.encode())

    async with running() as proxy:
        proxy.upstream.on_request = echo
        async with proxy.tunnel() as (reader, writer):
            writer.write(b"".join(f"GET /{letter} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() for letter in "abc"))
            got = await asyncio.wait_for(reader.readuntil(b"/c"), PATIENCE)
        assert got.index(b"/a") < got.index(b"/b") < got.index(b"/c")
        assert len(await proxy.recording.until(3)) == 3


async def test_pipelining_is_bounded_while_a_call_is_held():
    """What a client sends behind a held call is not collected without limit."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def hold(flow) -> None:
        entered.set()
        await release.wait()

    async with running(change=after("decide", At("held", request=hold))) as proxy:
        async with proxy.tunnel() as (reader, writer):
            writer.write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            await entered.wait()
            writer.write(bytes(4 * bounds.HEAD_LIMIT))
            assert await drained(reader) == b""
        release.set()
        assert (await proxy.recording.until())[0].startswith("error ")
        assert proxy.upstream.bytes == b""


# -- leaving ------------------------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("event", ["requestheaders", "request"])
async def test_leaving_while_a_request_hook_is_held(version, event):
    """`access.gone` is set at once, while the hook still waits; nothing goes upstream; one outcome."""
    entered: asyncio.Future[access.Access] = asyncio.get_running_loop().create_future()
    left = asyncio.Event()

    async def hold(flow) -> None:
        owner = access.of(flow)
        entered.set_result(owner)
        await owner.gone.wait()
        left.set()

    async with running(change=after("decide", At("held", **{event: hold}))) as proxy:
        async with proxy.client(version) as client:
            answer = client.start("GET", end=True)
            owner = await entered
            assert owner.gone is not None and not owner.gone.is_set()
            client.leave(answer)
            await asyncio.wait_for(left.wait(), PATIENCE)
            assert len(await proxy.recording.until()) == 1
        assert proxy.recording.outcomes[0].startswith("error ") and proxy.upstream.bytes == b""


@VERSIONS
async def test_leaving_while_the_connection_upstream_is_opened(version):
    """The request is not sent any more."""
    entered, release = asyncio.Event(), asyncio.Event()
    flows = []

    async def hold(data) -> None:
        entered.set()
        await release.wait()

    change = after("decide", At("slow", server_connect=hold, requestheaders=flows.append))
    async with running(change=change) as proxy:
        async with proxy.client(version) as client:
            answer = client.start("GET", end=True)
            await entered.wait()
            client.leave(answer)
            await asyncio.wait_for(access.of(flows[0]).gone.wait(), PATIENCE)
            release.set()
            assert len(await proxy.recording.until()) == 1
        async with proxy.client(version) as client:
            assert (await client.ask("GET", "/next")).body == b"hello"
        assert [got.target for got in proxy.upstream.requests] == ["/next"]


@VERSIONS
async def test_leaving_while_upstream_works(version):
    """The call is under way: upstream is cut, and the outcome is an error."""
    async with running() as proxy:
        asked = asyncio.Event()

        async def think(_got, _writer) -> None:
            asked.set()

        proxy.upstream.on_request = think
        async with proxy.client(version) as client:
            answer = client.start("GET", end=True)
            await asked.wait()
            client.leave(answer)
            await proxy.upstream.until(lambda: proxy.upstream.open == 0)
            assert len(await proxy.recording.until()) == 1
        assert proxy.recording.outcomes[0].startswith("error ")


@VERSIONS
async def test_leaving_in_the_middle_of_an_upload(version):
    """Upstream sees an unterminated body."""
    async with running(streams_request=True) as proxy:
        async with proxy.client(version) as client:
            answer = client.start("PUT", "/a", length=100)
            client.data(answer, b"some")
            await proxy.upstream.until(lambda: proxy.upstream.requests and proxy.upstream.requests[0].body)
            client.leave(answer)
            await proxy.upstream.until(lambda: proxy.upstream.open == 0)
            assert len(await proxy.recording.until()) == 1
        assert proxy.upstream.requests[0].broken


@VERSIONS
async def test_leaving_in_the_middle_of_an_answer(version):
    """Upstream is cut; one outcome."""

    async def begin(_got, writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")

    async with running(streams_answer=True) as proxy:
        proxy.upstream.on_request = begin
        async with proxy.client(version) as client:
            answer = client.start("GET", end=True)
            await client.until(lambda: answer.body)
            client.leave(answer)
            await proxy.upstream.until(lambda: proxy.upstream.open == 0)
            assert len(await proxy.recording.until()) == 1


@VERSIONS
async def test_leaving_while_the_outcome_is_written(version):
    """The outcome stays one; the gateway is idle afterwards."""
    async with running() as proxy:
        proxy.recording.release = asyncio.Event()
        flows = []
        proxy.recording.on_flow = flows.append
        async with proxy.client(version) as client:
            answer = client.start("GET", end=True)
            await proxy.recording.held.wait()
            client.leave(answer)
            await asyncio.wait_for(access.of(flows[0]).gone.wait(), PATIENCE)
            proxy.recording.release.set()
            await asyncio.wait_for(proxy.guard.idle.wait(), PATIENCE)
        assert proxy.recording.outcomes == ["200 ok"]


# -- what is no HTTP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x00\x1d\x12\x34\x01\x00\x00\x01",
        b"\x05\x01\x00",
        b"EHLO me\r\n",
        b"GET /a\r\n",
        b"\x17\x03\x01",
    ],
)
@pytest.mark.parametrize("where", ["plain", "TLS"])
async def test_what_is_no_http_is_closed_in_a_tunnel(raw, where):
    """SSH, DNS over TCP, SOCKS, SMTP, HTTP/0.9, TLS in TLS inside CONNECT: closed at its first bytes."""
    noted = []
    station = At("notes", layer_refused=lambda context: noted.append(context.server.address))
    async with running(change=after("connect", station)) as proxy:
        async with proxy.raw() if where == "plain" else proxy.tunnel() as (reader, writer):
            writer.write(raw)
            got = await drained(reader)
        assert got.startswith(b"HTTP/1.1 400 ") and proxy.upstream.connections == 0
        assert noted == [(HOST, 443)], "the evidence log can tell it"


async def test_a_tunnel_to_a_dns_port_is_closed():
    """mitmproxy has a layer for port 53 that runs no HTTP hook; layers are allowed by list."""
    noted = []
    station = At("notes", layer_refused=lambda context: noted.append(context.server.address))
    async with running(change=after("connect", station)) as proxy:
        async with proxy.raw(connect=False) as (reader, writer):
            writer.write(f"CONNECT {HOST}:53 HTTP/1.1\r\nHost: {HOST}:53\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\x00\x1d\x12\x34\x01\x00\x00\x01")
            assert await drained(reader) == b""
        assert noted == [(HOST, 53)] and proxy.upstream.connections == 0


async def test_http2_without_tls_and_connect_in_a_tunnel_are_refused():
    """Prior knowledge of HTTP/2, and a tunnel inside a tunnel."""
    async with running() as proxy:
        async with proxy.raw() as (reader, writer):
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert b" 200 " not in await drained(reader)
        got = await proxy.exchange(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
        assert b" 200 " not in got
        assert proxy.upstream.connections == 0


async def test_a_request_without_connect_passes_the_same_stations():
    """Absolute-form `GET http://host/`: sealed, signed, recorded, and in origin form upstream."""
    async with running() as proxy:
        async with proxy.raw(connect=False) as (reader, writer):
            writer.write(f"GET http://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        assert [got.target for got in proxy.upstream.requests] == ["/a"]
        assert proxy.upstream.requests[0].header("authorization")
        assert await proxy.recording.until() == ["200 ok"]
