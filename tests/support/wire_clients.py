"""Clients and an upstream that judge by implementations of their own (h11, h2): what was whole, what was cut, what came when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h11

HOST = "upstream.example.com"
PATIENCE = 10.0  # seconds until a test that waits for something is a failed test


@dataclass
class Got:
    """A request as upstream saw it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    whole: bool = False
    broken: bool = False

    def header(self, name: str) -> str:
        return dict(self.headers).get(name, "")


class Upstream:
    """An HTTP/1 server that keeps every byte and says of each request whether it was whole."""

    def __init__(self) -> None:
        self.raw = bytearray()
        self.connections = 0
        self.open = 0
        self.requests: list[Got] = []
        self.malformed: list[str] = []
        self.on_head: Callable[[Got, asyncio.StreamWriter], Awaitable[None]] | None = None
        self.on_request: Callable[[Got, asyncio.StreamWriter], Awaitable[None]] = self.hello
        self.changed = asyncio.Condition()

    @staticmethod
    async def hello(_got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    def forget(self) -> None:
        """As if nothing had come yet; open connections stay."""
        self.raw.clear()
        self.requests.clear()
        self.malformed.clear()
        self.on_head = None

    @property
    def bytes(self) -> bytes:
        return bytes(self.raw)

    async def until(self, check: Callable[[], object]) -> None:
        async with self.changed, asyncio.timeout(PATIENCE):
            await self.changed.wait_for(check)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        rest: tuple[bytes, bool] = (b"", False)
        try:
            while not rest[1] and not writer.is_closing():
                rest = await self._one(reader, writer, rest[0])
        except h11.RemoteProtocolError as error:
            self.malformed.append(str(error))
        finally:
            self.open -= 1
            writer.close()
            await self._tell()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes) -> tuple[bytes, bool]:
        conn = h11.Connection(h11.SERVER)
        got: Got | None = None
        if rest:
            conn.receive_data(rest)
        while True:
            try:
                event = conn.next_event()
            except h11.RemoteProtocolError:
                if got is None:
                    raise
                got.broken = True
                return b"", True
            if event is h11.NEED_DATA:
                try:
                    chunk = await reader.read(65536)
                except ConnectionError:
                    chunk = b""
                self.raw += chunk
                conn.receive_data(chunk)
            elif isinstance(event, h11.Request):
                fields = [(name.decode(), value.decode()) for name, value in event.headers]
                got = Got(event.method.decode(), event.target.decode(), fields)
                self.requests.append(got)
                await self._tell()
                if self.on_head:
                    await self.on_head(got, writer)
            elif isinstance(event, h11.Data) and got is not None:
                got.body += event.data
                await self._tell()
            elif isinstance(event, h11.EndOfMessage) and got is not None:
                got.whole = True
                await self._tell()
                await self.on_request(got, writer)
            else:
                return conn.trailing_data


@dataclass
class Answer:
    """An answer as the agent saw it."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    informational: list[int] = field(default_factory=list)
    whole: bool = False
    broken: bool = False

    @property
    def over(self) -> bool:
        return self.whole or self.broken


class Client:
    """One connection; `start`, `data` and `end` send, a pump of its own reads."""

    version = ""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str = HOST) -> None:
        self.reader, self.writer, self.host = reader, writer, host
        self.changed = asyncio.Condition()
        self.gone = False
        self.pump = asyncio.create_task(self._pump())

    async def _pump(self) -> None:
        while not self.gone:
            try:
                chunk = await self.reader.read(65536)
            except (ConnectionError, OSError):
                chunk = b""
            self.gone = not chunk
            async with self.changed:
                try:
                    self._feed(chunk)
                except BaseException:
                    self.gone = True
                    raise
                finally:
                    self.changed.notify_all()

    def _feed(self, chunk: bytes) -> None:
        raise NotImplementedError

    def start(
        self,
        method: str,
        path: str = "/",
        headers: list[tuple[str, str]] | None = None,
        *,
        length: int | None = None,
        chunked: bool = False,
        end: bool = False,
    ) -> Answer:
        """Sends a head; `length` announces a body, `chunked` one of unknown length, `end` none."""
        raise NotImplementedError

    def data(self, answer: Answer, chunk: bytes, *, end: bool = False) -> None:
        raise NotImplementedError

    def leave(self, answer: Answer) -> None:
        """The client no longer wants this answer."""
        raise NotImplementedError

    async def until(self, check: Callable[[], object]) -> None:
        async with self.changed, asyncio.timeout(PATIENCE):
            await self.changed.wait_for(lambda: check() or self.gone)
        assert check(), "the connection ended before what the test waits for"

    async def over(self, answer: Answer) -> Answer:
        async with self.changed, asyncio.timeout(PATIENCE):
            await self.changed.wait_for(lambda: answer.over or self.gone)
        answer.broken = not answer.whole
        return answer

    async def ask(
        self, method: str = "GET", path: str = "/", body: bytes = b"", headers: list[tuple[str, str]] | None = None
    ) -> Answer:
        """One whole exchange."""
        answer = self.start(method, path, headers, length=len(body) if body else None, end=not body)
        if body:
            self.data(answer, body, end=True)
        return await self.over(answer)

    async def close(self) -> None:
        self.pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.pump
        self.writer.close()


class Client1(Client):
    """HTTP/1.1 by h11."""

    version = "http/1.1"

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str = HOST) -> None:
        self.conn = h11.Connection(h11.CLIENT)
        self.answer: Answer | None = None
        super().__init__(reader, writer, host)

    def start(
        self,
        method: str,
        path: str = "/",
        headers: list[tuple[str, str]] | None = None,
        *,
        length: int | None = None,
        chunked: bool = False,
        end: bool = False,
    ) -> Answer:
        if self.answer is not None:
            self.conn.start_next_cycle()
        fields = [("host", self.host), *(headers or [])]
        if chunked:
            fields.append(("transfer-encoding", "chunked"))
        elif length is not None:
            fields.append(("content-length", str(length)))
        self.answer = Answer()
        self._send(h11.Request(method=method, target=path, headers=fields))
        if end:
            self._send(h11.EndOfMessage())
        return self.answer

    def _send(self, event: h11.Event) -> None:
        sent = self.conn.send(event)
        if sent:
            self.writer.write(sent)

    def data(self, answer: Answer, chunk: bytes, *, end: bool = False) -> None:
        if chunk:
            self._send(h11.Data(data=chunk))
        if end:
            self._send(h11.EndOfMessage())

    def leave(self, answer: Answer) -> None:
        self.writer.close()

    def _feed(self, chunk: bytes) -> None:
        answer = self.answer
        if answer is None:
            return
        try:
            self.conn.receive_data(chunk)
            while (event := self.conn.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.InformationalResponse):
                    answer.informational.append(event.status_code)
                elif isinstance(event, h11.Response):
                    answer.status = event.status_code
                    answer.headers = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    answer.body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    answer.whole = True
                else:
                    return
        except h11.RemoteProtocolError:
            answer.broken = True


class Client2(Client):
    """HTTP/2 by h2."""

    version = "h2"

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str = HOST) -> None:
        self.conn = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        )
        self.conn.initiate_connection()
        self.answers: dict[int, Answer] = {}
        self.streams: dict[int, int] = {}  # by id() of the answer
        self.queues: dict[int, list[tuple[bytes, bool]]] = {}
        super().__init__(reader, writer, host)
        self._flush()

    def _flush(self) -> None:
        for stream, queue in self.queues.items():
            while queue and not self.answers[stream].over:
                chunk, end = queue[0]
                size = min(len(chunk), self.conn.local_flow_control_window(stream), self.conn.max_outbound_frame_size)
                if chunk and size <= 0:
                    break
                last = size == len(chunk)
                self.conn.send_data(stream, chunk[:size], end_stream=end and last)
                queue[:1] = [] if last else [(chunk[size:], end)]
        self.writer.write(self.conn.data_to_send())

    def start(
        self,
        method: str,
        path: str = "/",
        headers: list[tuple[str, str]] | None = None,
        *,
        length: int | None = None,
        chunked: bool = False,
        end: bool = False,
        replace: list[tuple[str, str]] | None = None,
    ) -> Answer:
        stream = self.conn.get_next_available_stream_id()
        fields = [
            (":method", method),
            (":scheme", "https"),
            (":authority", self.host),
            (":path", path),
            *(headers or []),
        ]
        if length is not None:
            fields.append(("content-length", str(length)))
        fields = replace or fields
        answer = self.answers[stream] = Answer()
        self.streams[id(answer)] = stream
        self.queues[stream] = []
        self.conn.send_headers(stream, fields, end_stream=end)
        self._flush()
        return answer

    def data(self, answer: Answer, chunk: bytes, *, end: bool = False) -> None:
        self.queues[self.streams[id(answer)]].append((chunk, end))
        self._flush()

    def leave(self, answer: Answer) -> None:
        self.conn.reset_stream(self.streams[id(answer)], h2.errors.ErrorCodes.CANCEL)
        self._flush()

    def _feed(self, chunk: bytes) -> None:
        for event in self.conn.receive_data(chunk) if chunk else []:
            answer = self.answers.get(getattr(event, "stream_id", 0) or 0, Answer())
            if isinstance(event, h2.events.InformationalResponseReceived):
                answer.informational.append(int(dict(event.headers)[":status"]))
            elif isinstance(event, h2.events.ResponseReceived):
                answer.headers = dict(event.headers)
                answer.status = int(answer.headers[":status"])
            elif isinstance(event, h2.events.DataReceived):
                answer.body += event.data
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                answer.whole = True
            elif isinstance(event, h2.events.StreamReset):
                answer.broken = True
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.gone = True
        self._flush()


CLIENTS: dict[str, type[Client]] = {"h1": Client1, "h2": Client2}
