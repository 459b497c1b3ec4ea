"""Proof: what each station has to have said about a flow, and the last checks before bytes leave in either direction.

A proof lives in memory only, in the flow's Access. A station speaks for exactly the request it saw: `let_pass` keeps a
snapshot, and the seal compares every snapshot with what is about to leave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import access
from .errors import Refusal

if TYPE_CHECKING:
    from mitmproxy import http

REQUEST_STATIONS = ("connect", "identify", "recognise", "decide", "keep-masks", "approve", "lend", "intend")
ANSWER_STATIONS = ("swap", "mask", "record")
_ON_BODY = REQUEST_STATIONS[1:]  # these judge a whole body when there is one
_ON_SPOOL = REQUEST_STATIONS[3:]  # and these one that was read to disk: the others have judged its head

Snapshot = tuple[Any, ...]


@dataclass(slots=True)
class Proof:
    """What has been said of one flow. `bodies` holds the body objects that stations judged, by station."""

    heads: dict[str, Snapshot] = field(default_factory=dict)
    bodies: dict[str, object] = field(default_factory=dict)
    answers: dict[str, Snapshot] = field(default_factory=dict)
    request_stream: Callable[[bytes], Any] | None = None
    response_stream: Callable[[bytes], Any] | None = None
    own_answer: http.Response | None = None


def of(flow: http.HTTPFlow) -> Proof:
    """The proof of a flow."""
    owner = access.of(flow)
    if owner.proof is None:
        owner.proof = Proof()
    return owner.proof


def snapshot(request: http.Request) -> Snapshot:
    """Everything of a request head that decides where it goes and what it asks for; compared by value."""
    data = request.data
    return (
        data.method,
        data.scheme,
        data.authority,
        data.host,
        data.port,
        data.path,
        data.headers.fields,
        data.http_version,
    )


def let_pass(flow: http.HTTPFlow, station: str) -> None:
    """A request station says: exactly these bytes may pass, as far as I am concerned."""
    proof = of(flow)
    proof.heads[station] = snapshot(flow.request)
    proof.bodies[station] = access.of(flow).spool or flow.request.data.content


def let_out(flow: http.HTTPFlow, station: str) -> None:
    """An answer station says: this answer may go to the agent, as far as I am concerned."""
    if flow.response is not None:
        of(flow).answers[station] = _answer(flow.response)


def _answer(response: http.Response) -> Snapshot:
    data = response.data
    return response, data.status_code, data.headers.fields, data.content


def seal(flow: http.HTTPFlow) -> None:
    """Refuses whatever lacks the word of a request station, or is no longer the request that was judged."""
    proof = of(flow)
    now = snapshot(flow.request)
    content = flow.request.data.content
    streamed = bool(flow.request.stream)
    spool = access.of(flow).spool
    for station in REQUEST_STATIONS:
        head = proof.heads.get(station)
        if head is None:
            raise Refusal(
                f"the gateway's station {station!r} did not let this request pass",
                status=502,
                code="GatewayRefused",
                station="seal",
            )
        if head != now:
            raise Refusal(
                f"the request was changed after the station {station!r} had judged it",
                status=502,
                code="GatewayRefused",
                station="seal",
            )
        if not streamed and station in _ON_BODY and (proof.bodies[station] or b"") != (content or b""):
            raise Refusal(
                f"the station {station!r} has not judged this body", status=502, code="GatewayRefused", station="seal"
            )
        if spool is not None and station in _ON_SPOOL and (proof.bodies[station] is not spool or not spool.sha256):
            raise Refusal(
                f"the station {station!r} has not judged this body", status=502, code="GatewayRefused", station="seal"
            )
    if streamed and (proof.request_stream is None or flow.request.stream is not proof.request_stream):
        raise Refusal(
            "the request streams past the gateway's own reader", status=502, code="GatewayRefused", station="seal"
        )


def may_release(flow: http.HTTPFlow) -> bool:
    """Whether the answer that is on the flow now may reach the agent."""
    response = flow.response
    if response is None or flow not in access.known():
        return False
    proof = of(flow)
    if proof.own_answer is response:
        return True
    return is_masked(flow) and proof.answers.get("record") == _answer(response)


def is_masked(flow: http.HTTPFlow) -> bool:
    """Whether swap and mask let out the answer that is on the flow now."""
    if flow.response is None:
        return False
    proof, now = of(flow), _answer(flow.response)
    swapped = proof.answers.get("swap")
    return swapped is not None and swapped[0] is flow.response and proof.answers.get("mask") == now
