"""The proof: what each station said, compared with what is about to leave. (In a real proxy: tests/wire.)"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.test import tflow

from flowwarden import access, proof
from flowwarden.errors import Refusal


def judged(**options: Any) -> http.HTTPFlow:
    """A flow that every request station let pass."""
    flow = tflow.tflow(**options)
    for station in proof.REQUEST_STATIONS:
        proof.let_pass(flow, station)
    return flow


def test_what_everybody_let_pass_leaves():
    proof.seal(judged())


@pytest.mark.parametrize("missing", proof.REQUEST_STATIONS)
def test_each_word_is_needed(missing):
    flow = tflow.tflow()
    for station in proof.REQUEST_STATIONS:
        if station != missing:
            proof.let_pass(flow, station)
    with pytest.raises(Refusal, match=missing):
        proof.seal(flow)


@pytest.mark.parametrize("station", proof.REQUEST_STATIONS)
def test_each_word_is_for_one_head(station):
    """A station that saw another head, whichever it is, has not judged this one."""
    flow = judged()
    flow.request.path = "/other"
    for other in proof.REQUEST_STATIONS:
        if other != station:
            proof.let_pass(flow, other)
    with pytest.raises(Refusal, match=station):
        proof.seal(flow)


@pytest.mark.parametrize("station", proof.REQUEST_STATIONS[1:])
@pytest.mark.parametrize("content", [b"", b"other", None], ids=repr)
def test_each_word_is_for_one_body(station, content):
    flow = judged()
    flow.request.data.content = content
    for other in proof.REQUEST_STATIONS:
        if other != station:
            proof.let_pass(flow, other)
    with pytest.raises(Refusal, match=station):
        proof.seal(flow)


def test_a_proof_is_not_on_the_flow():
    """A recording that is loaded again, or a copy, has no proof: metadata and state know nothing of it."""
    flow = judged(resp=True)
    for station in proof.ANSWER_STATIONS:
        proof.let_out(flow, station)
    assert proof.may_release(flow) and flow.metadata == {}
    again = [flow.copy(), http.HTTPFlow.from_state(flow.get_state())]
    for other in again:
        with pytest.raises(Refusal):
            proof.seal(other)
        assert not proof.may_release(other)


def test_a_proof_goes_with_its_flow():
    flow = judged()
    gone = weakref.ref(access.of(flow))
    del flow
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("missing", proof.ANSWER_STATIONS)
def test_each_answer_station_is_needed(missing):
    flow = tflow.tflow(resp=True)
    for station in proof.ANSWER_STATIONS:
        if station != missing:
            proof.let_out(flow, station)
    assert not proof.may_release(flow)


@pytest.mark.parametrize(
    "change",
    [
        lambda flow: setattr(flow, "response", flow.response.copy()),
        lambda flow: setattr(flow.response, "raw_content", b"unmasked"),
        lambda flow: flow.response.headers.add("x-secret", "1"),
        lambda flow: setattr(flow.response, "status_code", 201),
    ],
)
def test_an_answer_stays_as_it_was_let_out(change):
    flow = tflow.tflow(resp=True)
    for station in proof.ANSWER_STATIONS:
        proof.let_out(flow, station)
    assert proof.may_release(flow)
    change(flow)
    assert not proof.may_release(flow)


def test_without_an_answer_nothing_is_released():
    flow = tflow.tflow()
    proof.let_out(flow, "mask")
    assert not proof.may_release(flow)


@pytest.mark.parametrize("stream", [True, lambda data: data])
def test_only_the_guards_reader_may_stream(stream):
    flow = judged()
    flow.request.stream = stream
    with pytest.raises(Refusal, match="streams past"):
        proof.seal(flow)
