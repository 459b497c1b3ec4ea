"""The seal: whatever lacks the word of a station, or is not what was judged, does not leave."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mitmproxy import http

from flowwarden import proof
from support.harness import At, after, running, without

VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])
BOTH = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])


async def refused(proxy, version: str, status: int, why: str, body: bytes = b"body") -> None:
    """The agent has the refusal, upstream has nothing, the recorder has one outcome that says so."""
    async with proxy.client(version) as client:
        got = await client.ask("PUT", "/a", body)
    assert got.whole and got.status == status
    assert why in got.body.decode()
    assert proxy.upstream.bytes == b""
    assert len(await proxy.recording.until()) == 1
    assert proxy.recording.outcomes[0].startswith(str(status)) and why in proxy.recording.outcomes[0]


@VERSIONS
@BOTH
@pytest.mark.parametrize("name", proof.REQUEST_STATIONS)
async def test_without_a_station_nothing_leaves(version, streams, name):
    """The word of every request station is needed."""
    async with running(streams_request=streams, change=without(name)) as proxy:
        await refused(proxy, version, 502, f"the gateway's station '{name}' did not let this request pass")


def _changes() -> dict[str, Callable[[http.HTTPFlow], None]]:
    def change(attribute: str, value: object) -> Callable[[http.HTTPFlow], None]:
        return lambda flow: setattr(flow.request, attribute, value)

    return {
        "method": change("method", "DELETE"),
        "path": change("path", "/b"),
        "host": change("host", "other.example.com"),
        "port": change("port", 8443),
        "scheme": change("scheme", "http"),
        "authority": change("authority", "other.example.com"),
        "version": change("http_version", "HTTP/1.0"),
        "header changed": lambda flow: flow.request.headers.__setitem__("content-length", "3"),
        "header added": lambda flow: flow.request.headers.add("x-amz-tagging", "a=b"),
        "header twice": lambda flow: flow.request.headers.add("content-length", "4"),
        "another request": lambda flow: setattr(
            flow, "request", http.Request.make("GET", "https://other.example.com/")
        ),
    }


@VERSIONS
@BOTH
@pytest.mark.parametrize("what", list(_changes()))
async def test_a_head_changed_after_it_was_judged_does_not_leave(version, streams, what):
    """What leaves is what was judged: the seal compares every part of the head with what each station saw."""
    event = "requestheaders" if streams else "request"
    meddler = At("meddler", **{event: _changes()[what]})
    async with running(streams_request=streams, change=after("intend", meddler)) as proxy:
        await refused(proxy, version, 502, "the request was changed after")


@VERSIONS
@pytest.mark.parametrize("content", [b"BODY", b"", b"body and more", None], ids=repr)
async def test_a_body_changed_after_it_was_judged_does_not_leave(version, content):
    """A whole body is part of what was judged, also when it is taken away."""
    meddler = At("meddler", request=lambda flow: setattr(flow.request.data, "content", content))
    async with running(change=after("intend", meddler)) as proxy:
        await refused(proxy, version, 502, "has not judged this body")


@VERSIONS
async def test_a_station_that_judged_the_head_only_does_not_vouch_for_a_body(version):
    """A word spoken at `requestheaders` is none for a body that was read whole afterwards."""
    hasty = At("decide", requestheaders=lambda flow: proof.let_pass(flow, "decide"))

    def change(stations):
        return [hasty if station.name == "decide" else station for station in stations]

    async with running(change=change) as proxy:
        await refused(proxy, version, 502, "the station 'decide' has not judged this body")


@VERSIONS
@pytest.mark.parametrize("stream", [True, lambda data: data], ids=["True", "callable"])
async def test_a_request_that_somebody_lets_stream_does_not_leave(version, stream):
    """Only the guard's own callable reads a streamed body; mitmproxy would let it pass unseen."""
    meddler = At("meddler", requestheaders=lambda flow: setattr(flow.request, "stream", stream))
    async with running(change=after("intend", meddler)) as proxy:
        await refused(proxy, version, 502, "did not let this request pass")


@VERSIONS
async def test_a_foreign_reader_in_place_of_the_guards_does_not_leave(version):
    """The callable that was judged is the one that has to be there."""
    meddler = At("meddler", requestheaders=lambda flow: setattr(flow.request, "stream", lambda data: data))
    async with running(streams_request=True, change=after("intend", meddler)) as proxy:
        await refused(proxy, version, 502, "the request streams past the gateway's own reader")


@VERSIONS
@BOTH
async def test_without_the_signer_nothing_leaves(version, streams):
    async with running(streams_request=streams, change=without("sign")) as proxy:
        await refused(proxy, version, 502, "this request did not come through the wire")


@VERSIONS
@BOTH
@pytest.mark.parametrize("method", ["sign", "dial"])
async def test_a_signer_that_fails_is_a_refusal(version, streams, method):
    """An exception at the last step leaves no byte upstream."""

    def fail(flow: http.HTTPFlow):
        raise RuntimeError("no key")

    async with running(streams_request=streams) as proxy:
        setattr(proxy.guard.signer, method, fail)
        await refused(proxy, version, 503, "the gateway's station 'sign' failed")


@VERSIONS
@BOTH
async def test_the_seal_is_checked_again_when_the_connection_is_open(version, streams):
    """Dialling takes time; what happens meanwhile counts."""
    flows: list[http.HTTPFlow] = []
    notes = At(
        "meddler", requestheaders=flows.append, server_connect=lambda data: setattr(flows[0].request, "path", "/b")
    )
    async with running(streams_request=streams, change=after("intend", notes)) as proxy:
        await refused(proxy, version, 502, "the request was changed after")


@VERSIONS
async def test_a_refusal_spoken_while_dialling_counts(version):
    def fail(data):
        raise RuntimeError("no")

    async with running(change=after("intend", At("meddler", server_connect=fail))) as proxy:
        await refused(proxy, version, 502, "the gateway cannot reach")


@VERSIONS
@pytest.mark.parametrize("content", [b"amended", b"", b"bo"], ids=repr)
async def test_a_signed_copy_whose_body_does_not_fit_does_not_leave(version, content):
    """More bytes than announced would be another request, fewer would leave upstream waiting."""
    async with running() as proxy:
        real = proxy.guard.signer.sign

        def sign(flow: http.HTTPFlow) -> http.Request:
            signed = real(flow)
            signed.data.content = content
            return signed

        proxy.guard.signer.sign = sign
        await refused(proxy, version, 502, "does not have the body that it announces")


@VERSIONS
async def test_a_signed_copy_may_carry_another_body(version):
    """The gateway may ask for more than the agent did; the flow keeps the agent's own words."""
    async with running() as proxy:
        real = proxy.guard.signer.sign

        def sign(flow: http.HTTPFlow) -> http.Request:
            signed = real(flow)
            signed.content = b"amended"
            return signed

        proxy.guard.signer.sign = sign
        kept = []
        proxy.recording.on_flow = lambda flow: kept.append(flow.request.raw_content)
        async with proxy.client(version) as client:
            assert (await client.ask("PUT", "/a", b"body")).status == 200
        assert proxy.upstream.requests[0].body == b"amended" and kept == [b"body"]
