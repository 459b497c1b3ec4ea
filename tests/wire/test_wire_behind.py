"""A thread that is behind with a body stops that body's connection, and not the loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from flowwarden.recording.passed import AHEAD, BLOCK, Passed
from support.harness import HOST, PATIENCE, running

SIZE = 16 << 20


@pytest.mark.parametrize("fails", [False, True])
async def test_an_upload_waits_at_its_socket_and_others_go_on(fails):
    """Whatever becomes of the work: it is over, and the reading goes on."""
    work: Future[None] = Future()
    began = asyncio.Event()
    async with running(streams_request=True, body_limit=SIZE) as proxy:

        def behind(flow):
            if flow.request.path != "/large":
                return None
            began.set()
            return None if work.done() else work

        proxy.guard.behind = behind
        async with proxy.tunnel() as (reader, writer), proxy.client("h1") as other:
            head = f"PUT /large HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {SIZE}\r\n\r\n".encode()
            writer.write(head + bytes(SIZE))
            await asyncio.wait_for(began.wait(), PATIENCE)
            for _ in range(5):
                assert (await other.ask("GET", "/small")).status == 200
            assert proxy.upstream.raw.count(b"\0") < SIZE // 8
            if fails:
                work.set_exception(OSError("the disk"))
            else:
                work.set_result(None)
            assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert proxy.upstream.raw.count(b"\0") >= SIZE


async def test_an_answer_waits_at_its_socket_and_others_go_on():
    """The same on the way back: what is kept of an answer is not where it has to be."""
    work: Future[None] = Future()
    began = asyncio.Event()

    async def large(got, writer):
        size = SIZE if got.target == "/large" else 5
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

    def behind(flow):
        if flow.request.path != "/large":
            return None
        began.set()
        return None if work.done() else work

    async with running(streams_answer=True) as proxy:
        proxy.upstream.on_request, proxy.guard.behind = large, behind
        async with proxy.tunnel() as (reader, writer), proxy.client("h1") as other:
            got = bytearray()

            async def read() -> None:
                while len(got) < SIZE:
                    got.extend(await reader.read(1 << 18))

            writer.write(f"GET /large HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            reading = asyncio.create_task(read())
            await asyncio.wait_for(began.wait(), PATIENCE)
            for _ in range(5):
                assert (await other.ask("GET", "/small")).status == 200
            assert len(got) < SIZE // 8
            work.set_result(None)
            await asyncio.wait_for(reading, PATIENCE)
        assert got.count(b"\0") >= SIZE - (1 << 10)


async def test_writing_what_is_kept_waits_for_nothing():
    """The thread is held, and the loop gets each part back at once; what there is to wait for is told."""
    held, began = threading.Event(), threading.Event()

    class Slow:
        sha256, size, withheld = "", 0, ""

        def feed(self, data: bytes) -> bytes:
            began.set()
            assert held.wait(PATIENCE)
            return data

        def finish(self) -> bytes:
            return b""

    class Sink:
        def store(self, data: bytes) -> None: ...

    passed = Passed(Sink(), Slow())
    for count in range(AHEAD + 2):
        assert (passed.behind is not None) is (count > AHEAD)
        passed.write(bytes(BLOCK))
    assert began.wait(PATIENCE) and passed.behind is not None
    held.set()
    await asyncio.wait_for(asyncio.wrap_future(passed.behind), PATIENCE)
