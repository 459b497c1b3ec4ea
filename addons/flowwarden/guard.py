"""The one place where an exception becomes a refusal: dispatch of hooks. What the wire asks is in `gatekeeper.py`.

mitmproxy logs an exception in a hook and forwards the flow. So stations are not mitmproxy addons one by one: `Guard` is
the only addon, it calls the stations' hooks in the order of `chain.py`, and whatever one of them raises is a refusal.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from mitmproxy import connection, http, tls
from mitmproxy.proxy import layer, server_hooks

from . import access, proof, wire
from .errors import Refusal
from .failing import stopping, unavailable, undeliverable
from .gatekeeper import Gatekeeper, stray
from .station import Station
from .wire.memory import Memory

log = logging.getLogger("flowwarden")

Step = tuple[int, Awaitable[None]]  # the place of a station in the table, and what it waits for
Stream = Callable[[bytes], Iterable[bytes] | bytes]


def _unfit(flow: http.HTTPFlow, streams: bool) -> Refusal | None:
    """Why an answer cannot go to the agent as it is, though no station has said so."""
    if not proof.is_masked(flow):
        why = "the answer was not let out by swap and mask"
        return Refusal(why, status=502, code="GatewayRefused", station="seal")
    if not streams and wire.misframed(flow):
        why = "the answer does not have the length that it announces"
        return Refusal(why, status=502, code="BadGateway", station="mask")
    return None


class Guard(Gatekeeper):
    """The chain as one mitmproxy addon, and the wire's Gate."""

    def __init__(self, stations: Sequence[Station], *, body_limit: int, memory: Memory | None = None) -> None:
        super().__init__(stations, body_limit=body_limit, memory=memory)
        self.live: set[str] = set()
        self.idle = asyncio.Event()
        self.idle.set()
        self.inline = False  # set by a master that has no other listener of these hooks
        self._begun: dict[str, Step] = {}
        for event in _EVENTS:
            found = [(station, getattr(station, event)) for station in self.stations if hasattr(station, event)]
            self.table[event] = tuple(found)

    # -- connections ----------------------------------------------------------------------------------------------

    async def client_connected(self, client: connection.Client) -> None:
        try:
            await self._call("client_connected", client)
        except BaseException as crash:
            client.error = unavailable("connect", crash).message
            if stopping(crash):
                raise

    async def client_disconnected(self, client: connection.Client) -> None:
        await self._note("client_disconnected", client)

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        try:
            await self._call("http_connect", flow)
        except BaseException as crash:
            why = unavailable("connect", crash)
            headers = {"content-type": "text/plain", "x-flowwarden-station": why.station}
            if why.status == 407:
                headers["proxy-authenticate"] = 'Basic realm="flowwarden"'
            flow.response = http.Response.make(why.status, why.message + "\n", headers)
            access.of(flow).refusal = why
            await self._note("tunnel_refused", flow)

    async def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        try:
            await self._call("tls_clienthello", data)
        except BaseException as crash:
            access.tunnel(data.context.client).refused = unavailable("connect", crash).message
            if stopping(crash):
                raise

    def next_layer(self, data: layer.NextLayer) -> None:
        try:
            known = wire.install(data, self)
        except Exception as crash:
            unavailable("wire", crash)
            data.layer = wire.ClosedLayer(data.context)
            known = False
        if not known:
            self.unread(data.context)

    async def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        try:
            await self._call("server_connect", data)
        except BaseException as crash:
            data.server.error = unavailable("connect", crash).message
            if stopping(crash):
                raise

    async def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        await self._note("server_connected", data)

    async def server_connect_error(self, data: server_hooks.ServerConnectionHookData) -> None:
        await self._note("server_connect_error", data)

    # -- flows ----------------------------------------------------------------------------------------------------

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        await self._finish("requestheaders", flow, self._begun.pop(flow.id, None) or self._begin_head(flow))

    async def request(self, flow: http.HTTPFlow) -> None:
        await self._finish("request", flow, self._judge("request", flow))

    async def responseheaders(self, flow: http.HTTPFlow) -> None:
        step = self._begun.pop(flow.id, None) or self._head_back(flow)
        while step is not None:
            index, made = step
            try:
                await made
            except BaseException as crash:
                access.of(flow).refusal = undeliverable(self.table["responseheaders"][index][0].name, crash)
                if stopping(crash):
                    raise
                return
            step = self._head_back(flow, index + 1)

    def at_once(self, event: str, flow: http.HTTPFlow) -> bool:
        """Runs a hook here and now, as far as no station has to wait. False: mitmproxy has to run the hook, which goes on.

        A hook as mitmproxy runs it costs a task, and a walk of its completion through every layer of the connection.
        """
        if not self.inline:
            return False
        step = self._begin_head(flow) if event == "requestheaders" else self._head_back(flow)
        if step is not None:
            self._begun[flow.id] = step
        return step is None

    def _begin_head(self, flow: http.HTTPFlow) -> Step | None:
        self.live.add(flow.id)
        self.idle.clear()
        if why := access.tunnel(flow.client_conn).refused:
            self.answer(flow, Refusal(why, station="connect"))
        return self._judge("requestheaders", flow) if flow.error is None else None

    async def _finish(self, event: str, flow: http.HTTPFlow, step: Step | None) -> None:
        """Waits for the station that has to wait, then asks those behind it."""
        while step is not None:
            index, made = step
            try:
                await made
            except BaseException as crash:
                self._refuse_request(event, flow, self.table[event][index][0], crash)
                if stopping(crash):
                    raise
            step = self._judge(event, flow, index + 1)

    def _judge(self, event: str, flow: http.HTTPFlow, start: int = 0) -> Step | None:
        """Asks the request stations in order; the first refusal ends it. Gives the first that has to wait."""
        owner = access.of(flow)
        if not owner.wired:
            self.answer(flow, stray("wire"))
            return None
        table = self.table[event]
        for index in range(start, len(table)):
            if owner.refusal is not None or flow.response is not None:
                break
            station, hook = table[index]
            try:
                made = hook(flow)
                if made is not None:
                    return index, made
            except BaseException as crash:
                self._refuse_request(event, flow, station, crash)
                if stopping(crash):
                    raise
        if flow.response is not None and event == "requestheaders":
            flow.request.stream = True  # the wire then answers on the head
        return None

    def _refuse_request(self, event: str, flow: http.HTTPFlow, station: Station, crash: BaseException) -> None:
        late = event == "request" and callable(flow.request.stream)
        why = (undeliverable if late else unavailable)(station.name, crash)
        if callable(flow.request.stream):
            access.of(flow).refusal = why  # the body is on its way: the wire asks for the verdict and cuts
        else:
            self.answer(flow, why)

    def _head_back(self, flow: http.HTTPFlow, start: int = 0) -> Step | None:
        if flow.response is proof.of(flow).own_answer:
            return None
        table = self.table["responseheaders"]
        for index in range(start, len(table)):
            station, hook = table[index]
            try:
                made = hook(flow)
                if made is not None:
                    return index, made
            except BaseException as crash:
                access.of(flow).refusal = undeliverable(station.name, crash)
                if stopping(crash):
                    raise
                return None
        return None

    async def response(self, flow: http.HTTPFlow) -> None:
        """Swap, mask, record. A failure of the first two is recorded as the refusal that the agent gets."""
        owner = access.of(flow)
        answer = flow.response
        own = answer is proof.of(flow).own_answer
        if owner.refusal is not None and answer is not None and not own and not callable(answer.stream):
            self.answer(flow, owner.refusal)  # what let it pass has ended meanwhile
        for station, hook in self.table["response"]:
            own = flow.response is proof.of(flow).own_answer
            streams = not own and flow.response is not None and callable(flow.response.stream)
            if station.name == "record" and not own and owner.refusal is None and (unfit := _unfit(flow, streams)):
                owner.refusal = unfit  # said before it is recorded, so that the record is what the agent sees
                if not streams:
                    own = self.answer(flow, unfit) is flow.response
            if owner.refusal is not None and streams:
                break  # the wire cuts it, and `error` records that
            if station.name != "record" and (own or owner.refusal is not None):
                continue
            try:
                made = hook(flow)
                if made is not None:
                    await made
            except BaseException as crash:
                why = undeliverable(station.name, crash)
                if not streams and (station.name != "record" or (own and owner.refusal is None)):
                    self.answer(flow, why)
                owner.refusal = owner.refusal or why
                if stopping(crash):
                    raise
        if flow.websocket is None:
            self._done(flow)

    async def error(self, flow: http.HTTPFlow) -> None:
        await self._note("error", flow)
        if (share := access.of(flow).share) is not None:
            self.memory.release(share)
        self._done(flow)

    async def websocket_message(self, flow: http.HTTPFlow) -> None:
        """A message that a station does not let pass is dropped, and the wire then closes both sides."""
        owner = access.of(flow)
        assert flow.websocket is not None
        message = flow.websocket.messages[-1]
        try:
            if owner.refusal is None:
                await self._call("websocket_message", flow)
        except BaseException as crash:
            owner.refusal = unavailable("record", crash)
            if stopping(crash):
                raise
        if owner.refusal is not None:
            message.drop()

    async def websocket_end(self, flow: http.HTTPFlow) -> None:
        """The outcome is on disk, or the close does not go out."""
        owner = access.of(flow)
        try:
            await self._call("websocket_end", flow)
        except BaseException as crash:
            owner.refusal = owner.refusal or undeliverable("record", crash)
            if stopping(crash):
                raise
        finally:
            self.sockets.ended(flow)
            self._done(flow)

    # -- plumbing -------------------------------------------------------------------------------------------------

    async def _call(self, event: str, *args: Any) -> None:
        for _station, hook in self.table[event]:
            made = hook(*args)
            if inspect.isawaitable(made):
                await made

    async def _note(self, event: str, *args: Any) -> None:
        """For events where it is too late to refuse: every station is told, whatever another raises."""
        for station, hook in self.table[event]:
            try:
                made = hook(*args)
                if inspect.isawaitable(made):
                    await made
            except BaseException as crash:
                unavailable(station.name, crash)
                if stopping(crash):
                    raise

    def _done(self, flow: http.HTTPFlow) -> None:
        waiting, access.of(flow).at_end = access.of(flow).at_end, []
        for call in waiting:
            try:
                call(flow)
            except BaseException as crash:
                unavailable("approve", crash)
        self.live.discard(flow.id)
        if not self.live:
            self.idle.set()


_EVENTS = (
    "client_connected",
    "client_disconnected",
    "http_connect",
    "tunnel_refused",
    "layer_refused",
    "tls_clienthello",
    "server_connect",
    "server_connected",
    "server_connect_error",
    "requestheaders",
    "request",
    "responseheaders",
    "response",
    "error",
    "websocket_message",
    "websocket_end",
)
