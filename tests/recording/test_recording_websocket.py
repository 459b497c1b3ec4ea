"""WebSockets through the real chain: one intent, one outcome, all that passed, and an end when the session or gateway ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import wsproto
from mitmproxy.io import FlowReader
from wsproto import events as ws

from flowwarden.errors import StoreError
from flowwarden.recording import messages
from flowwarden.recording.read import frame_state, full_bodies, outcomes
from flowwarden.recording.recorder import Recorder
from flowwarden.recording.verify import verify
from flowwarden.services import sandbox
from flowwarden.sockets import SESSION_ENDED
from support import whole as support
from support.whole import HOST, Whole, whole
from support.wire_clients import PATIENCE

ALLOWED = {"id": "sockets", "effect": "allow", "actions": ["s3:GetObject"], "websocket": True, "mask": "off"}


class Echo:
    """A WebSocket server that answers in capitals, asks with a ping, and says how it was closed."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.pongs: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conn = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                conn.receive_data(data)
                for event in conn.events():
                    writer.write(self.answer(conn, event))
                await writer.drain()
        if not self.closed.done():
            self.closed.set_result(1006)
        writer.close()

    def answer(self, conn: wsproto.WSConnection, event: ws.Event) -> bytes:
        if isinstance(event, ws.Request):
            return conn.send(ws.AcceptConnection()) + conn.send(ws.Ping(b"are you there"))
        if isinstance(event, ws.TextMessage):
            return conn.send(ws.TextMessage(event.data.upper()))
        if isinstance(event, ws.Pong):
            self.pongs.append(bytes(event.payload))
        if isinstance(event, ws.CloseConnection):
            if not self.closed.done():
                self.closed.set_result(event.code)
            return conn.send(event.response())
        return b""


class Socket:
    """The agent's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.conn = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self.heard: list[ws.Event] = []

    async def send(self, event: ws.Event) -> None:
        self.writer.write(self.conn.send(event))
        await self.writer.drain()

    async def hear(self, kind: type) -> Any:
        """The next event of a kind; pings are answered meanwhile. None at the connection's end."""
        while True:
            while self.heard:
                event = self.heard.pop(0)
                if isinstance(event, ws.Ping):
                    await self.send(event.response())
                if isinstance(event, kind):
                    return event
            data = await asyncio.wait_for(self.reader.read(65536), PATIENCE)
            if not data:
                return None
            self.conn.receive_data(data)
            self.heard += self.conn.events()

    async def say(self, text: str) -> str:
        await self.send(ws.TextMessage(text))
        answer = ""
        while True:
            part = await self.hear(ws.TextMessage)
            answer += part.data
            if part.message_finished:
                return answer


@contextlib.asynccontextmanager
async def gateway(folder: Path, monkeypatch: pytest.MonkeyPatch, **rule: Any) -> AsyncIterator[tuple[Whole, Echo]]:
    monkeypatch.setitem(support.POLICY, "rules", [{**ALLOWED, **rule}])
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with whole(folder) as made:
        made.services.sandbox = sandbox(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield made, echo
    server.close()


@contextlib.asynccontextmanager
async def opened(made: Whole) -> AsyncIterator[Socket]:
    _, fields = made.head("GET", "/socket")
    async with made.tunnel(HOST) as (reader, writer):
        await writer.start_tls(made.trust("http/1.1"), server_hostname=HOST)
        socket = Socket(reader, writer)
        await socket.send(
            ws.Request(host=HOST, target="/socket", extra_headers=[(n.encode(), v.encode()) for n, v in fields])
        )
        assert await socket.hear(ws.AcceptConnection)
        yield socket


async def ended(made: Whole) -> list[dict[str, Any]]:
    """All outcomes, once no flow is under way."""
    await asyncio.wait_for(made.guard.idle.wait(), PATIENCE)
    assert len(made.guard.sockets) == 0
    return [record for record in await made.evidence() if record["type"] == "outcome"]


def recorded(folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """The one outcome and its messages as (kind, from the client, content)."""
    [(_, end)] = outcomes(folder / "recordings")
    state = full_bodies(folder / "recordings", frame_state(folder / "recordings", end["frame"]), end)
    return end, [(kind, client, content) for kind, client, content, *_ in state["websocket"]["messages"]]


async def test_one_outcome_and_all_that_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages both ways, pings and pongs with what they carry, and the close; stock mitmproxy reads it."""
    async with gateway(tmp_path, monkeypatch) as (made, echo):
        async with opened(made) as socket:
            assert [record["type"] for record in await made.evidence()].count("outcome") == 0
            assert await socket.say("hello") == "HELLO"
            await socket.send(ws.CloseConnection(1000, "done"))
            assert (await socket.hear(ws.CloseConnection)).code == 1000
        assert await asyncio.wait_for(echo.closed, PATIENCE) == 1000
        [end] = await ended(made)
        assert (end["outcome"], end["status"], end["intent"] is not None) == ("ok", 101, True)
        assert end["notes"] == ["WebSocket closed with 1000 done"] and end["bytes"] == 10
        assert echo.pongs == [b"are you there"]
    end, told = recorded(tmp_path)
    assert sorted(told) == sorted(
        [(9, False, b"are you there"), (10, True, b"are you there"), (1, True, b"hello"), (1, False, b"HELLO")]
    )
    with (tmp_path / "recordings" / end["frame"]["file"]).open("rb") as file:
        [flow] = FlowReader(file).stream()
    assert [message.content for message in flow.websocket.messages if message.type == 1] == [b"hello", b"HELLO"]
    assert verify(tmp_path / "recordings").verdict == "valid"


async def test_it_ends_with_its_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides are told 1008, once the outcome is on disk; another session's goes on."""
    async with gateway(tmp_path, monkeypatch) as (made, echo):
        async with opened(made) as socket:
            assert await socket.say("hello") == "HELLO"
            made.guard.sockets.end(SESSION_ENDED, 1008, "somebody else's")
            assert await socket.say("still") == "STILL"
            [session] = made.services.sessions.list()
            made.services.sessions.end(session.id, "revoked")
            close = await socket.hear(ws.CloseConnection)
            assert (close.code, close.reason) == (1008, "the session has ended")
            [end] = [record for record in await made.evidence() if record["type"] == "outcome"]
            assert (end["outcome"], end["code"]) == ("cut", "ExpiredToken")
            assert await socket.hear(ws.Event) is None
        assert await asyncio.wait_for(echo.closed, PATIENCE) == 1008
        assert len(await ended(made)) == 1
    _, told = recorded(tmp_path)
    assert (1, False, b"STILL") in told


async def test_it_ends_when_the_gateway_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop does not wait for what lasts for hours: 1001 to both sides, an outcome, and the drain is over at once."""
    async with gateway(tmp_path, monkeypatch) as (made, echo):
        async with opened(made) as socket:
            assert await socket.say("hello") == "HELLO"
            made.master.stop()
            assert (await socket.hear(ws.CloseConnection)).code == 1001
        assert await asyncio.wait_for(echo.closed, PATIENCE) == 1001
        [end] = await ended(made)
        assert (end["outcome"], end["reason"]) == ("cut", "the gateway stops")


@pytest.mark.parametrize("side", ["agent", "upstream"])
async def test_a_connection_that_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    """Without a close frame the outcome says that it was cut."""
    async with gateway(tmp_path, monkeypatch) as (made, echo):
        async with opened(made) as socket:
            assert await socket.say("hello") == "HELLO"
            if side == "agent":
                socket.writer.transport.abort()
            else:
                echo.answer = lambda *_: (_ for _ in ()).throw(ConnectionResetError())  # type: ignore[method-assign]
                await socket.send(ws.TextMessage("die"))
                await socket.hear(ws.CloseConnection)
        [end] = await ended(made)
        assert end["outcome"] == "cut" and end["notes"][0].startswith("WebSocket closed with 1006")


async def test_no_clean_close_without_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at the end: the agent gets no close frame that says all is well."""
    async with gateway(tmp_path, monkeypatch) as (made, _):
        async with opened(made) as socket:
            assert await socket.say("hello") == "HELLO"

            async def full(*_: Any, **__: Any) -> int:
                raise StoreError("no space left on device")

            monkeypatch.setattr(Recorder, "outcome", full)
            await socket.send(ws.CloseConnection(1000))
            assert await socket.hear(ws.CloseConnection) is None
        await asyncio.wait_for(made.guard.idle.wait(), PATIENCE)
        monkeypatch.undo()
    [(_, end)] = outcomes(tmp_path / "recordings")
    assert (end["outcome"], end["code"]) == ("unknown", "OUTCOME_UNKNOWN")


async def test_what_does_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many messages go to bodies/ as they pass, and come back in order; memory holds a few."""
    monkeypatch.setattr(messages, "MOST", 100_000)
    sent = [f"{n:05d}" * 4000 for n in range(30)]
    async with gateway(tmp_path, monkeypatch) as (made, _):
        async with opened(made) as socket:
            for text in sent:
                assert await socket.say(text) == text.upper()
                [flow] = made.guard.sockets._open.values()
                assert sum(len(message.content) for message in flow.websocket.messages) < 120_000
            await socket.send(ws.CloseConnection(1000))
            await socket.hear(ws.CloseConnection)
        [end] = await ended(made)
        assert end["bytes"] == sum(map(len, sent)) * 2
    end, told = recorded(tmp_path)
    assert [body["of"] for body in end["bodies"]] == ["websocket"]
    assert [content.decode() for kind, client, content in told if kind == 1 and client] == sent
    assert verify(tmp_path / "recordings").verdict == "valid"


async def test_a_message_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that fails: the message does not pass, and both sides are closed."""
    monkeypatch.setattr(messages, "MOST", 11)

    def full(_: Any) -> Any:
        raise StoreError("no space left on device")

    async with gateway(tmp_path, monkeypatch) as (made, echo):
        monkeypatch.setattr(Recorder, "body_sink", full)
        async with opened(made) as socket:
            assert await socket.say("hello") == "HELLO"
            await socket.send(ws.TextMessage("more than ten"))
            assert (await socket.hear(ws.TextMessage | ws.CloseConnection)).code == 1008
        assert await asyncio.wait_for(echo.closed, PATIENCE) == 1008
        [end] = await ended(made)
        assert (end["outcome"], end["code"]) == ("cut", "ServiceUnavailable")


async def test_a_message_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message in fragments that never ends is not held beyond the limit: 1009."""
    async with gateway(tmp_path, monkeypatch) as (made, _):
        made.guard.body_limit = 200_000
        async with opened(made) as socket:
            for _ in range(10):
                await socket.send(ws.TextMessage("x" * 50_000, message_finished=False))
            assert (await socket.hear(ws.CloseConnection)).code == 1009
        [end] = await ended(made)
        assert (end["outcome"], end["code"]) == ("cut", "RequestEntityTooLarge")


async def test_metadata_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`record: metadata` leaves hash and length of the messages, and nothing of them."""
    async with gateway(tmp_path, monkeypatch, record="metadata") as (made, _):
        async with opened(made) as socket:
            assert await socket.say("confidential") == "CONFIDENTIAL"
            await socket.send(ws.CloseConnection(1000))
            await socket.hear(ws.CloseConnection)
        [end] = await ended(made)
        [body] = end["bodies"]
        assert (body["of"], body["kept"]) == ("websocket", False) and body["size"] > 24
        assert end["bytes"] == 24
    for path in (tmp_path / "recordings").rglob("*"):
        if path.is_file():
            assert b"confidential" not in path.read_bytes().lower()
