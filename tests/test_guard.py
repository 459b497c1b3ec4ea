"""The guard alone: order, latches, cancellation, and what counts as under way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mitmproxy.test import tflow

from flowwarden import access, proof
from flowwarden.errors import ConfigError, Refusal, StoreError
from flowwarden.failing import guarded, stream_request, stream_response, unavailable, undeliverable
from flowwarden.guard import Guard
from flowwarden.station import Station
from support.harness import At


def wired(**options: Any) -> Any:
    """A flow as the wire makes it."""
    flow = tflow.tflow(**options)
    access.of(flow).wired = True
    return flow


def noting(seen: list[str], name: str, *events: str) -> Station:
    return At(name, **{event: lambda *_args, event=event: seen.append(f"{name}.{event}") for event in events})


async def test_stations_are_asked_in_order():
    seen: list[str] = []
    stations = [noting(seen, name, "requestheaders", "request") for name in ("a", "b", "c")]
    guard, flow = Guard(stations, body_limit=1), wired()
    await guard.requestheaders(flow)
    await guard.request(flow)
    assert seen == [f"{name}.{event}" for event in ("requestheaders", "request") for name in "abc"]


async def test_the_first_refusal_ends_the_questions():
    """Nobody after it is asked, in this hook or the next; the answer is the refusal's."""
    seen: list[str] = []

    def refuse(flow: Any) -> None:
        raise Refusal("no", status=418, code="Teapot", rule="r1")

    stations = [
        noting(seen, "a", "requestheaders"),
        At("b", requestheaders=refuse),
        noting(seen, "c", "requestheaders", "request"),
    ]
    guard, flow = Guard(stations, body_limit=1), wired()
    await guard.requestheaders(flow)
    await guard.request(flow)
    assert seen == ["a.requestheaders"]
    assert flow.response.status_code == 418 and proof.of(flow).own_answer is flow.response
    assert flow.request.stream, "the wire answers on the head"
    assert access.of(flow).refusal.station == "b" and guard.may_release(flow)


async def test_an_answer_of_a_station_ends_the_questions():
    seen: list[str] = []
    answer = At("internal", request=lambda flow: Guard.own_answer(flow, tflow.tresp()))
    guard, flow = Guard([answer, noting(seen, "later", "request")], body_limit=1), wired()
    await guard.request(flow)
    assert seen == [] and guard.may_release(flow)


async def test_without_the_wire_every_request_is_refused():
    seen: list[str] = []
    guard, flow = Guard([noting(seen, "a", "requestheaders", "request")], body_limit=1), tflow.tflow()
    await guard.requestheaders(flow)
    assert seen == [] and flow.response.status_code == 502


async def test_a_hook_that_is_cancelled_from_outside_stays_cancelled():
    """The gateway stops: the call is refused and the cancellation goes on its way."""
    entered = asyncio.Event()

    async def hold(_flow: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    guard, flow = Guard([At("a", request=hold)], body_limit=1), wired()
    task = asyncio.create_task(guard.request(flow))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flow.response.status_code == 503


async def test_a_cancelled_future_inside_a_hook_is_a_failure():
    """The hook's own task goes on: mitmproxy would wait for its end for ever."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()

    async def hold(_flow: Any) -> None:
        await future

    guard, flow = Guard([At("a", request=hold)], body_limit=1), wired()
    await guard.request(flow)
    assert flow.response.status_code == 503 and access.of(flow).refusal.station == "a"


async def test_live_calls_are_counted():
    """The gateway is idle when each call has had its `response` or `error`, also when those fail."""

    def fail(_flow: Any) -> None:
        raise RuntimeError("no")

    guard = Guard([At("record", response=fail, error=fail)], body_limit=1)
    flows = [wired(resp=True), wired(err=True)]
    assert guard.idle.is_set()
    for flow in flows:
        flow.error = None
        await guard.requestheaders(flow)
    assert len(guard.live) == 2 and not guard.idle.is_set()
    await guard.response(flows[0])
    assert not guard.idle.is_set()
    await guard.error(flows[1])
    assert guard.idle.is_set() and not guard.live


async def test_an_answer_of_the_gateways_own_that_cannot_be_recorded_is_withheld():
    """flowwarden.internal's answers count as well: recorded, or replaced by a refusal."""

    def fail(_flow: Any) -> None:
        raise StoreError("the disk is full")

    guard, flow = Guard([At("record", response=fail)], body_limit=1), wired()
    answer = Guard.own_answer(flow, tflow.tresp())
    await guard.response(flow)
    assert flow.response is not answer and flow.response.status_code == 502 and guard.may_release(flow)


async def test_a_refusal_that_cannot_be_recorded_stays_that_refusal():
    def fail(_flow: Any) -> None:
        raise StoreError("the disk is full")

    guard, flow = Guard([At("record", response=fail)], body_limit=1), wired()
    guard.answer(flow, Refusal("no", status=403))
    await guard.response(flow)
    assert flow.response.status_code == 403 and guard.may_release(flow)


def test_a_stream_latches():
    """After its first failure it emits nothing and keeps raising the same refusal; the failure is told once."""
    told: list[Refusal] = []

    def run(data: bytes) -> bytes:
        if data == b"bad":
            raise ValueError("secret")
        return data.upper()

    stream = guarded("mask", run, told.append)
    assert stream(b"a") == b"A"
    for data in (b"bad", b"good", b"", b"good"):
        with pytest.raises(Refusal) as caught:
            stream(data)
        assert caught.value is told[0] and "secret" not in str(caught.value) and caught.value.station == "mask"
    assert len(told) == 1


async def test_a_streams_failure_is_the_flows_refusal():
    def fail(_data: bytes) -> bytes:
        raise RuntimeError("no")

    for begin, message in ((stream_request, "request"), (stream_response, "response")):
        flow = wired(resp=True)
        begin(flow, "station", fail)
        with pytest.raises(Refusal):
            getattr(flow, message).stream(b"x")
        assert access.of(flow).refusal.station == "station"


@pytest.mark.parametrize(
    ("crash", "status"),
    [
        (RuntimeError("secret"), 503),
        (StoreError("disk full"), 503),
        (ConfigError("bad"), 503),
        (Refusal("no", status=418), 418),
    ],
)
def test_what_becomes_of_an_exception(crash, status):
    """Before anything has left: 503, or what a refusal says itself. Only errors that explain themselves are quoted."""
    refusal = unavailable("station", crash)
    assert refusal.status == status and refusal.station == "station" and "secret" not in refusal.message
    assert undeliverable("station", crash).status == (418 if status == 418 else 502)


async def test_every_station_is_told_what_is_too_late():
    seen: list[str] = []

    def fail(*_args: Any) -> None:
        raise RuntimeError("no")

    guard = Guard([At("a", error=fail), noting(seen, "b", "error")], body_limit=1)
    await guard.error(wired(err=True))
    assert seen == ["b.error"]


async def test_the_answer_to_a_refusal_that_cannot_be_rendered(monkeypatch):
    """The refusal gets out all the same, as plain text."""
    from flowwarden import gatekeeper as module

    def fail(*_args: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(module.refusals, "render", fail)
    flow = wired()
    Guard([], body_limit=1).answer(flow, Refusal("why not", status=403))
    assert flow.response.status_code == 403 and flow.response.content == b"why not"


def test_a_refusals_request_id_is_the_flows():
    """What the agent sees as the request's id is what `flowwarden show` takes."""
    flow = wired()
    Guard([], body_limit=1).answer(flow, Refusal("no", status=403))
    assert flow.id in str(flow.response.headers.fields)
