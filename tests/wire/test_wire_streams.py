"""Bodies that stream: what a failure lets through (nothing after it), and when the last byte goes."""

from __future__ import annotations

import asyncio

import pytest

from flowwarden import access, proof
from flowwarden.failing import stream_request, stream_response
from support.harness import At, Passing, after, running

VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])
FRAMINGS = pytest.mark.parametrize("framing", ["length", "chunked"])
SECRET = b"SECRET"


class Streaming(Passing):
    """An `intend` whose reader is the test's."""

    def __init__(self, reader) -> None:
        super().__init__("intend", True)
        self.reader = reader

    def requestheaders(self, flow) -> None:
        stream_request(flow, "intend", self.reader)
        proof.let_pass(flow, self.name)


def reading(reader):
    return lambda stations: [Streaming(reader) if station.name == "intend" else station for station in stations]


def masking(masker):
    """A `mask` whose stream callable is the test's."""

    def responseheaders(flow) -> None:
        stream_response(flow, "mask", masker)

    mask = At("mask", responseheaders=responseheaders, response=lambda flow: proof.let_out(flow, "mask"))
    return lambda stations: [mask if station.name == "mask" else station for station in stations]


def failing_at(mark: bytes):
    """Lets bytes pass until a chunk holds the mark; latched failures after that."""

    def run(data: bytes) -> bytes:
        if mark in data if mark else not data:
            raise RuntimeError("the reader failed")
        return data

    return run


async def three(_got, writer: asyncio.StreamWriter, framing: str, changed) -> None:
    """An answer in three parts, each in a packet of its own."""
    parts = [b"first.", SECRET, b".last"]
    if framing == "length":
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {sum(map(len, parts))}\r\n\r\n".encode())
    elif framing == "chunked":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    else:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
    for part in parts:
        writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n" if framing == "chunked" else part)
        await writer.drain()
        await changed(part)
    if framing == "chunked":
        writer.write(b"0\r\n\r\n")
    elif framing == "close":
        writer.close()


async def nothing(_part: bytes) -> None:
    pass


@VERSIONS
@FRAMINGS
@pytest.mark.parametrize("mark", [b"two", b""], ids=["on a chunk", "at the end"])
async def test_a_reader_that_fails_leaves_the_body_unterminated(version, framing, mark):
    """Upstream never has a complete body; the agent gets a 502; nothing comes after the failure."""
    async with running(streams_request=True, change=reading(failing_at(mark))) as proxy:
        async with proxy.client(version) as client:
            answer = client.start("PUT", "/a", length=11 if framing == "length" else None, chunked=framing == "chunked")
            client.data(answer, b"one.")
            await proxy.upstream.until(lambda: proxy.upstream.requests and proxy.upstream.requests[0].body == b"one.")
            client.data(answer, b"two.")
            client.data(answer, b"end", end=True)
            await client.over(answer)
            await proxy.upstream.until(lambda: proxy.upstream.open == 0)
        got = proxy.upstream.requests[0]
        assert got.broken and not got.whole
        assert got.body.startswith(b"one.") and b"one.two.end".startswith(got.body)
        assert not mark or got.body == b"one."
        assert framing != "length" or len(got.body) < 11
        assert answer.whole and answer.status == 502
        assert len(await proxy.recording.until()) == 1 and "'intend' failed" in proxy.recording.outcomes[0]


@VERSIONS
@FRAMINGS
async def test_a_request_hook_that_fails_after_the_body_leaves_it_unterminated(version, framing):
    """The last bytes wait for the `request` hook, also where a Content-Length would be complete without it."""

    def fail(flow) -> None:
        raise RuntimeError("no")

    change = after("intend", At("late", request=fail))
    async with running(streams_request=True, change=change) as proxy:
        async with proxy.client(version) as client:
            answer = client.start("PUT", "/a", length=4 if framing == "length" else None, chunked=framing == "chunked")
            client.data(answer, b"body", end=True)
            await client.over(answer)
            await proxy.upstream.until(lambda: proxy.upstream.open == 0)
        got = proxy.upstream.requests[0]
        assert got.broken and not got.whole
        assert answer.whole and answer.status == 502
        assert len(await proxy.recording.until()) == 1


@VERSIONS
@pytest.mark.parametrize(("made", "error"), [(b"four.", "longer"), (b"fo", "shorter")])
async def test_a_reader_cannot_break_the_framing_towards_upstream(version, made, error):
    """More bytes than announced would be another request there."""
    async with running(streams_request=True, change=reading(lambda data: made if data else b"")) as proxy:
        async with proxy.client(version) as client:
            answer = client.start("PUT", "/a", length=4)
            client.data(answer, b"four", end=True)
            await client.over(answer)
            await proxy.upstream.until(lambda: proxy.upstream.open == 0)
        assert answer.status == 400 and error in answer.body.decode()
        assert not proxy.upstream.requests[0].whole and len(proxy.upstream.requests) == 1


@VERSIONS
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("mark", [SECRET, b""], ids=["on a chunk", "at the end"])
async def test_a_masker_that_fails_lets_nothing_out_after_it(version, framing, mark):
    """The agent has what came before, no byte after, and a stream that is visibly broken."""
    first = asyncio.Event()

    async def changed(part: bytes) -> None:
        if part == b"first.":
            await first.wait()

    async with running(change=masking(failing_at(mark))) as proxy:
        proxy.upstream.on_request = lambda got, writer: three(got, writer, framing, changed)
        async with proxy.client(version) as client:
            answer = client.start("GET", end=True)
            await client.until(lambda: answer.body)
            first.set()
            await client.over(answer)
        assert answer.status == 200 and answer.broken and not answer.whole
        if mark:
            assert answer.body == b"first."
        else:
            assert (b"first." + SECRET + b".last").startswith(answer.body)
            assert framing != "length" or len(answer.body) < 17
        outcomes = await proxy.recording.until()
        assert len(outcomes) == 1 and outcomes[0].startswith("error ") and "'mask' failed" in outcomes[0]


@VERSIONS
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_the_end_waits_for_the_response_hook(version, framing):
    """Outcome durable, then release: until the awaited hook is done no client can take the answer for complete."""
    first = asyncio.Event()

    async def changed(part: bytes) -> None:
        if part == b"first.":
            await first.wait()

    async with running(streams_answer=True) as proxy:
        proxy.upstream.on_request = lambda got, writer: three(got, writer, framing, changed)
        proxy.recording.release = asyncio.Event()
        async with proxy.client(version) as client:
            answer = client.start("GET", end=True)
            await client.until(lambda: answer.body == b"first.")
            first.set()
            await proxy.recording.held.wait()
            assert not answer.whole
            assert framing != "length" or len(answer.body) < 17
            proxy.recording.release.set()
            await client.over(answer)
        assert answer.whole and answer.body == b"first." + SECRET + b".last"


@VERSIONS
async def test_a_whole_answer_waits_for_the_response_hook(version):
    """Nothing of it, not even the head, goes before."""
    async with running() as proxy:
        proxy.recording.release = asyncio.Event()
        async with proxy.client(version) as client:
            answer = client.start("GET", end=True)
            await proxy.recording.held.wait()
            assert answer.status == 0
            proxy.recording.release.set()
            assert (await client.over(answer)).body == b"hello"


@VERSIONS
@FRAMINGS
async def test_a_response_hook_that_fails_withholds_the_tail(version, framing):
    def fail(flow) -> None:
        raise RuntimeError("no")

    async with running(streams_answer=True, change=after("swap", At("late", response=fail))) as proxy:
        proxy.upstream.on_request = lambda got, writer: three(got, writer, framing, nothing)
        async with proxy.client(version) as client:
            answer = await client.over(client.start("GET", end=True))
        assert answer.broken and not answer.whole
        outcomes = await proxy.recording.until()
        assert len(outcomes) == 1 and outcomes[0].startswith("error ")


@VERSIONS
@pytest.mark.parametrize(("made", "error"), [(b"longer.", "longer"), (b"sho", "shorter")])
async def test_a_masker_cannot_break_the_framing_towards_the_agent(version, made, error):
    """More or fewer bytes than announced would set the connection out of step."""
    async with running(change=masking(lambda data: made if data else b"")) as proxy:
        async with proxy.client(version) as client:
            answer = await client.over(client.start("GET", end=True))
        assert answer.broken and not answer.whole
        assert error in (await proxy.recording.until())[0]


@VERSIONS
@pytest.mark.parametrize("made", [b"longer.", b"sho", b""])
async def test_a_whole_answer_keeps_its_framing(version, made):
    """A body that does not fit its Content-Length is not sent."""

    def shrink(flow) -> None:
        flow.response.raw_content = made
        proof.let_out(flow, "mask")

    mask = At("mask", response=shrink)
    change = lambda stations: [mask if station.name == "mask" else station for station in stations]  # noqa: E731
    async with running(change=change) as proxy:
        async with proxy.client(version) as client:
            answer = await client.over(client.start("GET", end=True))
        assert answer.whole and answer.status == 502


@VERSIONS
@pytest.mark.parametrize("stream", [True, lambda data: data], ids=["True", "callable"])
@pytest.mark.parametrize("where", ["swap", "mask"])
async def test_an_answer_that_somebody_lets_stream_is_not_sent(version, stream, where):
    """Only the guard's own callable may stream an answer; before or after the masker makes no difference."""
    meddler = At("meddler", responseheaders=lambda flow: setattr(flow.response, "stream", stream))
    async with running(streams_answer=where == "mask", change=after(where, meddler)) as proxy:
        async with proxy.client(version) as client:
            answer = await client.ask()
        assert answer.whole and answer.status == 502 and b"hello" not in answer.body
        assert len(await proxy.recording.until()) == 1


@VERSIONS
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", [200, 204])
async def test_a_response_put_in_at_responseheaders_is_not_sent(version, streams, status):
    """mitmproxy would send it with upstream's body under it."""
    from mitmproxy import http

    def replace(flow) -> None:
        flow.response = http.Response.make(200, b"", {"x-foreign": "1", "content-length": "5"})
        if streams:
            stream_response(flow, "mask", lambda data: data)

    async def answer_with(_got, writer) -> None:
        body = b"" if status == 204 else b"Content-Length: 5\r\n"
        writer.write(f"HTTP/1.1 {status} X\r\n".encode() + body + b"\r\n" + (b"" if status == 204 else b"hello"))

    async with running(change=after("mask", At("meddler", responseheaders=replace))) as proxy:
        proxy.upstream.on_request = answer_with
        async with proxy.client(version) as client:
            answer = await client.ask()
        assert answer.whole and answer.status == 502 and "x-foreign" not in answer.headers
        assert b"replaced on its head" in answer.body
        assert len(await proxy.recording.until()) == 1


@VERSIONS
async def test_an_answer_changed_after_the_masker_is_not_sent(version):
    """What swap, mask and record let out is what goes out."""

    def meddle(flow) -> None:
        flow.response.raw_content = access.of(flow).raw_answer.upper()

    async with running(change=after("mask", At("meddler", response=meddle))) as proxy:
        async with proxy.client(version) as client:
            answer = await client.ask()
        assert answer.whole and answer.status == 502 and b"HELLO" not in answer.body


@VERSIONS
@pytest.mark.parametrize("name", proof.ANSWER_STATIONS)
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_without_an_answer_station_nothing_is_released(version, name, streams):
    from support.harness import without

    async with running(streams_answer=streams, change=without(name)) as proxy:
        async with proxy.client(version) as client:
            answer = await client.ask()
        if streams and name != "mask":
            assert answer.broken and answer.body in (b"", b"hell")
        else:
            assert answer.whole and answer.status == 502 and b"hello" not in answer.body


@VERSIONS
async def test_an_answer_that_comes_early_is_whole_and_ends_the_upload(version):
    """S3 answers an upload it does not want at once and closes; the agent has to read why."""

    async def early(_got, writer) -> None:
        writer.write(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwhy\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with running(streams_request=True) as proxy:
        proxy.upstream.on_head = early
        async with proxy.client(version) as client:
            answer = client.start("PUT", "/a", length=1 << 20)
            client.data(answer, bytes(1000))
            await client.over(answer)
            assert answer.whole and answer.status == 400 and answer.body == b"why"
            client.data(answer, bytes((1 << 20) - 1000), end=True)
            proxy.upstream.on_head = None
            assert (await client.ask("GET", "/next")).body == b"hello"
        assert proxy.recording.outcomes == ["400 ok", "200 ok"]


@VERSIONS
async def test_both_directions_stream_at_once(version):
    """An answer's first part arrives while the request's last has not been sent."""

    async def begin(_got, writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")

    async def finish(_got, writer) -> None:
        writer.write(b"two")

    async with running(streams_request=True, streams_answer=True) as proxy:
        proxy.upstream.on_head, proxy.upstream.on_request = begin, finish
        async with proxy.client(version) as client:
            answer = client.start("PUT", "/a", length=8)
            client.data(answer, b"body")
            await client.until(lambda: answer.body == b"one")
            client.data(answer, b"more", end=True)
            await client.over(answer)
        assert answer.whole and answer.body == b"onetwo"
        assert proxy.upstream.requests[0].body == b"bodymore"
