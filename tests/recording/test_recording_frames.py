"""Frames: what the direct encoder writes is what stock mitmproxy reads."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import flow as mflow
from mitmproxy import http, version
from mitmproxy.io import FlowReader, FlowWriter, tnetstring
from mitmproxy.test import tflow

from flowwarden.errors import StoreError
from flowwarden.recording.frames import decode, encode, flow_id, whole_frames

headers = st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=30)), max_size=5).map(tuple)
body = st.none() | st.binary(max_size=300)
times = st.none() | st.floats(0, 2e9, allow_nan=False) | st.integers(0, 2**31)


@st.composite
def flows(draw):
    flow = tflow.tflow(resp=draw(st.booleans()), err=draw(st.booleans()), ws=draw(st.booleans()))
    flow.request.data.headers = http.Headers(draw(headers))
    flow.request.data.content = draw(body)
    flow.request.data.path = draw(st.binary(max_size=40))
    flow.request.data.method = draw(st.binary(max_size=8))
    flow.request.data.host = draw(st.text(max_size=20).filter(lambda s: s.isascii()))
    flow.request.data.timestamp_end = draw(times)
    flow.request.data.trailers = draw(st.none() | headers.map(http.Headers))
    flow.is_replay = draw(st.none() | st.just("request"))
    flow.server_conn.timestamp_end = draw(times)
    flow.server_conn.sni = draw(st.none() | st.just("host.example"))
    if flow.response:
        flow.response.data.headers = http.Headers(draw(headers))
        flow.response.data.content = draw(body)
        flow.response.data.status_code = draw(st.integers(100, 599))
    flow.marked = draw(st.sampled_from(["", ":red_circle:"]))
    flow.comment = draw(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
    flow.metadata = draw(
        st.dictionaries(st.text("abc", max_size=3), st.integers() | st.text("äx", max_size=4), max_size=2)
    )
    return flow


@given(flows())
@settings(max_examples=200)
def test_read_back_equal_by_stock_mitmproxy(flow):
    """The frame is, state by state, what mitmproxy's own writer would have written of the same flow."""
    frame = encode(
        flow,
        request_body=flow.request.data.content,
        response_body=flow.response.data.content if flow.response else None,
        metadata=flow.metadata,
        comment=flow.comment,
        marked=flow.marked,
    )
    stock = io.BytesIO()
    FlowWriter(stock).add(flow)
    assert tnetstring.loads(frame) == tnetstring.loads(stock.getvalue())
    (read,) = FlowReader(io.BytesIO(frame)).stream()
    assert read.get_state() == flow.get_state()


def test_masked_forms_stand_in_for_the_flows_own():
    """Nothing of the flow's own headers, bodies, path, metadata or backup is in a frame that was given others."""
    flow = tflow.tflow(resp=True)
    secret = b"do-not-record"
    flow.request.headers["x"] = flow.response.headers["x"] = secret.decode()
    flow.request.content = flow.response.content = secret
    flow.request.path = "/" + secret.decode()
    flow.request.trailers = flow.response.trailers = http.Headers(x=secret.decode())
    flow.metadata["proxyauth"] = secret.decode()
    flow.backup()
    frame = encode(
        flow,
        request_headers=((b"a", b"b"),),
        response_headers=(),
        request_body=b"1",
        response_body=None,
        request_path=b"/x",
    )
    assert secret not in frame
    state = decode(frame)
    assert state["request"]["headers"] == [[b"a", b"b"]]
    assert state["request"]["content"] == b"1"
    assert state["response"]["content"] is None
    given = encode(flow, request_headers=(), response_headers=(), response_trailers=((b"t", b"v"),), request_path=b"/")
    assert decode(given)["response"]["trailers"] == [[b"t", b"v"]]


def test_a_connection_that_changes_is_written_anew():
    """Cached bytes of a connection are not used once it has changed."""
    flow = tflow.tflow(resp=True)
    flow.server_conn.timestamp_end = None
    before = decode(encode(flow))
    flow.server_conn.timestamp_end = 7.0
    flow.server_conn.error = "gone"
    after = decode(encode(flow))
    assert before["server_conn"]["timestamp_end"] is None
    assert (after["server_conn"]["timestamp_end"], after["server_conn"]["error"]) == (7.0, "gone")
    assert after["server_conn"] == tnetstring.loads(tnetstring.dumps(flow.server_conn.get_state()))


def test_error_and_odd_metadata():
    flow = tflow.tflow(err=True)
    flow.error = mflow.Error("boom", 3.0)
    state = decode(encode(flow, metadata={"x": object}, comment="\ud800"))
    assert state["error"] == {"msg": "boom", "timestamp": 3.0}


def test_format_is_the_installed_mitmproxys():
    """A mitmproxy of another flow format needs another encoder."""
    assert version.FLOW_FORMAT_VERSION == 21


@given(st.binary(max_size=60))
def test_broken_frames_raise_store_errors_only(data):
    assert list(whole_frames(data)) == [] or data[-1:] is not None
    assert flow_id(data) == ""
    with pytest.raises(StoreError):
        decode(data)


def test_whole_frames_ends_at_the_torn_one():
    frames = [encode(tflow.tflow(resp=True)) for _ in range(3)]
    data = b"".join(frames)
    ends = [end for _, end in whole_frames(data)]
    assert ends == [len(frames[0]), len(frames[0]) * 2, len(data)] or len(ends) == 3
    for cut in range(1, len(frames[2]), 97):
        assert len(list(whole_frames(data[:-cut]))) == 2
