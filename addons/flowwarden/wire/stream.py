"""One request and its answer: seal and sign where it leaves, answer at once, cut, hold the tail, dial."""

from __future__ import annotations

import logging
import time

from mitmproxy import flow as mflow
from mitmproxy import http
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http import (
    DropStream,
    ErrorCode,
    GetHttpConnection,
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
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

from ..errors import Refusal, traced
from .answer import announced, chunks
from .gate import Commands, copied, without_bytes
from .headers import expected_body_size
from .memory import HELD, SMALL, grown
from .spooled import NextBlock, SpooledStream

log = logging.getLogger("flowwarden")

_PROXY_HEADERS = ("proxy-authorization", "proxy-connection")
_FROM_UPSTREAM = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)
_HEADS: dict[type, str] = {HttpRequestHeadersHook: "requestheaders", HttpResponseHeadersHook: "responseheaders"}


class WireStream(SpooledStream):
    """One request and its answer."""

    outbound: http.Request | None = None  # the signed copy, set for the moment in which the head leaves
    sent_upstream = False
    _amended: bytes | None = None  # the body that leaves in place of the flow's own
    _refused = False
    _flow: http.HTTPFlow | None = None
    _credential = ""
    _expects = False
    _up_to_go: int | None = None  # bytes of a streamed request until its Content-Length is reached
    _up_tail: tuple[bytes, ...] = ()
    _waiting = 0  # bytes of a streamed request that wait for the rest of their chunk

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
            if isinstance(event, events.Wakeup):
                if isinstance(event.command, NextBlock):
                    yield from self.block_came(event.command)
                return
            yield from self.inline(super()._handle_event(event))
        except Refusal as refusal:
            yield from self.refuse(refusal)
        except Exception as crash:
            log.error("the wire failed: %s\n%s", type(crash).__name__, traced(crash))
            why = f"{type(crash).__name__} in the gateway"
            yield from self.refuse(Refusal(why, status=502, code="GatewayError", station="wire"))

    def inline(self, run: Commands) -> Commands:
        """Takes the hooks of heads out of the commands where they need not wait: a hook is a walk through all layers."""
        reply = None
        while True:
            try:
                command = run.send(reply)
            except StopIteration:
                return
            if self._amended is not None and type(command) is SendHttp and type(command.event) is RequestData:
                command.event.data, self._amended = self._amended, None
            name = _HEADS.get(type(command))
            reply = None if name is not None and self.gate.at_once(name, self.flow) else (yield command)

    def refuse(self, refusal: Refusal) -> Commands:
        """Answers with a refusal while the answer's head is not out, else cuts; upstream is cut in both cases."""
        if self.client_state == self.state_errored or self._flow is None:
            return
        if self._refused:
            yield from self.cut(refusal.message)
            return
        self._refused = True
        if self.client_state == self.state_forward_spool:
            self.client_state = self.state_done  # all of it has come from the client, if not all of it has left
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
        """An upstream that fails before its answer's head is out is told to the agent in the protocol's own form.

        mitmproxy quotes the peer's bytes in the message; they were never masked, so neither agent nor log gets them.
        """
        event.message = without_bytes(event.message)
        if self.client_state == self.state_forward_spool:
            self.client_state = self.state_done
        if isinstance(event, ResponseProtocolError) and self.server_state == self.state_done:
            return  # the answer is out and whole; that upstream then went away is nobody's loss
        waiting = (self.state_wait_for_response_headers, self.state_consume_response_body)
        if isinstance(event, ResponseProtocolError) and self.sent_upstream and self.server_state in waiting:
            why = f"upstream failed, and whether it has carried out the call is unknown: {event.message}"
            self.sent_upstream = False
            raise Refusal(why, status=502, code="UpstreamFailed", station="wire")
        yield from super().handle_protocol_error(event)

    def answer_at_once(self) -> Commands:
        """Sends the flow's answer now, whatever of the request's body has not come yet; that is read and dropped."""
        if self.client_state != self.state_done:
            self.client_state = self.state_discard_request_body
        self.request_body_buf.clear()
        self.response_body_buf.clear()
        self.flow.request.timestamp_end = self.flow.request.timestamp_end or time.time()
        response = self.flow.response
        if self._expects and response and not self.flow.request.is_http2:
            # A client that was not told to continue sends no body, and its next request would be taken for one.
            response.headers["connection"] = "close"
        yield from self.send_response()

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
        if self.client_state == self.state_discard_request_body:
            self.server_state = self.state_done  # mitmproxy would wait for an answer that has been given
        elif self.client_state == self.state_errored:
            self.server_state = self.state_errored
        elif self.client_state == self.state_consume_request_body and self.gate.spool(self.flow) is not None:
            yield from self.start_spool()
        elif self.client_state == self.state_consume_request_body and not event.end_stream and not self.flow.response:
            if announced(self.flow.request) > self.gate.body_limit:
                raise self.too_large()
            yield from self.send_continue()

    def too_large(self) -> Refusal:
        why = f"the body is larger than the {self.gate.body_limit} bytes that the gateway reads whole"
        return Refusal(why, status=413, code="RequestEntityTooLarge", station="recognise")

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
        if (yield from self.check_killed(True)):
            return False  # the client left while the connection was opened
        self.gate.seal(self.flow)
        signed = self.gate.sign(self.flow)
        if signed.raw_content is not self.flow.request.raw_content:
            self._amended = signed.raw_content  # the gateway asks upstream for more than the agent did
        self.outbound = self.framed(signed, h2=connection.alpn == b"h2")
        streams = self.client_state != self.state_done  # a whole body has been compared with its length already
        length = expected_body_size(self.outbound) if streams else None
        self._up_to_go = (
            length if length is not None and length >= 0 and "content-length" in self.outbound.headers else None
        )
        self.context.server = self.flow.server_conn = connection
        self.sent_upstream = True
        return True

    def framed(self, signed: http.Request, *, h2: bool) -> http.Request:
        """An HTTP/2 request may come without a length; on HTTP/1 its body would be taken for the next request."""
        content = signed.raw_content or b""
        streams = self.client_state != self.state_done
        if not h2 and signed.is_http2 and "content-length" not in signed.headers and (streams or content):
            signed = copied(signed)
            if streams:
                signed.headers["transfer-encoding"] = "chunked"
            else:
                signed.headers["content-length"] = str(len(content))
        if not streams:
            announced = signed.headers.get("content-length", str(len(content)))
            if announced != str(len(content)) or bool(content) != bool(self.flow.request.raw_content):
                why = "the signed copy does not have the body that it announces"
                raise Refusal(why, status=502, code="GatewayRefused", station="seal")
        return signed

    def state_stream_request_body(self, event: events.Event) -> Commands:
        if isinstance(event, RequestData):
            waiting = self._waiting + len(event.data)
            for chunk in chunks(self.flow.request.stream, event.data):
                waiting -= len(chunk)
                yield from self.forward(chunk)
            if waiting > SMALL or self._waiting > SMALL:
                self.gate.hold(self.flow, grown(0, waiting) - grown(0, self._waiting))
            self._waiting = waiting
            yield from self.kept_up()
        elif isinstance(event, RequestTrailers):
            raise self.trailers()
        elif isinstance(event, RequestEndOfMessage):
            for chunk in chunks(self.flow.request.stream, b""):
                yield from self.forward(chunk)
            if self._up_to_go:
                raise Refusal("the body is shorter than announced", status=400, code="IncompleteBody", station="wire")
            self.flow.request.timestamp_end = time.time()
            yield HttpRequestHook(self.flow)
            if refusal := self.gate.verdict(self.flow):
                raise refusal
            self.client_state = self.state_done
            for chunk in self._up_tail:
                yield SendHttp(RequestData(self.stream_id, chunk), self.context.server)
            yield SendHttp(event, self.context.server)
            if self.server_state == self.state_done:
                yield from self.flow_done()

    def forward(self, chunk: bytes) -> Commands:
        """Sends a chunk upstream; what would complete a Content-Length waits until the `request` hook is done."""
        if self._up_to_go is not None:
            self._up_to_go -= len(chunk)
            if self._up_to_go < 0:  # upstream would take the rest for another request
                raise Refusal("the body is longer than announced", status=400, code="InvalidRequest", station="wire")
            if self._up_to_go == 0:
                self._up_tail += (chunk,)
                return
        yield SendHttp(RequestData(self.stream_id, chunk), self.context.server)

    @staticmethod
    def trailers() -> Refusal:
        why = "HTTP trailers on a request are not supported"
        return Refusal(why, status=400, code="InvalidRequest", station="wire")

    def state_consume_request_body(self, event: events.Event) -> Commands:
        if isinstance(event, RequestData) and len(self.request_body_buf) + len(event.data) > self.gate.body_limit:
            raise self.too_large()
        if isinstance(event, RequestTrailers):
            raise self.trailers()
        if isinstance(event, RequestData):
            HELD.more(len(event.data))
            size = len(self.request_body_buf)
            if more := grown(size, size + len(event.data)):
                self.gate.hold(self.flow, more)
        yield from super().state_consume_request_body(event)
