"""HTTP connections with a limit and a time for the head of a message; mitmproxy collects heads without bound."""

from __future__ import annotations

import re

from h11._readers import ContentLengthReader
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import HttpLayer, ReceiveHttp
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server, make_error_response
from mitmproxy.proxy.layers.http._http2 import Http2Server

from .connections import moved
from .gate import Commands, Gate
from .tunnel import opened

HEAD_LIMIT = 64 * 1024  # bytes of an HTTP/1 head, either direction
HEAD_SECONDS = 30.0  # from a head's first byte to its last

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2
_METHOD = re.compile(_TOKEN + rb"(?: |\Z)")
_REQUEST_LINE = re.compile(_TOKEN + rb" [^ ]+ HTTP/[0-9]\.[0-9]\r?\Z")
_INFORMATIONAL = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r]")


class Bounded(Http1Connection):
    """HTTP/1 with a limit and a time for the head of a message, either direction."""

    _timer: commands.RequestWakeup | None = None  # of the head that has begun

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup):
            if event.command is self._timer and self._in_head():
                yield from self.head_fault(408, "a head took too long")
            return
        if type(event) is events.DataReceived and self._within_body(len(event.data)):
            assert self.stream_id is not None
            yield ReceiveHttp(self.ReceiveData(self.stream_id, event.data))
            return
        try:
            yield from super()._handle_event(event)
        except NotImplementedError:
            # mitmproxy has no HTTP/1 trailers and would leave the connection in limbo.
            yield from self.fault("HTTP trailers are not supported")
            return
        if self.state == self.wait and len(self.buf) > HEAD_LIMIT:
            yield from self.fault("too many pipelined requests")
        elif isinstance(event, events.DataReceived) and self._in_head():
            if not self.plausible():
                yield from self.head_fault(400, "this is not HTTP")
            elif self._timer is None:
                self._timer = commands.RequestWakeup(HEAD_SECONDS)
                yield self._timer

    def _within_body(self, size: int) -> bool:
        """Counts bytes that are followed by more of a body of known length; h11 would copy them three times."""
        if self.state != self.read_body or self.buf or type(self.body_reader) is not ContentLengthReader:
            return False
        if not 0 < size < self.body_reader._remaining:
            return False
        self.body_reader._remaining -= size
        return True

    def _in_head(self) -> bool:
        return bool(self.buf) and self.state == self.read_headers

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        if isinstance(event, events.DataReceived):
            self.skip_informational()
            if len(self.buf) > HEAD_LIMIT:
                head, end, _ = bytes(self.buf).partition(b"\r\n\r\n")
                if not end or len(head) > HEAD_LIMIT:
                    yield from self.head_fault(431, f"a head may have {HEAD_LIMIT} bytes")
                    return
        yield from super().read_headers(event)
        if self.state != self.read_headers or not self.buf:
            self._timer = None

    def plausible(self) -> bool:
        """Whether an unfinished head can become one; else the connection need not wait for its end."""
        return True

    def skip_informational(self) -> None:
        """Only answers have informational heads before them."""

    def head_fault(self, status: int, message: str) -> Commands:
        raise NotImplementedError

    def fault(self, message: str) -> Commands:
        self.buf = type(self.buf)()
        self.state = self.done
        yield commands.CloseConnection(self.conn)
        assert self.stream_id is not None
        yield ReceiveHttp(self.ReceiveProtocolError(self.stream_id, message, self.ReceiveProtocolError.code))


class BoundedHttp1Server(Bounded, Http1Server):
    """HTTP/1 towards the client."""

    gate: Gate

    def plausible(self) -> bool:
        line, end, _ = bytes(self.buf).lstrip(b"\r\n").partition(b"\n")
        return not line or (_REQUEST_LINE.match(line) if end else _METHOD.match(line)) is not None

    def head_fault(self, status: int, message: str) -> Commands:
        self.gate.unread(self.context)
        self.buf = type(self.buf)()
        self.state = self.done
        yield commands.SendData(self.conn, make_error_response(status, message))
        yield commands.CloseConnection(self.conn)

    def make_pipe(self) -> Commands:
        """After a CONNECT or an upgrade. The layers are [..., HTTP layer, this connection]."""
        yield from super().make_pipe()
        outer = self.context.layers[-2]
        assert isinstance(outer, HttpLayer)
        stream = outer.streams.get(self.stream_id)
        if stream is not None and stream.child_layer is not None and stream.flow.request.method == "CONNECT":
            opened(outer, stream.child_layer)


class BoundedHttp1Client(Bounded, Http1Client):
    """HTTP/1 towards upstream. mitmproxy would take an informational head (100, 103) for the answer."""

    @classmethod
    def bind(cls, leaf: layer.Layer) -> None:
        """Turns the connection that mitmproxy made into this class before its first request leaves."""
        if type(leaf) is Http1Client:
            leaf.__class__ = cls
            leaf.state = leaf.read_headers

    def skip_informational(self) -> None:
        while self.request and _INFORMATIONAL.match(self.buf._data) and (end := self.buf._data.find(b"\r\n\r\n")) >= 0:
            self.buf.maybe_extract_at_most(end + 4)

    def head_fault(self, status: int, message: str) -> Commands:
        yield from self.fault(f"the answer's head: {message}")


class BoundedHttp2Server(Http2Server):
    """HTTP/2 towards the client with a time for a header block (its size is bounded by h2)."""

    _timer: commands.RequestWakeup | None = None  # of the header block that has begun

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup):
            if event.command is self._timer and self._unfinished():
                yield from self.protocol_error("a header block took too long")
            return
        yield from super()._handle_event(event)
        moved(self.context.client)
        if isinstance(event, events.DataReceived):
            if not self._unfinished():
                self._timer = None
            elif self._timer is None:
                self._timer = commands.RequestWakeup(HEAD_SECONDS)
                yield self._timer

    def _unfinished(self) -> bool:
        return bool(self.h2_conn.incoming_buffer._headers_buffer)
