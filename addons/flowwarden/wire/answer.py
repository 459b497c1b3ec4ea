"""The way back: an answer's head, its body, and its last bytes, which wait until the recording is on disk."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from mitmproxy import flow as mflow
from mitmproxy import http
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpResponseHook,
    HttpStream,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
    SendHttp,
)
from mitmproxy.websocket import WebSocketData

from ..errors import Refusal
from .gate import Behind, Commands, Gate, copied, misframed, without_bytes
from .headers import expected_body_size
from .memory import HELD, grown
from .websocket import WireWebsocket

_UNCLEAN = re.compile(rb"[\x00-\x20\x7f]")  # in a request line
_UNCLEAN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # in a field: all but the tab


class AnswerStream(HttpStream):
    """What of a stream concerns the answer; `WireStream` adds the request."""

    gate: Gate
    _upstream_answer: http.Response | None = None
    _to_go: int | None = None  # bytes of a streamed answer until its Content-Length is reached
    _tail: tuple[bytes, ...] = ()

    def state_discard_request_body(self, event: events.Event) -> Commands:
        """The answer is out: what of the request still comes is dropped."""
        raise NotImplementedError

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> Commands:
        self._upstream_answer = event.response
        if event.response.status_code == 101 and not self.gate.may_upgrade(self.flow):
            raise Refusal("protocol upgrades are not allowed here", status=502, code="BadGateway", station="connect")
        yield from super().state_wait_for_response_headers(event)
        if self.server_state == self.state_consume_response_body:
            self._check_answer()
            if not event.end_stream and announced(event.response) > self.gate.body_limit:
                raise self.answer_too_large()

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        """Framing (mitmproxy's check) and control characters, which another parser might take for the end of a line."""
        if request:
            if (yield from super().check_invalid(request)):
                return True
            data = self.flow.request.data
            if _UNCLEAN.search(data.method + data.path + data.authority) or _unclean(data.headers):
                why = "control characters in the request's head"
            elif data.headers.get("transfer-encoding", "chunked").lower() != "chunked":
                why = "a transfer coding other than chunked"
            else:
                return False
            self.flow.error = mflow.Error(why)
            yield HttpRequestHeadersHook(self.flow)
            yield HttpErrorHook(self.flow)
            error = ResponseProtocolError(self.stream_id, why, ErrorCode.REQUEST_VALIDATION_FAILED)
            yield SendHttp(error, self.context.client)
            self.flow.live = False
            self.client_state = self.server_state = self.state_errored
            return True
        assert self.flow.response is not None
        try:
            validate_headers(self.flow.response)
        except ValueError as error:
            raise self.malformed(without_bytes(str(error))) from None
        if _unclean(self.flow.response.data.headers):
            raise self.malformed("control characters in its head")
        return False

    @staticmethod
    def malformed(why: str) -> Refusal:
        return Refusal(f"upstream's answer is malformed: {why}", status=502, code="BadGateway", station="wire")

    def _check_answer(self) -> None:
        if refusal := self.gate.verdict(self.flow):
            raise refusal
        if self.flow.response is not self._upstream_answer:
            raise Refusal("the answer was replaced on its head", status=502, code="GatewayRefused", station="wire")

    def answer_too_large(self) -> Refusal:
        why = f"the answer is larger than the {self.gate.body_limit} bytes that can be masked whole"
        return Refusal(why, status=502, code="BadGateway", station="mask")

    def start_response_stream(self) -> Commands:
        self._check_answer()
        response = self.flow.response
        assert response is not None
        if not self.gate.may_stream(self.flow):
            raise Refusal("the answer streams past the masker", status=502, code="GatewayRefused", station="wire")
        length = expected_body_size(self.flow.request, response)
        self._to_go = length if length is not None and length >= 0 else None
        if length == -1 and not self.flow.request.is_http2:
            response = self.chunked(response)
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), self.context.client)
        self.server_state = self.state_stream_response_body

    def chunked(self, response: http.Response) -> http.Response:
        """An answer that ends with its connection looks whole when it is cut; with chunks its end is explicit."""
        if self.flow.request.http_version != "HTTP/1.1":
            raise Refusal("an answer without a length", status=502, code="BadGateway", station="wire")
        response = copied(response)
        response.headers["transfer-encoding"] = "chunked"
        response.headers.pop("connection", None)
        response.http_version = "HTTP/1.1"
        return response

    def state_stream_response_body(self, event: events.Event) -> Commands:
        """Streams; what would complete a Content-Length waits in the tail until the awaited `response` hook is done."""
        assert self.flow.response
        if isinstance(event, ResponseData):
            for chunk in chunks(self.flow.response.stream, event.data):
                if not self._held(chunk):
                    yield SendHttp(ResponseData(self.stream_id, chunk), self.context.client)
            yield from self.kept_up()
        elif isinstance(event, ResponseTrailers):
            raise Refusal("trailers on an answer are not supported", status=502, code="BadGateway", station="wire")
        elif isinstance(event, ResponseEndOfMessage):
            for chunk in chunks(self.flow.response.stream, b""):
                if not self._held(chunk):
                    self._tail += (chunk,)
            if self._to_go:
                raise Refusal("the answer is shorter than announced", status=502, code="BadGateway", station="wire")
            yield from self.send_response(already_streamed=True)

    def kept_up(self) -> Commands:
        """No more is read while what is kept of a body is not where it has to be: threads write, hash and search it."""
        if (work := self.gate.behind(self.flow)) is not None:
            yield Behind(work)

    def _held(self, chunk: bytes) -> bool:
        """Keeps the chunk that completes the announced length."""
        if self._to_go is None:
            return False
        self._to_go -= len(chunk)
        if self._to_go < 0:  # the agent would take the rest for another answer
            raise Refusal("the answer is longer than announced", status=502, code="BadGateway", station="wire")
        if self._to_go == 0:
            self._tail += (chunk,)
        return self._to_go == 0

    def state_consume_response_body(self, event: events.Event) -> Commands:
        if isinstance(event, ResponseData):
            self.response_body_buf += event.data
            HELD.more(len(event.data))
            size = len(self.response_body_buf)
            if more := grown(size - len(event.data), size):
                self.gate.hold(self.flow, more)
            if len(self.response_body_buf) > self.gate.body_limit:
                self.response_body_buf.clear()
                raise self.answer_too_large()
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
            self.gate.sent(self.flow)  # nobody reads it: what was held for it is given back
            return
        if refusal := self._withheld(already_streamed):
            if already_streamed:
                raise refusal
            self.flow.websocket = None  # what is refused is no upgrade
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
            if expected_body_size(self.flow.request, response) == -1:
                response = copied(response)
                response.headers["content-length"] = str(len(content or b""))
            yield SendHttp(ResponseHeaders(self.stream_id, response, not content), self.context.client)
            if content:
                yield SendHttp(ResponseData(self.stream_id, content), self.context.client)
        self.gate.sent(self.flow)
        if self.client_state == self.state_done:
            yield from self.flow_done()
        else:
            yield from self.done_early()

    def _withheld(self, streamed: bool) -> Refusal | None:
        """Why the answer does not go out: nobody let it out, or it would break the framing towards the agent."""
        if not self.gate.may_release(self.flow):
            why = "the answer was not let out by swap, mask and record"
            return self.gate.verdict(self.flow) or Refusal(why, status=502, code="GatewayRefused", station="seal")
        if not streamed and misframed(self.flow):
            return Refusal(
                "the answer does not have the length that it announces", status=502, code="BadGateway", station="wire"
            )
        return None

    def done_early(self) -> Commands:
        """The answer is complete and the request's body is not: nobody needs the rest of it."""
        if self.client_state == self.state_stream_request_body:
            self.client_state = self.state_discard_request_body
            error = RequestProtocolError(self.stream_id, "answered before the body was complete", ErrorCode.CANCEL)
            yield SendHttp(error, self.context.server)
        self.flow.live = False
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def flow_done(self) -> Commands:
        if not self.flow.websocket:
            yield from super().flow_done()
            return
        self.child_layer = child = WireWebsocket(self.context, self.flow)
        child.gate = self.gate
        self._handle_event = self.passthrough
        yield from child.handle_event(events.Start())
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)


def announced(message: http.Request | http.Response) -> int:
    """The Content-Length of a message whose framing has been checked; 0 where it does not say."""
    length = message.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def _unclean(headers: http.Headers) -> bool:
    return _UNCLEAN_VALUE.search(b"".join([value for _, value in headers.fields])) is not None


def chunks(stream: Any, data: bytes) -> Iterator[bytes]:
    """What a stream callable makes of a chunk. True alone (no callable) would let bytes pass unseen: refused."""
    if not callable(stream):
        raise Refusal("a body streams past the gateway's own reader", status=502, code="GatewayRefused", station="wire")
    made = stream(data)
    for chunk in (made,) if isinstance(made, bytes) else made:
        if chunk:
            yield chunk
