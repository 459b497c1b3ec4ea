"""What the wire asks of the gateway about one flow, answered from its access and proof: the wire's Gate but for hooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import context as proxy_context

from . import access, proof, wire
from . import refusal as refusals
from .errors import Refusal
from .failing import unavailable
from .sockets import Sockets
from .station import Signer, Station
from .wire.memory import Memory

Hook = Callable[..., Any]


def stray(station: str) -> Refusal:
    """The refusal of a request whose stream the wire did not make."""
    why = "this request did not come through the wire"
    return Refusal(why, status=502, code="GatewayRefused", station=station)


class Gatekeeper:
    """The Gate of `wire/gate.py`. `table` has the hooks of each event, in the order of the stations."""

    def __init__(self, stations: Sequence[Station], *, body_limit: int, memory: Memory | None) -> None:
        self.stations = tuple(stations)
        self.body_limit = body_limit
        self.memory = memory or Memory()
        self.table: dict[str, tuple[tuple[Station, Hook], ...]] = {}
        self.sockets = Sockets()
        signers = [station for station in self.stations if isinstance(station, Signer)]
        self.signer = signers[0] if len(signers) == 1 else None

    def unread(self, context: proxy_context.Context) -> None:
        for station, hook in self.table["layer_refused"]:
            try:
                hook(context)
            except BaseException as crash:
                unavailable(station.name, crash)

    def began(self, flow: http.HTTPFlow, credential: str) -> None:
        owner = access.of(flow)
        owner.credential = credential
        owner.wired = True
        owner.gone = asyncio.Event()

    def seal(self, flow: http.HTTPFlow) -> None:
        owner = access.of(flow)
        if owner.refusal is not None:
            raise owner.refusal
        if not owner.wired or self.signer is None:
            raise stray("seal")
        proof.seal(flow)

    def sign(self, flow: http.HTTPFlow) -> http.Request:
        assert self.signer is not None
        try:
            return self.signer.sign(flow)
        except BaseException as crash:
            raise unavailable("sign", crash) from None

    def dial(self, flow: http.HTTPFlow) -> tuple[tuple[str, int], bool]:
        assert self.signer is not None
        try:
            return self.signer.dial(flow)
        except BaseException as crash:
            raise unavailable("sign", crash) from None

    def verdict(self, flow: http.HTTPFlow) -> Refusal | None:
        return access.of(flow).refusal

    def answer(self, flow: http.HTTPFlow, refusal: Refusal) -> http.Response:
        owner = access.of(flow)
        owner.refusal = refusal
        try:
            status, headers, body = refusals.render(refusal, owner.call, owner.request, owner.id)
        except Exception as crash:
            unavailable("refusal", crash)
            status, headers, body = (
                refusal.status,
                ((b"content-type", b"text/plain"),),
                refusal.message.encode("utf-8", "replace"),
            )
        return self.own_answer(flow, http.Response.make(status, body, http.Headers(headers)))

    @staticmethod
    def own_answer(flow: http.HTTPFlow, response: http.Response) -> http.Response:
        """Makes an answer of the gateway's own the flow's answer."""
        flow.response = response
        proof.of(flow).own_answer = response
        return response

    def spool(self, flow: http.HTTPFlow) -> wire.Spool | None:
        owner = access.of(flow)
        return owner.spool if owner.body == "spool" else None

    def may_release(self, flow: http.HTTPFlow) -> bool:
        own = flow.response is not None and proof.of(flow).own_answer is flow.response
        return own or (access.of(flow).refusal is None and proof.may_release(flow))

    def may_stream(self, flow: http.HTTPFlow) -> bool:
        return flow.response is not None and flow.response.stream is proof.of(flow).response_stream

    def may_upgrade(self, flow: http.HTTPFlow) -> bool:
        decision = access.of(flow).decision
        return decision is not None and decision.websocket and not decision.mask

    def opened(self, flow: http.HTTPFlow) -> None:
        self.sockets.opened(flow)

    def refuse(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        owner = access.of(flow)
        owner.refusal = owner.refusal or refusal

    def keep_answer(self, flow: http.HTTPFlow, body: bytes) -> None:
        access.of(flow).raw_answer = body
        assert flow.response is not None
        flow.response.data.content = None

    def behind(self, flow: http.HTTPFlow) -> Future[None] | None:
        owner = access.of(flow)
        kept = (*owner.bodies.values(), owner.spool)
        return next((work for body in kept if body is not None and (work := body.behind) is not None), None)

    def hold(self, flow: http.HTTPFlow, size: int) -> None:
        owner = access.of(flow)
        if owner.share is None:
            owner.share = self.memory.share(owner.session.id if owner.session is not None else "", owner)
        if whose := self.memory.take(owner.share, size):
            why = f"too many large bodies of this {whose} are under way at once: try again"
            raise Refusal(why, status=503, code="SlowDown", station="wire")

    def sent(self, flow: http.HTTPFlow) -> None:
        share, client = access.of(flow).share, flow.client_conn
        if share is not None:
            self.memory.leave(share, lambda: wire.unsent(client))

    def left(self, flow: http.HTTPFlow) -> None:
        gone = access.of(flow).gone
        if gone is not None:
            gone.set()
