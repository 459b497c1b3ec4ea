"""A refused call is answered on its head: at once, in memory that does not grow, on a connection that goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flowwarden.errors import Refusal
from support.harness import At, after, running

VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])
EXPECT = [("expect", "100-continue")]
MIB = 1 << 20


def denying(flow) -> None:
    if flow.request.path == "/denied":
        raise Refusal("not today", station="decide", rule="no-a")


def resident() -> int:
    """Bytes of memory that this process (proxy, client and upstream) has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@VERSIONS
async def test_answered_before_the_body_comes(version):
    """The answer to a denied 64 MiB put is whole before the first byte of its body was sent."""
    gone = asyncio.Event()
    station = At("decider", requestheaders=denying, client_disconnected=lambda _client: gone.set())
    async with running(change=after("recognise", station)) as proxy:
        async with proxy.client(version) as client:
            answer = client.start("PUT", "/denied", length=64 * MIB)
            await client.over(answer)
            assert answer.whole and answer.status == 403 and b"not today" in answer.body
            assert answer.headers["x-flowwarden-rule"] == "no-a"
            assert proxy.upstream.bytes == b""
            assert await proxy.recording.until() == ["403 not today"]
        await asyncio.wait_for(gone.wait(), 10)
        assert proxy.recording.outcomes == ["403 not today"], "leaving afterwards is not another outcome"


async def test_the_body_of_a_denied_call_is_not_kept_and_the_connection_goes_on():
    """HTTP/1: 64 MiB pass into nothing, and the next call on the same connection is served."""
    chunk = bytes(256 * 1024)
    async with running(change=after("recognise", At("decider", requestheaders=denying))) as proxy:
        async with proxy.client("h1") as client:
            answer = client.start("PUT", "/denied", length=64 * MIB)
            await client.over(answer)
            before, most = resident(), 0
            for _ in range(256):
                client.data(answer, chunk)
                await client.writer.drain()
                most = max(most, resident())
            client.data(answer, b"", end=True)
            assert most - before < 24 * MIB
            again = await client.ask("GET", "/allowed")
            assert again.whole and again.body == b"hello"
        assert [got.target for got in proxy.upstream.requests] == ["/allowed"]
        assert proxy.recording.outcomes == ["403 not today", "200 ok"]


async def test_a_denied_stream_leaves_the_others_of_its_connection_alone():
    """HTTP/2: a stream beside the denied one is served while the denied one's body is still on its way."""
    async with running(change=after("recognise", At("decider", requestheaders=denying))) as proxy:
        async with proxy.client("h2") as client:
            denied = client.start("PUT", "/denied", length=4 * MIB)
            await client.over(denied)
            assert (await client.ask("GET", "/allowed")).body == b"hello"
        assert [got.target for got in proxy.upstream.requests] == ["/allowed"]


@VERSIONS
async def test_expect_of_a_denied_call_gets_no_100(version):
    """The client keeps its body; on HTTP/1 it is told to close, because its next request would be taken for the body."""
    async with running(change=after("recognise", At("decider", requestheaders=denying))) as proxy:
        async with proxy.client(version) as client:
            answer = await client.over(client.start("PUT", "/denied", EXPECT, length=9))
            assert answer.status == 403 and answer.whole and answer.informational == []
            if version == "h1":
                assert answer.headers["connection"] == "close"
        assert proxy.upstream.bytes == b""


@VERSIONS
async def test_expect_of_a_whole_body_gets_a_100_when_the_head_passed(version):
    """A buffered call is told to continue once `requestheaders` let it pass; the header itself does not go upstream."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def hold(flow) -> None:
        entered.set()
        await release.wait()

    async with running(change=after("recognise", At("decider", requestheaders=hold))) as proxy:
        async with proxy.client(version) as client:
            answer = client.start("PUT", "/a", EXPECT, length=4)
            await entered.wait()
            assert answer.informational == []
            release.set()
            await client.until(lambda: answer.informational)
            assert proxy.upstream.bytes == b""
            client.data(answer, b"body", end=True)
            await client.over(answer)
        assert answer.informational == [100] and answer.whole and answer.status == 200
        assert proxy.upstream.requests[0].body == b"body"
        assert proxy.upstream.requests[0].header("expect") == ""


@VERSIONS
async def test_expect_of_a_streamed_body_gets_a_100_when_upstream_is_open(version):
    """A streamed call is told to continue when its head is about to leave."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def hold(data) -> None:
        entered.set()
        await release.wait()

    change = after("intend", At("slow", server_connect=hold))
    async with running(streams_request=True, change=change) as proxy:
        async with proxy.client(version) as client:
            answer = client.start("PUT", "/a", EXPECT, length=4)
            await entered.wait()
            assert answer.informational == []
            release.set()
            await client.until(lambda: answer.informational)
            client.data(answer, b"body", end=True)
            await client.over(answer)
        assert answer.informational == [100] and answer.status == 200
        assert proxy.upstream.requests[0].body == b"body"


@VERSIONS
async def test_expect_of_a_streamed_call_that_cannot_be_sent_gets_no_100(version):
    def fail(data) -> None:
        raise Refusal("nowhere", station="connect")

    change = after("intend", At("dial", server_connect=fail))
    async with running(streams_request=True, change=change) as proxy:
        async with proxy.client(version) as client:
            answer = await client.over(client.start("PUT", "/a", EXPECT, length=4))
        assert answer.whole and answer.status == 502 and answer.informational == []


@VERSIONS
async def test_an_announced_body_over_the_limit_is_refused_unread(version):
    """413 before the body, and before a 100."""
    async with running(body_limit=1000) as proxy:
        async with proxy.client(version) as client:
            answer = await client.over(client.start("PUT", "/a", EXPECT, length=1001))
        assert answer.whole and answer.status == 413 and answer.informational == []
        assert proxy.upstream.bytes == b""
        assert len(await proxy.recording.until()) == 1 and proxy.recording.outcomes[0].startswith("413 ")


@VERSIONS
async def test_a_body_that_grows_over_the_limit_is_refused(version):
    """413 where the length was not announced, and the connection goes on."""
    async with running(body_limit=1000) as proxy:
        async with proxy.client(version) as client:
            answer = client.start("PUT", "/a", chunked=True)
            client.data(answer, bytes(1001))
            await client.over(answer)
            assert answer.whole and answer.status == 413
            client.data(answer, bytes(1001), end=True)
            assert (await client.ask("PUT", "/b", bytes(1000))).status == 200
        assert [got.target for got in proxy.upstream.requests] == ["/b"]
        assert len(proxy.recording.outcomes) == 2


@VERSIONS
@pytest.mark.parametrize("announced", [True, False])
async def test_an_answer_over_the_limit_is_refused(version, announced):
    """Nothing of an answer that cannot be masked whole reaches the agent, and upstream is cut."""

    async def large(_got, writer) -> None:
        head = b"Content-Length: 99999999" if announced else b"Transfer-Encoding: chunked"
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + b"400\r\n" + b"s" * 1024 + b"\r\n")

    async with running(body_limit=1000) as proxy:
        proxy.upstream.on_request = large
        async with proxy.client(version) as client:
            answer = await client.ask()
            await proxy.upstream.until(lambda: proxy.upstream.open == 0)
        assert answer.whole and answer.status == 502 and b"sss" not in answer.body
        assert len(await proxy.recording.until()) == 1
