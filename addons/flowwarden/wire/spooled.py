"""A body that is read to the gateway's disk before it is judged, and then sent from there at upstream's pace."""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpLayer,
    HttpRequestHook,
    HttpResponseHeadersHook,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    SendHttp,
)
from mitmproxy.proxy.layers.http._http2 import Http2Client

from ..errors import Refusal
from .answer import AnswerStream, chunks
from .gate import Commands, Spool


class NextBlock(commands.RequestWakeup):
    """Asks the connection's handler for the next block of a spool, once what was sent before it is on its way."""

    def __init__(self, spool: Spool, waiting: Callable[[], int]) -> None:
        """`waiting`: bytes of blocks before it that wait for a window of upstream's."""
        super().__init__(0)
        self.spool = spool
        self.waiting = waiting
        self.block: bytes | None = None
        self.failed: Exception | None = None

    async def read(self) -> None:
        """Fills `block` or `failed`."""
        try:
            self.block = await self.spool.read()
        except Exception as error:
            self.failed = error


class SpooledStream(AnswerStream):
    """What of a stream concerns a request's body that waits on disk; `WireStream` adds the rest."""

    _up_to_go: int | None
    _up_tail: tuple[bytes, ...]

    def forward(self, chunk: bytes) -> Commands:
        """Sends a chunk upstream, but for what completes the announced length."""
        raise NotImplementedError

    def send_continue(self) -> Commands:
        raise NotImplementedError

    def trailers(self) -> Refusal:
        raise NotImplementedError

    def start_spool(self) -> Commands:
        """The call is not denied, and what it would do has to be read first: the client may send."""
        self.client_state = self.state_spool_request_body
        yield from self.send_continue()

    def state_spool_request_body(self, event: events.Event) -> Commands:
        spool = self.gate.spool(self.flow)
        assert spool is not None
        if isinstance(event, RequestData):
            spool.write(event.data)
            yield from self.kept_up()
        elif isinstance(event, RequestTrailers):
            raise self.trailers()
        elif isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_forward_spool
            yield HttpRequestHook(self.flow)  # held here
            if (yield from self.check_killed(True)):
                return
            if refusal := self.gate.verdict(self.flow):
                raise refusal
            if self.flow.response:
                self.client_state = self.state_done
                yield HttpResponseHeadersHook(self.flow)
                yield from self.send_response()
            elif (yield from self.make_server_connection()):
                yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, False), self.context.server)
                yield NextBlock(spool, self._in_windows)

    def _in_windows(self) -> int:
        """Bytes that an upstream of HTTP/2 has not let come yet; they are no socket's."""
        server, outer = self.context.server, self.context.layers[-2]
        if not server.connected or not isinstance(outer, HttpLayer) or server not in outer.connections:
            return 0
        leaf = outer.connections[server].context.layers[-1]
        if not isinstance(leaf, Http2Client):
            return 0
        return sum(len(chunk.data) for buffer in leaf.h2_conn.stream_buffers.values() for chunk in buffer)

    def state_forward_spool(self, event: events.Event) -> Commands:
        """Nothing comes from the client any more."""
        yield from ()

    def block_came(self, event: NextBlock) -> Commands:
        """The next block of the body on its way up; the last bytes leave when all of it is known to be what was judged."""
        if self.client_state != self.state_forward_spool:
            return  # cut, or answered before it was complete
        if event.failed is not None:
            raise event.failed
        assert event.block is not None
        for chunk in chunks(self.flow.request.stream, event.block):
            yield from self.forward(chunk)
        if event.block:
            yield from self.kept_up()
            yield NextBlock(event.spool, self._in_windows)
            return
        if self._up_to_go:
            raise Refusal("the body is shorter than announced", status=400, code="IncompleteBody", station="wire")
        if refusal := self.gate.verdict(self.flow):
            raise refusal
        self.client_state = self.state_done
        for chunk in self._up_tail:
            yield SendHttp(RequestData(self.stream_id, chunk), self.context.server)
        yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)

    def done_early(self) -> Commands:
        if self.client_state != self.state_forward_spool:
            yield from super().done_early()
            return
        self.client_state = self.state_done
        error = RequestProtocolError(self.stream_id, "answered before the body was complete", ErrorCode.CANCEL)
        yield SendHttp(error, self.context.server)
        yield from self.flow_done()
