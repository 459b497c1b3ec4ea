"""Closed by default, proven: each hook and stream callable of each station raises in a real proxy, over HTTP/1 and HTTP/2.

Every row asserts both ends and the recorder. What a hook can still refuse, and how → test:

client_connected, http_connect, server_connect  test_a_connection_hook_that_fails
next_layer                                      test_without_the_wire_nothing_leaves, tests/wire/test_wire_client.py
                                                (what is no HTTP, a DNS port); ports: tests/connect/test_connect_proxy.py
tls_clienthello                                 test_a_connection_hook_that_fails; HTTP/2 by host: test_connect_proxy.py
requestheaders                                  test_a_request_hook_that_fails, tests/wire/test_wire_refuse.py
request (buffered)                              test_a_request_hook_that_fails
response (buffered)                             test_an_answer_hook_that_fails
request once streaming, stream callables        test_a_request_hook_that_fails_once_the_body_streams,
                                                test_a_stream_callable_that_fails, tests/wire/test_wire_streams.py
responseheaders, response (streamed)            test_an_answer_hook_that_fails
WebSocket                                       tests/wire/test_wire_upstream.py (message refused: both sides closed)
error, *_end, server_connected                  test_what_is_too_late_harms_nothing
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from mitmproxy import http

from flowwarden import proof
from flowwarden.failing import stream_request, stream_response
from flowwarden.guard import Guard
from flowwarden.station import Station
from support.harness import HOST, At, Proxy, after, drained, running, without

VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])
BOTH = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
STATIONS = (*proof.REQUEST_STATIONS, "sign", *proof.ANSWER_STATIONS)
BODY = b"the agent must not see this"


class Fatal(BaseException):
    """What `except Exception` does not catch."""


FAULTS: dict[str, type[BaseException]] = {
    "error": RuntimeError,
    "cancelled": asyncio.CancelledError,  # of something that the station waited for, not of the hook itself
    "fatal": Fatal,
}


def failing(fault: str, *, later: bool = False) -> Callable[..., Any]:
    """A hook that raises, at once or after it has waited."""

    def at_once(*_args: object) -> None:
        raise FAULTS[fault]("a secret of the station's own")

    async def after_waiting(*_args: object) -> None:
        await asyncio.sleep(0)
        raise FAULTS[fault]("a secret of the station's own")

    return after_waiting if later else at_once


def breaking(name: str, event: str, hook: Callable[..., Any]) -> Callable[[list[Station]], list[Station]]:
    """The chain with one hook of one station replaced."""

    def change(stations: list[Station]) -> list[Station]:
        for station in stations:
            if station.name == name:
                setattr(station, event, hook)
        return stations

    return change


async def answer_body(_got: object, writer: asyncio.StreamWriter) -> None:
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY)


@contextlib.asynccontextmanager
async def proxy_with(change: Callable[[list[Station]], list[Station]], **options: Any) -> AsyncIterator[Proxy]:
    async with running(change=change, **options) as proxy:
        proxy.upstream.on_request = answer_body
        yield proxy


async def upload(proxy: Proxy, version: str) -> Any:
    """A call with a body in two parts, so that a streamed one is under way when its last part comes."""
    async with proxy.client(version) as client:
        answer = client.start("PUT", "/a", length=8)
        client.data(answer, b"four")
        client.data(answer, b"more", end=True)
        return await client.over(answer)


def clean(answer: Any, proxy: Proxy) -> None:
    """No byte of upstream's answer, and nothing of the exception, at the agent."""
    assert BODY not in answer.body and b"secret of the station" not in answer.body
    assert "secret of the station" not in str(answer.headers) + str(proxy.recording.outcomes)


# -- the request's side -------------------------------------------------------------------------------------------


@VERSIONS
@BOTH
@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("name", proof.REQUEST_STATIONS)
async def test_a_request_hook_that_fails(version, streams, fault, name):
    """503, nothing upstream, one outcome that names the station."""
    event = "requestheaders" if streams or name == "connect" else "request"
    change = breaking(name, event, failing(fault, later=name == "approve"))
    async with proxy_with(change, streams_request=streams) as proxy:
        answer = await upload(proxy, version)
        assert answer.whole and answer.status == 503
        assert f"station '{name}' failed" in answer.body.decode()
        assert proxy.upstream.bytes == b""
        assert len(await proxy.recording.until()) == 1
        assert f"station '{name}' failed" in proxy.recording.outcomes[0]
        clean(answer, proxy)


@VERSIONS
@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("name", proof.REQUEST_STATIONS)
async def test_a_request_hook_that_fails_once_the_body_streams(version, fault, name):
    """Upstream has an unterminated body, the agent a 502."""
    async with proxy_with(breaking(name, "request", failing(fault)), streams_request=True) as proxy:
        answer = await upload(proxy, version)
        assert answer.whole and answer.status == 502
        await proxy.upstream.until(lambda: proxy.upstream.open == 0)
        assert [got.whole for got in proxy.upstream.requests] == [False]
        assert len(await proxy.recording.until()) == 1
        assert f"station '{name}' failed" in proxy.recording.outcomes[0]
        clean(answer, proxy)


@VERSIONS
@BOTH
@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("event", ["client_connected", "http_connect", "tls_clienthello", "server_connect"])
async def test_a_connection_hook_that_fails(version, streams, fault, event):
    """Whatever the step, nothing upstream; from the first request on the outcome tells it."""
    change = after("connect", At("breaking", **{event: failing(fault, later=True)}))
    async with proxy_with(change, streams_request=streams) as proxy:
        if event == "client_connected":
            async with proxy.raw(connect=False) as (reader, writer):
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                assert await drained(reader) == b""
        elif event == "http_connect":
            async with proxy.raw(connect=False) as (reader, writer):
                writer.write(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
        else:
            answer = await upload(proxy, version)
            assert answer.whole and answer.status in (403, 502)
            assert len(await proxy.recording.until()) == 1
            clean(answer, proxy)
        assert proxy.upstream.bytes == b"" and proxy.upstream.connections == 0


@VERSIONS
@BOTH
@pytest.mark.parametrize("fault", ["error", "fatal"])
@pytest.mark.parametrize("method", ["sign", "dial"])
async def test_a_signer_that_fails(version, streams, fault, method):
    """503 and not a byte upstream: a request leaves signed or not at all."""
    async with proxy_with(breaking("sign", method, failing(fault)), streams_request=streams) as proxy:
        answer = await upload(proxy, version)
        assert answer.whole and answer.status == 503
        assert proxy.upstream.bytes == b""
        assert len(await proxy.recording.until()) == 1 and "'sign' failed" in proxy.recording.outcomes[0]
        clean(answer, proxy)


# -- the answer's side --------------------------------------------------------------------------------------------


@VERSIONS
@BOTH
@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("event", ["responseheaders", "response"])
@pytest.mark.parametrize("name", ["swap", "mask", "record"])
async def test_an_answer_hook_that_fails(version, streams, fault, event, name):
    """A 502 without the body, or no byte of the tail and a broken stream; the recorder tells it unless it is what failed."""
    calls = []

    def once(*args: object) -> Any:
        calls.append(args)
        if len(calls) == 1 or name != "record":
            failing(fault)()
        return Station_response(args[0])

    def Station_response(flow: Any) -> Any:
        return proxy.recording.__class__.response(proxy.recording, flow)

    async with proxy_with(breaking(name, event, once), streams_answer=streams) as proxy:
        async with proxy.client(version) as client:
            answer = await client.ask()
        if streams and event == "response":
            assert answer.broken and not answer.whole
        else:
            assert answer.whole and answer.status == 502
        clean(answer, proxy)
        outcomes = await proxy.recording.until()
        assert len(outcomes) == 1 and f"station '{name}' failed" in outcomes[0]


@VERSIONS
@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("end", [False, True], ids=["on a chunk", "at the end"])
@pytest.mark.parametrize("side", ["request", "response"])
async def test_a_stream_callable_that_fails(version, fault, end, side):
    """It latches: nothing after the failure goes in its direction, and both sides are cut."""

    def run(data: bytes) -> bytes:
        if end == (not data):
            failing(fault)()
        return data

    def begin(flow: http.HTTPFlow) -> None:
        if side == "request":
            stream_request(flow, "intend", run)
            proof.let_pass(flow, "intend")
        else:
            stream_response(flow, "mask", run)

    event, name = ("requestheaders", "intend") if side == "request" else ("responseheaders", "mask")
    streams = {"streams_request" if side == "request" else "streams_answer": True}
    async with proxy_with(breaking(name, event, begin), **streams) as proxy:
        answer = await upload(proxy, version)
        await proxy.upstream.until(lambda: proxy.upstream.requests and proxy.upstream.open == 0)
        if side == "request":
            assert answer.whole and answer.status == 502
            assert not proxy.upstream.requests[0].whole
        else:
            assert answer.broken and not answer.whole
        clean(answer, proxy)
        outcomes = await proxy.recording.until()
        assert len(outcomes) == 1 and f"station '{name}' failed" in outcomes[0]


@VERSIONS
@pytest.mark.parametrize("fault", ["error", "fatal"])
@pytest.mark.parametrize("event", ["client_disconnected", "server_connected", "server_connect_error", "error"])
async def test_what_is_too_late_harms_nothing(version, fault, event):
    """A failure where nothing can be refused any more neither lets through nor holds up, and the others are still told."""
    told = asyncio.Event()
    change = after(
        "connect", At("breaking", **{event: failing(fault)}), At("later", **{event: lambda _data: told.set()})
    )
    async with proxy_with(change) as proxy:
        if event == "server_connect_error":
            proxy.guard.signer.address = ("127.0.0.1", 1)  # type: ignore[union-attr]
        async with proxy.client(version) as client:
            if event == "error":
                proxy.upstream.on_request = Guard.__class__  # type: ignore[assignment]

                async def hold(_got: object, _writer: object) -> None:
                    client.leave(answer)

                proxy.upstream.on_request = hold
                answer = client.start("GET", end=True)
                await proxy.recording.until()
            else:
                got = await client.ask()
                assert got.whole and got.status == (502 if event == "server_connect_error" else 200)
        await asyncio.wait_for(told.wait(), 10)
        assert len(await proxy.recording.until()) == 1


# -- parts that are missing ---------------------------------------------------------------------------------------


class Unwired(Guard):
    """A guard that forgets to install the wire: mitmproxy's own layers do the work."""

    def next_layer(self, data: Any) -> None:
        pass


@VERSIONS
@BOTH
async def test_without_the_wire_nothing_leaves(version, streams):
    """A request whose stream the wire did not make is refused by the guard."""
    async with proxy_with(lambda stations: stations, streams_request=streams, kind=Unwired) as proxy:
        answer = await upload(proxy, version)
        assert answer.whole and answer.status == 502 and b"did not come through the wire" in answer.body
        assert proxy.upstream.connections == 0
        assert len(await proxy.recording.until()) == 1


@VERSIONS
@BOTH
@pytest.mark.parametrize("name", STATIONS)
async def test_without_a_station_nothing_passes(version, streams, name):
    """Each of them is needed: a request does not leave, an answer's body does not arrive."""
    async with proxy_with(without(name), streams_request=streams, streams_answer=streams) as proxy:
        answer = await upload(proxy, version)
        clean(answer, proxy)
        if name in proof.ANSWER_STATIONS:
            assert answer.status == 502 or answer.broken
        else:
            assert answer.status == 502 and proxy.upstream.bytes == b""


@VERSIONS
async def test_with_two_signers_nothing_leaves(version):
    """Whose copy would it be?"""
    async with proxy_with(lambda stations: [*stations, next(s for s in stations if s.name == "sign")]) as proxy:
        answer = await upload(proxy, version)
        assert answer.status == 502 and proxy.upstream.bytes == b""
