"""The layers beneath the addons: seal and sign where a request leaves, answer at once, cut, hold the tail, dial.

The only file that touches `mitmproxy.proxy.layers`. It subclasses mitmproxy's HTTP layers (pinned to 12.2.*) and is
installed from the `next_layer` hook. It decides nothing: every question goes to the `Gate`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

from mitmproxy import flow as mflow
from mitmproxy import http
from mitmproxy.net.http.http1 import expected_http_body_size
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import ClientTLSLayer, HttpLayer, ServerTLSLayer
from mitmproxy.proxy.layers.http import (
    DropStream,
    ErrorCode,
    GetHttpConnection,
    HttpErrorHook,
    HttpRequestHook,
    HttpResponseHook,
    HttpStream,
    ReceiveHttp,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
    SendHttp,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server, make_error_response
from mitmproxy.proxy.layers.http._http2 import Http2Server
from mitmproxy.websocket import WebSocketData

from .errors import Refusal

HEAD_LIMIT = 64 * 1024  # bytes of an HTTP/1 head, either direction
HEAD_SECONDS = 30.0  # from a head's first byte to its last

_PROXY_HEADERS = ("proxy-authorization", "proxy-connection")
Commands = layer.CommandGenerator[Any]


class Gate(Protocol):
    """What the wire asks of the gateway. Every method that may refuse raises `Refusal`."""

    body_limit: int

    def began(self, flow: http.HTTPFlow, credential: str) -> None:
        """A request head has arrived on a stream of the wire; `credential` is its own Proxy-Authorization."""

    def seal(self, flow: http.HTTPFlow) -> None:
        """Refuses unless every station let exactly this request pass."""

    def sign(self, flow: http.HTTPFlow) -> http.Request:
        """The signed copy that goes on the wire."""

    def dial(self, flow: http.HTTPFlow) -> tuple[tuple[str, int], bool]:
        """Address and TLS of the connection that this request takes."""

    def verdict(self, flow: http.HTTPFlow) -> Refusal | None:
        """A refusal that a hook has spoken since the head passed."""

    def answer(self, flow: http.HTTPFlow, refusal: Refusal) -> http.Response:
        """The refusal in the protocol's own form; it becomes the flow's answer."""

    def may_release(self, flow: http.HTTPFlow) -> bool:
        """Whether swap, mask and record let this answer go to the agent."""

    def may_stream(self, flow: http.HTTPFlow) -> bool:
        """Whether the answer's stream callable is the guard's own."""

    def may_upgrade(self, flow: http.HTTPFlow) -> bool:
        """Whether a WebSocket is allowed here."""

    def keep_answer(self, flow: http.HTTPFlow, body: bytes) -> None:
        """Takes a whole answer as it came; the flow itself gets it only when it was swapped and masked."""

    def left(self, flow: http.HTTPFlow) -> None:
        """The client left before its answer was complete."""


class WireStream(HttpStream):
    """One request and its answer."""

    gate: Gate
    outbound: http.Request | None = None  # the signed copy, set for the moment in which the head leaves
    sent_upstream = False
    _refused = False
    _flow: http.HTTPFlow | None = None
    _credential = ""
    _expects = False
    _upstream_answer: http.Response | None = None
    _to_go: int | None = None  # bytes of a streamed answer until its Content-Length is reached
    _tail: tuple[bytes, ...] = ()

    @property
    def flow(self) -> http.HTTPFlow:
        assert self._flow is not None
        return self._flow

    @flow.setter
    def flow(self, value: http.HTTPFlow) -> None:
        self._flow = value
        self.gate.began(value, self._credential)

    # -- faults ---------------------------------------------------------------------------------------------------

    def handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, RequestProtocolError) and self._flow is not None:
            self.gate.left(self._flow)  # at once, also while a hook holds this stream
        yield from super().handle_event(event)

    def _handle_event(self, event: events.Event) -> Commands:
        """mitmproxy logs an exception in a layer and goes on with the next event; here it ends the stream."""
        if self._refused and isinstance(event, _FROM_UPSTREAM):
            return  # the agent has its refusal; what upstream still says is nobody's
        try:
            yield from super()._handle_event(event)
        except Refusal as refusal:
            yield from self.refuse(refusal)
        except Exception as crash:
            why = f"{type(crash).__name__} in the gateway"
            yield from self.refuse(Refusal(why, status=502, code="GatewayError", station="wire"))

    def refuse(self, refusal: Refusal) -> Commands:
        """Answers with a refusal while the answer's head is not out, else cuts; upstream is cut in both cases."""
        if self.client_state == self.state_errored or self._flow is None:
            return
        if self._refused:
            yield from self.cut(refusal.message)
            return
        self._refused = True
        if self.sent_upstream and not (self.client_state == self.state_done and self.server_state == self.state_done):
            yield SendHttp(RequestProtocolError(self.stream_id, refusal.message, ErrorCode.CANCEL), self.context.server)
        head_is_out = self.server_state in (self.state_stream_response_body, self.state_done)
        if head_is_out:
            yield from self.cut(refusal.message)
        else:
            self.gate.answer(self.flow, refusal)
            yield from self.answer_at_once()

    def cut(self, why: str) -> Commands:
        """Ends the stream towards the client without its last byte, and lets the recorder know."""
        self.client_state = self.server_state = self.state_errored
        self.flow.error = mflow.Error(why)
        self.flow.live = False
        yield HttpErrorHook(self.flow)
        yield SendHttp(ResponseProtocolError(self.stream_id, why, ErrorCode.KILL), self.context.client)
        yield DropStream(self.stream_id)

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> Commands:
        """An upstream that fails before its answer's head is out is told to the agent in the protocol's own form."""
        waiting = (self.state_wait_for_response_headers, self.state_consume_response_body)
        if isinstance(event, ResponseProtocolError) and self.sent_upstream and self.server_state in waiting:
            why = f"upstream failed, and whether it has carried out the call is unknown: {event.message}"
            self.sent_upstream = False
            raise Refusal(why, status=502, code="UpstreamFailed", station="wire")
        yield from super().handle_protocol_error(event)

    def answer_at_once(self) -> Commands:
        """Sends the flow's answer now, whatever of the request's body has not come yet; that is read and dropped."""
        body_is_in = self.client_state == self.state_done
        if not body_is_in:
            self.client_state = self.state_discard_request_body
        self.request_body_buf.clear()
        self.flow.request.timestamp_end = self.flow.request.timestamp_end or time.time()
        yield from self.send_response()
        if self.client_state == self.state_discard_request_body:
            self.flow.live = False
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def state_discard_request_body(self, event: events.Event) -> Commands:
        if isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            yield DropStream(self.stream_id)

    # -- request --------------------------------------------------------------------------------------------------

    def state_wait_for_request_headers(self, event: RequestHeaders) -> Commands:
        headers = event.request.headers
        self._credential = headers.get("proxy-authorization", "")
        for name in _PROXY_HEADERS:
            headers.pop(name, None)
        if headers.get("expect", "").lower() == "100-continue":
            headers.pop("expect")  # answered when the call is allowed, not before
            self._expects = True
        yield from super().state_wait_for_request_headers(event)
        if self.client_state == self.state_consume_request_body and self._expects and not self.flow.response:
            yield from self.send_continue()

    def send_continue(self) -> Commands:
        if self._expects:
            self._expects = False
            response = http.Response.make(100)
            response.headers.clear()
            yield SendHttp(ResponseHeaders(self.stream_id, response), self.context.client)

    def start_request_stream(self) -> Commands:
        """Called after `requestheaders` when the request streams, or was answered on the head."""
        self.server_state = self.state_wait_for_response_headers
        if self.flow.response:
            yield from self.answer_at_once()
            return
        if (yield from self.make_server_connection()):
            yield from self.send_continue()
            yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, end_stream=False), self.context.server)
            self.client_state = self.state_stream_request_body

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """Seal, dial, seal again (time has passed), sign. Both places that send a head call this just before."""
        self.gate.seal(self.flow)
        address, tls = self.gate.dial(self.flow)
        connection, err = yield GetHttpConnection(address, tls, None, "tcp")
        if err or connection is None:
            raise Refusal(
                f"the gateway cannot reach {address[0]}: {err}", status=502, code="BadGateway", station="connect"
            )
        self.gate.seal(self.flow)
        self.outbound = self.gate.sign(self.flow)
        self.context.server = self.flow.server_conn = connection
        self.sent_upstream = True
        return True

    def state_stream_request_body(self, event: events.Event) -> Commands:
        if isinstance(event, RequestData):
            for chunk in _chunks(self.flow.request.stream, event.data):
                yield SendHttp(RequestData(self.stream_id, chunk), self.context.server)
        elif isinstance(event, RequestTrailers):
            raise Refusal(
                "HTTP trailers on a request are not supported", status=400, code="InvalidRequest", station="wire"
            )
        elif isinstance(event, RequestEndOfMessage):
            for chunk in _chunks(self.flow.request.stream, b""):
                yield SendHttp(RequestData(self.stream_id, chunk), self.context.server)
            self.flow.request.timestamp_end = time.time()
            yield HttpRequestHook(self.flow)
            if refusal := self.gate.verdict(self.flow):
                raise refusal
            self.client_state = self.state_done
            yield SendHttp(event, self.context.server)
            if self.server_state == self.state_done:
                yield from self.flow_done()

    def state_consume_request_body(self, event: events.Event) -> Commands:
        if isinstance(event, RequestData) and len(self.request_body_buf) + len(event.data) > self.gate.body_limit:
            limit = self.gate.body_limit
            raise Refusal(
                f"the body is larger than the {limit} bytes that the gateway reads whole",
                status=413,
                code="RequestEntityTooLarge",
                station="recognise",
            )
        yield from super().state_consume_request_body(event)

    # -- answer ---------------------------------------------------------------------------------------------------

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> Commands:
        self._upstream_answer = event.response
        if event.response.status_code == 101 and not self.gate.may_upgrade(self.flow):
            raise Refusal("protocol upgrades are not allowed here", status=502, code="BadGateway", station="connect")
        yield from super().state_wait_for_response_headers(event)
        if self.server_state == self.state_consume_response_body and not event.end_stream:
            self._check_answer()

    def _check_answer(self) -> None:
        if refusal := self.gate.verdict(self.flow):
            raise refusal
        if self.flow.response is not self._upstream_answer:
            raise Refusal("the answer was replaced on its head", status=502, code="GatewayRefused", station="wire")

    def start_response_stream(self) -> Commands:
        self._check_answer()
        response = self.flow.response
        assert response is not None
        if not self.gate.may_stream(self.flow):
            raise Refusal("the answer streams past the masker", status=502, code="GatewayRefused", station="wire")
        length = expected_http_body_size(self.flow.request, response)
        self._to_go = length if length is not None and length >= 0 else None
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), self.context.client)
        self.server_state = self.state_stream_response_body

    def state_stream_response_body(self, event: events.Event) -> Commands:
        """Streams; what would complete a Content-Length waits in the tail until the awaited `response` hook is done."""
        assert self.flow.response
        if isinstance(event, ResponseData):
            for chunk in _chunks(self.flow.response.stream, event.data):
                if self._to_go is not None:
                    self._to_go -= len(chunk)
                    if self._to_go <= 0:
                        self._tail += (chunk,)
                        continue
                yield SendHttp(ResponseData(self.stream_id, chunk), self.context.client)
        elif isinstance(event, ResponseTrailers):
            raise Refusal("trailers on an answer are not supported", status=502, code="BadGateway", station="wire")
        elif isinstance(event, ResponseEndOfMessage):
            self._tail += tuple(_chunks(self.flow.response.stream, b""))
            yield from self.send_response(already_streamed=True)

    def state_consume_response_body(self, event: events.Event) -> Commands:
        if isinstance(event, ResponseData):
            self.response_body_buf += event.data
            if len(self.response_body_buf) > self.gate.body_limit:
                self.response_body_buf.clear()
                why = f"the answer is larger than the {self.gate.body_limit} bytes that can be masked whole"
                raise Refusal(why, status=502, code="BadGateway", station="mask")
        elif isinstance(event, ResponseTrailers):
            raise Refusal("trailers on an answer are not supported", status=502, code="BadGateway", station="wire")
        elif isinstance(event, ResponseEndOfMessage):
            assert self.flow.response
            self.gate.keep_answer(self.flow, bytes(self.response_body_buf))
            self.response_body_buf.clear()
            yield from self.send_response()

    def send_response(self, already_streamed: bool = False) -> Commands:
        """The awaited `response` hook first, then the release: the whole answer, or the tail of a streamed one."""
        response = self.flow.response
        assert response
        response.timestamp_end = time.time()
        if response.status_code == 101 and self.gate.may_upgrade(self.flow):
            self.flow.websocket = WebSocketData()
        yield HttpResponseHook(self.flow)
        if (yield from self.check_killed(False)):
            return
        if not self.gate.may_release(self.flow):
            refusal = self.gate.verdict(self.flow) or Refusal(
                "the answer was not let out by swap, mask and record", status=502, code="GatewayRefused", station="seal"
            )
            if already_streamed:
                yield from self.cut(refusal.message)
                return
            self.gate.answer(self.flow, refusal)
            yield HttpResponseHook(self.flow)
        self.server_state = self.state_done
        response = self.flow.response
        assert response
        if already_streamed:
            for chunk in self._tail:
                yield SendHttp(ResponseData(self.stream_id, chunk), self.context.client)
        else:
            content = response.raw_content
            yield SendHttp(ResponseHeaders(self.stream_id, response, not content), self.context.client)
            if content:
                yield SendHttp(ResponseData(self.stream_id, content), self.context.client)
        if self.client_state == self.state_done:
            yield from self.flow_done()


class WireLayer(HttpLayer):
    """The HTTP layer whose streams are the wire's, and which lets nothing out that a stream has not signed."""

    gate: Gate

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            self._bound_heads()
        elif isinstance(event, events.DataReceived) and event.connection is not self.context.client:
            peer = self.connections.get(event.connection)
            leaf = peer.context.layers[-1] if peer else None
            if isinstance(leaf, Http1Client) and leaf.response is None and len(leaf.buf) + len(event.data) > HEAD_LIMIT:
                # A head without end from upstream: mitmproxy would collect it without limit.
                head = (bytes(leaf.buf) + event.data).partition(b"\r\n\r\n")
                if not head[1] or len(head[0]) > HEAD_LIMIT:
                    event.connection.state = event.connection.state.CLOSED
                    leaf.buf = type(leaf.buf)()
                    yield commands.CloseConnection(event.connection)
                    event = events.ConnectionClosed(event.connection)
        yield from super()._handle_event(event)

    def _bound_heads(self) -> None:
        client = self.context.client
        if client.alpn == b"h2":
            self.connections.setdefault(client, BoundedHttp2Server(self.context.fork()))
        elif client.alpn in (None, b"", b"http/1.1", b"http/1.0", b"http/0.9"):
            self.connections.setdefault(client, BoundedHttp1Server(self.context.fork()))

    def make_stream(self, stream_id: int) -> Commands:
        stream = WireStream(self.context.fork(), stream_id)
        stream.gate = self.gate
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def event_to_child(self, child: layer.Layer | HttpStream, event: events.Event) -> Commands:
        if type(event) is RequestHeaders and not isinstance(child, HttpStream):
            stream = self.streams.get(event.stream_id)
            if (
                not isinstance(stream, WireStream)
                or event.request is not stream.flow.request
                or stream.outbound is None
            ):
                raise RuntimeError("a request head without a signed copy reached the wire")
            signed = stream.outbound
            stream.outbound = None
            event = RequestHeaders(event.stream_id, signed, event.end_stream)
        yield from super().event_to_child(child, event)


class BoundedHttp1Server(Http1Server):
    """HTTP/1 towards the client with a limit and a time for a request's head."""

    _heads = 0
    _waiting = -1

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup):
            if self.state == self.read_headers and self._waiting == self._heads and self.buf:
                yield from self._close(408, "the request's head took too long")
            return
        try:
            yield from super()._handle_event(event)
        except NotImplementedError:
            # mitmproxy has no HTTP/1 trailers; a client that sends them must not leave the connection in limbo.
            yield commands.CloseConnection(self.conn)
            message = "HTTP trailers on a request are not supported"
            yield ReceiveHttp(RequestProtocolError(self.stream_id, message, ErrorCode.GENERIC_CLIENT_ERROR))
            self.state = self.done
            return
        if isinstance(event, events.DataReceived) and self.state == self.read_headers and self.buf:
            if len(self.buf) > HEAD_LIMIT:
                yield from self._close(431, f"a request's head may have {HEAD_LIMIT} bytes")
            elif self._waiting != self._heads:
                self._waiting = self._heads
                yield commands.RequestWakeup(HEAD_SECONDS)

    def _close(self, status: int, message: str) -> Commands:
        self.buf = type(self.buf)()
        yield commands.SendData(self.conn, make_error_response(status, message))
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        if isinstance(event, events.DataReceived) and len(self.buf) > HEAD_LIMIT:
            head = bytes(self.buf).partition(b"\r\n\r\n")
            if not head[1] or len(head[0]) > HEAD_LIMIT:
                yield from self._close(431, f"a request's head may have {HEAD_LIMIT} bytes")
                return
        yield from super().read_headers(event)
        if self.state != self.read_headers:
            self._heads += 1


class BoundedHttp2Server(Http2Server):
    """HTTP/2 towards the client with a time for a header block (its size is bounded by h2)."""

    _waiting = False

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup):
            self._waiting = False
            if self._unfinished():
                yield from self.protocol_error("a header block took too long")
            return
        yield from super()._handle_event(event)
        if isinstance(event, events.DataReceived) and not self._waiting and self._unfinished():
            self._waiting = True
            yield commands.RequestWakeup(HEAD_SECONDS)

    def _unfinished(self) -> bool:
        return bool(self.h2_conn.incoming_buffer._headers_buffer)


class ClosedLayer(layer.Layer):
    """What is neither HTTP nor TLS: closes the client and swallows what still comes."""

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


_FROM_UPSTREAM = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)


def install(next_layer: layer.NextLayer, gate: Gate) -> bool:
    """Turns the layer that mitmproxy chose into the gateway's. False: it is no HTTP or TLS layer, and is closed."""
    chosen = next_layer.layer
    if chosen is None:
        return True  # mitmproxy wants more bytes before it chooses
    for part in _stack(chosen):
        if type(part) is HttpLayer:
            part.__class__ = WireLayer
            part.gate = gate  # type: ignore[attr-defined]
        elif not isinstance(part, (WireLayer, ClientTLSLayer, ServerTLSLayer, layer.NextLayer)):
            next_layer.layer = ClosedLayer(next_layer.context)
            return False
    return True


def _stack(top: layer.Layer) -> Iterator[layer.Layer]:
    part: layer.Layer | None = top
    while part is not None:
        yield part
        part = getattr(part, "child_layer", None)


def _chunks(stream: Any, data: bytes) -> Iterator[bytes]:
    """What a stream callable makes of a chunk. True alone (no callable) would let bytes pass unseen: refused."""
    if not callable(stream):
        raise Refusal("a body streams past the gateway's own reader", status=502, code="GatewayRefused", station="wire")
    made = stream(data)
    for chunk in (made,) if isinstance(made, bytes) else made:
        if chunk:
            yield chunk


__all__ = ["HEAD_LIMIT", "HEAD_SECONDS", "ClosedLayer", "Gate", "Http1Connection", "WireLayer", "WireStream", "install"]
