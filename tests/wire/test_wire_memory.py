"""Bodies that are held at once have a bound, for each session and for the whole gateway, whoever holds them up."""

from __future__ import annotations

import asyncio
import gc

import pytest

from flowwarden import access, proof
from flowwarden.failing import stream_request
from flowwarden.wire.memory import SMALL, Memory
from support.harness import running

VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])
BODY = 1 << 20
BOUND = 5 * BODY // 2  # two bodies and a half


class Owner:
    """What a share belongs to."""


def test_sessions_have_shares_of_their_own():
    """A session has its share, all have the whole; what one gives back another can take."""
    memory, owner = Memory(session=100, whole=150), Owner()
    a, b, c = (memory.share(name, owner) for name in "abc")
    assert [memory.take(a, 100), memory.take(a, 1), memory.take(b, 50), memory.take(c, 1)] == [
        "",
        "session",
        "",
        "gateway",
    ]
    memory.release(a)
    memory.release(a)
    assert (memory.take(c, 100), memory.held) == ("", 150)
    memory.take(c, -100)
    memory.release(b)
    memory.release(c)
    assert memory.held == 0 and not memory._sessions


def test_a_share_goes_with_its_owner():
    """Whatever way a call ends, nothing stays counted."""
    memory, owner = Memory(session=100, whole=100), Owner()
    memory.take(memory.share("a", owner), 100)
    del owner
    gc.collect()
    assert memory.held == 0


def test_an_answer_is_counted_until_the_client_has_read_it():
    memory, owner, unsent = Memory(session=100, whole=100), Owner(), 100
    share = memory.share("a", owner)
    memory.take(share, 80)
    memory.leave(share, lambda: unsent)
    assert memory.take(memory.share("a", owner), 30) == "session"
    del share, owner
    gc.collect()
    owner = Owner()
    assert memory.held == 80, "the call is over, its answer is not read"
    unsent = 60
    assert memory.take(memory.share("a", owner), 30) == ""
    unsent = 0
    assert memory.take(memory.share("b", owner), 70) == ""
    assert memory.held == 100


async def until(check) -> None:
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 nobody tells when a client or the kernel has read
            await asyncio.sleep(0.001)


@VERSIONS
async def test_unfinished_uploads(version):
    """The third body at once is refused with 503 SlowDown; when another one ends there is room again."""
    memory = Memory(session=BOUND, whole=BOUND * 9)
    async with (
        running(body_limit=BODY * 2, memory=memory) as proxy,
        proxy.client(version) as one,
        proxy.client(version) as two,
        proxy.client(version) as three,
    ):
        started = []
        for client in (one, two):
            answer = client.start("PUT", "/a", length=BODY + 1)
            client.data(answer, bytes(BODY))
            started.append((client, answer))
        await until(lambda: memory.held >= 2 * (BODY - 4 * SMALL))
        answer = three.start("PUT", "/b", length=BODY)
        three.data(answer, bytes(BODY), end=True)
        await three.over(answer)
        assert answer.status == 503 and b"try again" in answer.body
        for client, first in started:
            client.data(first, b"x", end=True)
            assert (await client.over(first)).status == 200
        assert memory.held == 0
        async with proxy.client(version) as four:
            assert (await four.ask("PUT", "/b", bytes(BODY))).status == 200
        assert len(proxy.upstream.requests) == 3
    assert memory.held == 0


@VERSIONS
async def test_a_client_that_leaves_gives_back_what_it_held(version):
    memory = Memory(session=BOUND, whole=BOUND)
    async with running(body_limit=BODY * 2, memory=memory) as proxy, proxy.client(version) as client:
        answer = client.start("PUT", "/a", length=BODY + 1)
        client.data(answer, bytes(BODY))
        await until(lambda: memory.held)
        client.leave(answer)
        await until(lambda: not memory.held)


async def test_answers_that_nobody_reads():
    """Whole answers wait in the connections of clients that do not read; the next one is refused, and none is lost."""
    size = BODY * 16
    memory = Memory(session=size * 2, whole=size * 2)

    async def large(_got, writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

    async with running(body_limit=size, memory=memory) as proxy:
        proxy.upstream.on_request = large
        request = b"GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n"
        async with proxy.tunnel() as (_, slow), proxy.tunnel() as (reader, other), proxy.client("h1") as third:
            slow.transport.pause_reading()
            other.transport.pause_reading()
            for number, writer in enumerate((slow, other), 1):
                writer.write(request)
                await proxy.recording.until(number)
            await until(lambda: len(memory._leaving) == 2)
            memory._look()
            assert memory.held > BODY  # the rest is in the sockets' own buffers
            held = memory.held
            memory.session = memory.whole = held + BODY
            refused = await third.ask("GET", "/b")
            assert refused.status == 503
            other.transport.resume_reading()
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            await asyncio.wait_for(reader.readexactly(size), 20)
            memory._look()
            assert memory.held < held


@pytest.mark.parametrize("chunk", [SMALL // 2, BODY])
async def test_a_streamed_upload_counts_what_waits_for_its_chunk(chunk):
    """What a stream callable keeps back is counted, what it passes on is not."""
    memory = Memory(session=BOUND, whole=BOUND)
    kept = bytearray()

    def hold(data: bytes) -> bytes:
        kept.extend(data)
        if len(kept) < chunk and data:
            return b""
        passed = bytes(kept)
        kept.clear()
        return passed

    def begin(flow) -> None:
        stream_request(flow, "intend", hold)
        proof.let_pass(flow, "intend")

    def change(stations):
        next(station for station in stations if station.name == "intend").requestheaders = begin
        return stations

    async with running(streams_request=True, change=change, memory=memory) as proxy, proxy.client("h1") as client:
        answer = client.start("PUT", "/a", length=BODY * 2)
        client.data(answer, bytes(BODY - 1))
        if chunk == BODY:
            await until(lambda: memory.held > BODY // 2)
        client.data(answer, bytes(BODY + 1), end=True)
        assert (await client.over(answer)).status == 200
        assert memory.held == 0


@VERSIONS
async def test_a_client_that_leaves_while_its_answer_is_recorded_gives_back_what_it_held(version):
    """At once: not only when Python happens to look for what nobody refers to."""
    memory = Memory(session=BOUND, whole=BOUND)
    async with running(body_limit=BODY * 2, memory=memory) as proxy, proxy.client(version) as client:
        proxy.recording.release = asyncio.Event()
        flows = []
        proxy.recording.on_flow = flows.append
        gc.disable()
        try:
            answer = client.start("PUT", "/a", length=BODY)
            client.data(answer, bytes(BODY), end=True)
            await asyncio.wait_for(proxy.recording.held.wait(), 20)
            assert memory.held == BODY
            client.leave(answer)
            await until(access.of(flows[0]).gone.is_set)
            proxy.recording.release.set()
            await proxy.recording.until()
            await until(lambda: not memory.held)
        finally:
            gc.enable()
            proxy.recording.release.set()
