"""The HTTP layer whose streams and connections are the wire's."""

from __future__ import annotations

from functools import partial

from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import HttpLayer
from mitmproxy.proxy.layers.http import (
    HttpStream,
    RequestHeaders,
)

from .bounds import BoundedHttp1Client, BoundedHttp1Server, BoundedHttp2Server
from .connections import throttle
from .gate import Commands, Gate, without_bytes
from .stream import WireStream

RECORD = 16 * 1024  # bytes of plain text in a TLS record at most (RFC 8446, section 5.1)


class WireLayer(HttpLayer):
    """The HTTP layer whose streams are the wire's, and which lets nothing out that a stream has not signed."""

    gate: Gate

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            self._bound_heads()
        yield from together(self._run(event))

    def _run(self, event: events.Event) -> Commands:
        for command in super()._handle_event(event):
            if isinstance(command, commands.Log):
                command.message = without_bytes(command.message)
            yield command

    def _bound_heads(self) -> None:
        client = self.context.client
        if client.alpn == b"h2":
            server = self.connections.setdefault(client, BoundedHttp2Server(self.context.fork()))
            if isinstance(server, BoundedHttp2Server):
                throttle(client, partial(self._waiting, server))
        elif client.alpn in (None, b"", b"http/1.1", b"http/1.0", b"http/0.9"):
            server = BoundedHttp1Server(self.context.fork())
            server.gate = self.gate
            self.connections.setdefault(client, server)

    def _waiting(self, server: BoundedHttp2Server, upstream: Connection | None) -> int:
        """Bytes from an upstream connection, or from anywhere, that wait for the windows of their streams."""
        buffers = server.h2_conn.stream_buffers
        return sum(
            len(chunk.data)
            for number, buffer in buffers.items()
            if upstream is None or ((stream := self.streams.get(number)) and stream.context.server is upstream)
            for chunk in buffer
        )

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
            BoundedHttp1Client.bind(child.context.layers[-1])
        yield from super().event_to_child(child, event)


def together(run: Commands) -> Commands:
    """Sends what follows on each other to one peer at once: a head and its body are one TLS record and one system call."""
    held: commands.SendData | None = None
    try:
        for command in run:
            if type(command) is not commands.SendData:
                if held is not None:
                    yield held
                    held = None
                yield command
                continue
            if held is not None and (
                held.connection is not command.connection or len(held.data) + len(command.data) > RECORD
            ):
                yield held
                held = None
            held = command if held is None else commands.SendData(held.connection, held.data + command.data)
            if len(held.data) >= RECORD:  # full: whoever counts what waits has to find it in the socket
                yield held
                held = None
    except Exception:
        if held is not None:
            yield held
        raise
    if held is not None:
        yield held


class ClosedLayer(layer.Layer):
    """What is neither HTTP nor TLS: closes the client and swallows what still comes."""

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)
