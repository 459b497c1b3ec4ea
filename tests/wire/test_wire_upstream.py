"""What upstream may do: fail, answer oddly, upgrade, be slow about its head; and what the agent then sees."""

from __future__ import annotations

import asyncio
import logging

import pytest

from flowwarden import access
from flowwarden.types import Decision
from flowwarden.wire import bounds
from support.harness import HOST, PATIENCE, At, after, drained, running
from support.wire_clients import CLIENTS

VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])
BOTH = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])


def saying(raw: bytes, *, close: bool = False, abort: bool = False):
    """An upstream that answers with these bytes."""

    async def answer(_got, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        if abort:
            writer.transport.abort()
        elif close:
            writer.close()

    return answer


async def asked(proxy, version: str, method: str = "GET"):
    async with proxy.client(version) as client:
        return await client.ask(method)


@VERSIONS
@BOTH
@pytest.mark.parametrize("abort", [False, True], ids=["closed", "reset"])
async def test_upstream_that_leaves_before_it_answers(version, streams, abort):
    """502 in the gateway's form; whether the call was carried out is unknown; one outcome; no second attempt."""
    async with running(streams_answer=streams) as proxy:
        proxy.upstream.on_request = saying(b"", close=True, abort=abort)
        answer = await asked(proxy, version, "POST")
        assert answer.whole and answer.status == 502
        assert "whether it has carried out the call is unknown" in answer.headers["x-flowwarden-reason"]
        assert len(proxy.upstream.requests) == 1
        assert len(await proxy.recording.until()) == 1 and proxy.recording.outcomes[0].startswith("502 ")


@VERSIONS
@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
async def test_upstream_that_leaves_in_the_middle_of_a_whole_answer(version, framing):
    """Nothing of the torn answer reaches the agent."""
    async with running() as proxy:
        proxy.upstream.on_request = saying(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n5\r\nhello\r\n", close=True)
        answer = await asked(proxy, version)
        assert answer.whole and answer.status == 502 and b"hello" not in answer.body
        assert len(await proxy.recording.until()) == 1


@VERSIONS
@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
async def test_upstream_that_leaves_in_the_middle_of_a_streamed_answer(version, framing):
    """The agent's stream is cut, and the outcome is an error."""
    async with running(streams_answer=True) as proxy:
        proxy.upstream.on_request = saying(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n5\r\nhello\r\n", close=True)
        answer = await asked(proxy, version)
        assert answer.broken and not answer.whole
        assert len(await proxy.recording.until()) == 1 and proxy.recording.outcomes[0].startswith("error ")


@VERSIONS
async def test_what_upstream_said_is_quoted_nowhere(version, caplog):
    """mitmproxy's messages quote the peer's bytes, which nobody has masked: not to the agent, log or recorder."""
    caplog.set_level(logging.DEBUG)
    secret = b"SECRETSECRET"
    raws = (
        b"HTTP/1.1 200 OK\r\nx-key: " + secret,
        b"HTTP/1.1 " + secret + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + secret + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad name " + secret + b": 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + secret,
    )
    for raw in raws:
        async with running() as proxy:
            proxy.upstream.on_request = saying(raw, close=True)
            answer = await asked(proxy, version)
            await proxy.recording.until()
            assert secret not in answer.body and secret.decode() not in str(answer.headers)
            assert secret.decode() not in str(proxy.recording.outcomes)
    assert secret.decode() not in caplog.text


@VERSIONS
@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Content-Length: -5",
        b"x-a: b\rx-c: d\r\nContent-Length: 5",
        b"x-a: b\0\r\nContent-Length: 5",
    ],
)
async def test_malformed_answers_are_refused(version, head):
    """An answer whose framing two parsers could read differently does not go on."""
    async with running() as proxy:
        proxy.upstream.on_request = saying(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nhello", close=True)
        answer = await asked(proxy, version)
        assert answer.whole and answer.status == 502 and b"hello" not in answer.body
        assert "x-flowwarden-reason" in answer.headers
        assert len(await proxy.recording.until()) == 1


@VERSIONS
@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["without end", "with end"])
async def test_an_answers_head_is_bounded(version, end):
    """64 KiB, then upstream is cut; mitmproxy would collect it without limit."""
    async with running() as proxy:
        proxy.upstream.on_request = saying(b"HTTP/1.1 200 OK\r\nx-long: " + b"a" * bounds.HEAD_LIMIT + end)
        answer = await asked(proxy, version)
        assert answer.whole and answer.status == 502
        await proxy.upstream.until(lambda: proxy.upstream.open == 0)
        assert len(await proxy.recording.until()) == 1


async def test_an_answers_head_may_have_its_limit():
    """Just under 64 KiB passes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-a: " + b"a" * (bounds.HEAD_LIMIT - 100)
    async with running() as proxy:
        proxy.upstream.on_request = saying(head + b"\r\n\r\nhello")
        got = await proxy.exchange(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        assert got.startswith(b"HTTP/1.1 200") and got.endswith(b"hello")


@VERSIONS
async def test_an_answers_head_is_bounded_in_time(version, monkeypatch):
    """A head that trickles is not waited for."""
    monkeypatch.setattr(bounds, "HEAD_SECONDS", 0.01)
    async with running() as proxy:
        proxy.upstream.on_request = saying(b"HTTP/1.1 200 OK\r\nx-a")
        answer = await asked(proxy, version)
        assert answer.whole and answer.status == 502
        assert len(await proxy.recording.until()) == 1


@VERSIONS
async def test_informational_answers_are_not_the_answer(version):
    """100, 102 and 103 from upstream are dropped; mitmproxy would end the call with them."""
    early = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nx-a: b\r\n\r\nHTTP/1.1 103 Early\r\nlink: <a>\r\n\r\n"
    )
    async with running() as proxy:
        proxy.upstream.on_request = saying(early + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        async with proxy.client(version) as client:
            for _ in range(2):
                answer = await client.ask()
                assert answer.whole and answer.status == 200 and answer.body == b"hello"
        assert proxy.upstream.connections == (1 if version == "h1" else 2)


@VERSIONS
async def test_an_informational_answer_in_two_packets(version):
    async def parted(_got, writer) -> None:
        for part in (b"HTTP/1.1 10", b"0 Continue\r\n\r", b"\nHTTP/1.1 200 OK\r\nContent-Le", b"ngth: 5\r\n\r\nhello"):
            writer.write(part)
            await writer.drain()

    async with running() as proxy:
        proxy.upstream.on_request = parted
        assert (await asked(proxy, version)).body == b"hello"


@VERSIONS
@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"200 OK\r\nContent-Length: 5"),
        ("HEAD", b"200 OK\r\nTransfer-Encoding: chunked"),
        ("GET", b"204 No Content"),
        ("GET", b"304 Not Modified\r\nContent-Length: 5\r\nETag: x"),
        ("GET", b"200 OK\r\nContent-Length: 0"),
    ],
)
@BOTH
async def test_answers_without_a_body(version, streams, method, head):
    """They are whole with their head, keep it, and leave the connection in step."""
    async with running(streams_answer=streams) as proxy:
        proxy.upstream.on_request = saying(b"HTTP/1.1 " + head + b"\r\n\r\n")
        async with proxy.client(version) as client:
            answer = await client.ask(method)
            assert answer.whole and answer.status == int(head[:3]) and answer.body == b""
            if b"Content-Length: 5" in head:
                assert answer.headers["content-length"] == "5"
            proxy.upstream.on_request = proxy.upstream.hello
            assert (await client.ask()).body == b"hello"
        assert proxy.recording.outcomes == [f"{head[:3].decode()} ok", "200 ok"]


@VERSIONS
@BOTH
async def test_an_answer_that_ends_with_its_connection(version, streams):
    """The agent gets it with an explicit end, so that a cut one cannot be taken for whole."""
    async with running(streams_answer=streams) as proxy:
        proxy.upstream.on_request = saying(b"HTTP/1.1 200 OK\r\n\r\nhello", close=True)
        async with proxy.client(version) as client:
            answer = await client.ask()
            assert answer.whole and answer.body == b"hello"
            if version == "h1":
                assert "content-length" in answer.headers or answer.headers["transfer-encoding"] == "chunked"
            proxy.upstream.on_request = proxy.upstream.hello
            assert (await client.ask()).body == b"hello"


@VERSIONS
@BOTH
async def test_trailers_of_an_answer_are_refused(version, streams):
    """mitmproxy has no HTTP/1 trailers and would leave the agent waiting for ever."""
    async with running(streams_answer=streams) as proxy:
        raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n"
        proxy.upstream.on_request = saying(raw)
        answer = await asked(proxy, version)
        assert (answer.broken and not answer.whole) if streams else (answer.whole and answer.status == 502)
        assert len(await proxy.recording.until()) == 1


@VERSIONS
async def test_an_upgrade_is_refused(version):
    """101 opens a raw tunnel: refused unless a rule allows WebSockets here."""
    async with running() as proxy:
        proxy.upstream.on_request = saying(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nraw")
        answer = await asked(proxy, version)
        assert answer.whole and answer.status == 502 and b"raw" not in answer.body
        assert len(await proxy.recording.until()) == 1


def websocket(message_hook):
    """Stations that allow WebSockets."""

    def allow(flow) -> None:
        access.of(flow).decision = Decision("allow", websocket=True, mask=False)

    return after("decide", At("rules", requestheaders=allow, websocket_message=message_hook))


async def test_a_websocket_that_is_allowed_passes_messages_one_by_one():
    """Each message passes the stations; a refused one is dropped, and both sides are closed."""
    import wsproto
    from wsproto.events import AcceptConnection, Request, TextMessage

    seen: list[bytes] = []

    def hook(flow) -> None:
        seen.append(flow.websocket.messages[-1].content)
        if b"secret" in seen[-1]:
            raise RuntimeError("no")

    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conn = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        while chunk := await reader.read(65536):
            got.extend(chunk)
            conn.receive_data(chunk)
            for event in conn.events():
                if isinstance(event, Request):
                    writer.write(conn.send(AcceptConnection()))
                elif isinstance(event, TextMessage):
                    writer.write(conn.send(TextMessage(event.data.upper())))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with running(change=websocket(hook)) as proxy:
        proxy.guard.signer.address = server.sockets[0].getsockname()[:2]
        async with proxy.tunnel() as (reader, writer):
            conn = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
            writer.write(conn.send(Request(host=HOST, target="/ws")))
            answers: list[str] = []
            writer.write(b"")
            while "HELLO" not in answers:
                conn.receive_data(await asyncio.wait_for(reader.read(65536), PATIENCE))
                for event in conn.events():
                    if isinstance(event, AcceptConnection):
                        writer.write(conn.send(TextMessage("hello")))
                    elif isinstance(event, TextMessage):
                        answers.append(event.data)
            writer.write(conn.send(TextMessage("secret")) + conn.send(TextMessage("after")))
            rest = await drained(reader)
    server.close()
    assert seen == [b"hello", b"HELLO", b"secret"] and b"SECRET" not in rest and b"AFTER" not in rest
    assert got.count(b"\r\n\r\n") == 1


async def test_a_websocket_is_refused_without_a_rule():
    async with running() as proxy:
        proxy.upstream.on_request = saying(
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"
        )
        async with proxy.client("h1") as client:
            headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")]
            answer = client.start("GET", "/ws", headers, end=True)
            await client.over(answer)
        assert answer.status == 502 and b"hello" not in answer.body


async def test_connections_upstream_are_kept_and_used_again():
    """HTTP/1: calls in one tunnel take one connection."""
    async with running() as proxy, proxy.client("h1") as client:
        for _ in range(3):
            assert (await client.ask()).body == b"hello"
        assert proxy.upstream.connections == 1


@BOTH
async def test_an_http2_body_without_a_length_is_framed_on_http1(streams):
    """mitmproxy would send it bare, and upstream would take it for another request."""
    smuggled = b"DELETE /bucket HTTP/1.1\r\nHost: upstream.example.com\r\nContent-Length: 0\r\n\r\n"
    async with running(streams_request=streams) as proxy:
        async with proxy.client("h2") as client:
            answer = client.start("POST", "/a")
            client.data(answer, smuggled, end=True)
            await client.over(answer)
        assert answer.status == 200
        assert [(got.method, got.target, got.body) for got in proxy.upstream.requests] == [("POST", "/a", smuggled)]
        assert proxy.upstream.malformed == []


async def test_several_streams_of_one_connection():
    """HTTP/2: ten calls at once, each answered with its own answer, each signed and recorded once."""

    async def echo(got, writer) -> None:
        body = got.target.encode()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    async with running() as proxy:
        proxy.upstream.on_request = echo
        async with proxy.client("h2") as client:
            answers = [client.start("GET", f"/{number}", end=True) for number in range(10)]
            for number, answer in enumerate(answers):
                await client.over(answer)
                assert answer.whole and answer.body == f"/{number}".encode()
        assert len(await proxy.recording.until(10)) == 10
        assert all(got.header("authorization") for got in proxy.upstream.requests)


def test_every_client_is_judged():
    assert set(CLIENTS) == {"h1", "h2"}
