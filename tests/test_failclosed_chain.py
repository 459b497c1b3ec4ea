"""Closed by default with the real chain: each hook of each station of chain.py raises in turn, and the evidence log tells it.

What each kind of hook can still do stands in test_failclosed.py, which has the rows for faults of other kinds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
import pytest_asyncio

from flowwarden import chain, guard, proof
from flowwarden.services import Services
from support.harness import drained
from support.whole import HOST, Whole, whole

VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])
MODULE = pytest.mark.asyncio(loop_scope="module")
ANSWER = b"the agent must not see this"
TAGS = b'<Tagging xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><TagSet></TagSet></Tagging>'
LARGE = b"a line of text\n" * (1 << 17)

STATIONS = chain.stations(cast(Services, None))
HOOKS = [(station.name, event) for station in STATIONS for event in guard._EVENTS if hasattr(station, event)]
ON_REQUEST = [(name, event) for name, event in HOOKS if event in ("requestheaders", "request")]
ON_ANSWER = [(name, event) for name, event in HOOKS if event in ("responseheaders", "response")]
ON_CONNECTION = ["http_connect", "tls_clienthello", "server_connect"]
ELSEWHERE = {"websocket_message"}  # tests/recording/test_recording_websocket.py
TOO_LATE = {"server_connected", "server_connect_error", "error", "websocket_end", "tunnel_refused", "layer_refused"}


def test_every_hook_of_the_chain_has_its_row():
    """A station that gets a new kind of hook gets a test here, too."""
    known = {"requestheaders", "request", "responseheaders", "response", *ON_CONNECTION, *TOO_LATE, *ELSEWHERE}
    assert {event for _, event in HOOKS} <= known
    assert {name for name, _ in HOOKS} | {"sign"} >= {*proof.REQUEST_STATIONS, *proof.ANSWER_STATIONS}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Whole]:
    async with whole(tmp_path_factory.mktemp("chain") / "gateway") as gateway:
        yield gateway


@pytest.fixture
def gateway(running: Whole) -> Iterator[Whole]:
    """The shared gateway with its own hooks, and an upstream that has seen nothing."""
    table, signer = dict(running.guard.table), running.guard.signer
    running.upstream.forget()
    running.upstream.on_request = answering
    yield running
    running.guard.table.clear()
    running.guard.table.update(table)
    for name in ("sign", "dial"):
        signer.__dict__.pop(name, None)


async def answering(got: Any, writer: asyncio.StreamWriter) -> None:
    body = LARGE if got.target == "/large" else ANSWER if got.method == "GET" else b""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    with contextlib.suppress(ConnectionError):
        writer.write(head.encode() + body)
        await writer.drain()


def fail(*_args: object) -> None:
    raise RuntimeError("a secret of the station's own")


def breaking(gateway: Whole, name: str, event: str, times: int = 1 << 30) -> None:
    """Replaces one hook; `times`: how often it raises before it works again."""
    left = [times]

    def broken(hook: guard.Hook) -> guard.Hook:
        def run(*args: object) -> Any:
            left[0] -= 1
            return fail() if left[0] >= 0 else hook(*args)

        return run

    gateway.guard.table[event] = tuple(
        (station, broken(hook) if station.name == name else hook) for station, hook in gateway.guard.table[event]
    )


async def told(gateway: Whole, name: str, outcome: str) -> None:
    """The last outcome of the evidence log names the station that failed, and nothing of its exception."""
    records = await gateway.evidence()
    last = [record for record in records if record["type"] == "outcome"][-1]
    assert last["outcome"] == outcome and f"station '{name}' failed" in last["reason"], last
    assert "secret of the station" not in str(records)


async def call(gateway: Whole, version: str, kind: str) -> Any:
    if kind == "whole":
        return await gateway.put(version, "/key?tagging", TAGS, streams=False)
    return await gateway.put(version, "/key", b"a body that streams", streams=True)


@MODULE
@VERSIONS
@pytest.mark.parametrize("kind", ["whole", "streamed"])
async def test_the_chain_lets_through_what_it_should(gateway, version, kind):
    """The calls that the other tests break are good ones."""
    answer = await call(gateway, version, kind)
    assert answer.whole and answer.status == 200
    assert [got.whole for got in gateway.upstream.requests] == [True]
    assert (await gateway.get(version, "/key")).body == ANSWER
    assert (await gateway.get(version, "/large")).body == LARGE


@MODULE
@VERSIONS
@pytest.mark.parametrize("kind", ["whole", "streamed"])
@pytest.mark.parametrize(("name", "event"), ON_REQUEST)
async def test_a_request_hook_that_fails(gateway, version, kind, name, event):
    """503 and nothing upstream; once the body streams, 502 and an unterminated body."""
    breaking(gateway, name, event)
    answer = await call(gateway, version, kind)
    assert answer.whole and b"secret of the station" not in answer.body
    if kind == "streamed" and event == "request":
        assert answer.status == 502
        await gateway.upstream.until(lambda: gateway.upstream.open == 0)
        assert [got.whole for got in gateway.upstream.requests] == [False]
        await told(gateway, name, "unknown")
    else:
        assert answer.status == 503
        assert gateway.upstream.bytes == b""
        await told(gateway, name, "refused")


@MODULE
@VERSIONS
@pytest.mark.parametrize("kind", ["whole", "streamed"])
@pytest.mark.parametrize("method", ["sign", "dial"])
async def test_a_signer_that_fails(gateway, version, kind, method):
    """The intent is on disk and nothing has left: the log says that it is not known what came of it."""
    setattr(gateway.guard.signer, method, fail)
    answer = await call(gateway, version, kind)
    assert answer.whole and answer.status == 503 and gateway.upstream.bytes == b""
    await told(gateway, "sign", "unknown")


@MODULE
@VERSIONS
@pytest.mark.parametrize("event", ON_CONNECTION)
@pytest.mark.parametrize("name", ["connect", "identify"])
async def test_a_connection_hook_that_fails(gateway, version, event, name):
    """No tunnel, or a refused call; nothing upstream."""
    if (name, event) not in HOOKS:
        assert name == "identify"
        return
    before = len(await gateway.evidence())
    breaking(gateway, name, event)
    if event == "http_connect":
        async with gateway.tunnel(HOST, status=b"503"):
            pass
        assert "tunnel" in [record["type"] for record in (await gateway.evidence())[before:]]
    else:
        answer = await call(gateway, version, "whole")
        assert answer.whole and answer.status in (403, 502)
        assert "outcome" in [record["type"] for record in (await gateway.evidence())[before:]]
    assert gateway.upstream.bytes == b""


@MODULE
@VERSIONS
@pytest.mark.parametrize("target", ["/key", "/large"])
@pytest.mark.parametrize(("name", "event"), ON_ANSWER)
async def test_an_answer_hook_that_fails(gateway, version, target, name, event):
    """502 without the body; a streamed answer is cut before its end."""
    breaking(gateway, name, event, times=1)
    answer = await gateway.get(version, target)
    assert ANSWER not in answer.body and b"secret of the station" not in answer.body
    if target == "/large" and event == "response":
        assert answer.status == 200 and answer.broken and not answer.whole
        await told(gateway, name, "cut")
    else:
        assert answer.whole and answer.status == 502 and LARGE[:1000] not in answer.body
        await told(gateway, name, "unknown")


@MODULE
@VERSIONS
async def test_a_recorder_that_keeps_failing(gateway, version):
    """Without an outcome on disk the agent does not get the answer; the intent stands alone in the log."""
    breaking(gateway, "record", "response")
    before = len(await gateway.evidence())
    answer = await gateway.get(version, "/key")
    assert answer.whole and answer.status == 502 and ANSWER not in answer.body
    types = [record["type"] for record in (await gateway.evidence())[before:]]
    assert "intent" in types and "outcome" not in types


@MODULE
@VERSIONS
async def test_a_reader_that_fails(gateway, version, monkeypatch):
    """The upload's own callable: upstream has an unterminated body."""
    from flowwarden.signing.upload import Upload

    monkeypatch.setattr(Upload, "__call__", fail)
    answer = await call(gateway, version, "streamed")
    assert answer.whole and answer.status == 502
    await gateway.upstream.until(lambda: gateway.upstream.requests and gateway.upstream.open == 0)
    assert [got.whole for got in gateway.upstream.requests] == [False]
    await told(gateway, "intend", "unknown")


@MODULE
@VERSIONS
async def test_a_masker_that_fails(gateway, version, monkeypatch):
    """The masking stream's own callable: no byte after the failure, and a broken stream."""
    from flowwarden.recording.passed import Passed

    monkeypatch.setattr(Passed, "write", fail)
    answer = await gateway.get(version, "/large")
    assert answer.broken and not answer.whole and answer.body == b""
    await told(gateway, "mask", "cut")


@MODULE
@VERSIONS
@pytest.mark.parametrize(("name", "event"), [hook for hook in HOOKS if hook[1] in ("server_connected", "error")])
async def test_what_is_too_late_harms_nothing(gateway, version, name, event):
    """The call goes its way, and the gateway serves the next one."""
    breaking(gateway, name, event)
    if event == "error":
        async with gateway.client(version) as client:
            target, fields = gateway.head("PUT", "/key", b"body", payload="UNSIGNED-PAYLOAD")
            answer = client.start("PUT", target, fields, length=100)
            client.data(answer, b"some")
            await gateway.upstream.until(lambda: gateway.upstream.requests)
            client.leave(answer)
        await gateway.upstream.until(lambda: gateway.upstream.open == 0)
    assert (await gateway.get(version, "/key")).body == ANSWER


@MODULE
async def test_what_is_told_of_a_refused_tunnel_may_fail_too(gateway):
    """The note is lost; the tunnel stays refused."""
    breaking(gateway, "connect", "tunnel_refused")
    breaking(gateway, "connect", "layer_refused")
    async with gateway.tunnel(HOST, 22, status=b"403"):
        pass
    async with gateway.tunnel(HOST) as (reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9\r\n")
        assert b" 200 " not in await drained(reader)
    assert gateway.upstream.bytes == b""


@MODULE
@VERSIONS
@pytest.mark.parametrize("kind", ["whole", "streamed"])
@pytest.mark.parametrize("name", [station.name for station in STATIONS if station.name != "internal"])
async def test_without_a_station_nothing_passes(gateway, version, kind, name):
    """Each station of the chain is needed."""
    if name == "sign":
        gateway.guard.signer = None
    for event, hooks in list(gateway.guard.table.items()):
        gateway.guard.table[event] = tuple(pair for pair in hooks if pair[0].name != name)
    try:
        if name in proof.ANSWER_STATIONS:
            answer = await gateway.get(version, "/large" if kind == "streamed" else "/key")
            assert answer.broken or answer.status == 502
            assert ANSWER not in answer.body
        else:
            answer = await call(gateway, version, kind) if name != "connect" else await unconnected(gateway, version)
            assert answer.status >= 400 and gateway.upstream.bytes == b""
    finally:
        gateway.guard.signer = next(station for station in gateway.guard.stations if station.name == "sign")  # type: ignore[assignment]


async def unconnected(gateway: Whole, version: str) -> Any:
    target, fields = gateway.head("GET", "/key")
    async with gateway.client(version) as client:
        return await client.ask("GET", target, headers=fields)
