"""A small HTTP/2 client over a ProxyClient's tunnel: one connection, many streams, resets and closed windows included."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

from .clients import ProxyClient


@dataclass
class Http2Stream:
    """What came on one stream. `reset` is the error code of RST_STREAM, `ended` says that END_STREAM came."""

    id: int
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None
    interim: list[int] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(dict(self.fields).get(":status", "0"))

    def header(self, name: str) -> str:
        return dict(self.fields).get(name.lower(), "")

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class Http2Client:
    """Speaks HTTP/2 on a client whose TLS chose `h2`. `acknowledge` off keeps the receive window closed."""

    def __init__(self, client: ProxyClient) -> None:
        self.stream = client.stream
        # Checks are off so that wrong requests can be sent; what the proxy sends is still checked.
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.streams: dict[int, Http2Stream] = {}
        self.acknowledge = True
        self.closed = False
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.stream.send(self.h2.data_to_send())

    def open(self, fields: Iterable[tuple[str, str]], *, end: bool = True) -> Http2Stream:
        """Sends a head with exactly these fields, pseudo fields first."""
        number = self.h2.get_next_available_stream_id()
        found = self.streams[number] = Http2Stream(number)
        self.h2.send_headers(number, list(fields), end_stream=end)
        self.flush()
        return found

    def send(self, stream: Http2Stream, data: bytes, *, end: bool = False) -> None:
        """Sends a body part as the windows allow; stops if the stream ends meanwhile."""
        while data:
            window = min(self.h2.local_flow_control_window(stream.id), self.h2.max_outbound_frame_size, len(data))
            if window <= 0:
                if not self.pump() or stream.over:
                    return
                continue
            self.h2.send_data(stream.id, data[:window])
            data = data[window:]
            self.flush()
        if end:
            with contextlib.suppress(h2.exceptions.ProtocolError):
                self.h2.end_stream(stream.id)
            self.flush()

    def reset(self, stream: Http2Stream, code: int = 8) -> None:
        self.h2.reset_stream(stream.id, code)
        self.flush()

    def pump(self) -> bool:
        """Reads once; False when the connection is over."""
        if self.closed:
            return False
        try:
            if not self.stream.fill():
                self.closed = True
        except (ConnectionError, BrokenPipeError):
            self.closed = True
        data, self.stream.buffer = bytes(self.stream.buffer), bytearray()
        for event in self.h2.receive_data(data) if data else []:
            self._take(event)
        with contextlib.suppress(OSError):
            self.flush()
        return not self.closed

    def _take(self, event: h2.events.Event) -> None:
        found = self.streams.get(getattr(event, "stream_id", 0) or 0)
        if isinstance(event, h2.events.ConnectionTerminated):
            self.closed = True
        if found is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            found.fields = [(str(name), str(value)) for name, value in event.headers or []]
        elif isinstance(event, h2.events.InformationalResponseReceived):
            found.interim.append(int(dict(event.headers or [])[":status"]))
        elif isinstance(event, h2.events.DataReceived):
            found.body += event.data or b""
            if self.acknowledge and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, found.id)
        elif isinstance(event, h2.events.StreamEnded):
            found.ended = True
        elif isinstance(event, h2.events.StreamReset):
            found.reset = int(event.error_code or 0)

    def wait(self, stream: Http2Stream) -> Http2Stream:
        """Reads until the stream is over, or the connection."""
        while not stream.over and self.pump():
            pass
        return stream

    def request(
        self, method: str, authority: str, path: str, fields: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> Http2Stream:
        """One exchange; header names are lower-cased, Host is dropped in favour of :authority."""
        head = [(":method", method), (":authority", authority), (":scheme", "https"), (":path", path)]
        head += [(name.lower(), value) for name, value in fields if name.lower() not in {"host", "connection"}]
        stream = self.open(head, end=not body)
        if body:
            self.send(stream, body, end=True)
        return self.wait(stream)
