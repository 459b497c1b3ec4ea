"""WebSockets after an allowed upgrade: what is recorded of them, and how they end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.websocket import (
    WebsocketConnection,
    WebsocketEndHook,
    WebsocketLayer,
    WebSocketMessageInjected,
)
from mitmproxy.websocket import WebSocketMessage
from wsproto import events as ws
from wsproto.connection import ConnectionState
from wsproto.frame_protocol import Opcode

from ..errors import Refusal, traced
from .gate import Commands, Gate

log = logging.getLogger("flowwarden")

GOING_AWAY, POLICY, TOO_BIG, FAILED = 1001, 1008, 1009, 1011  # RFC 6455 section 7.4.1


@dataclass
class EndWebsocket(WebSocketMessageInjected):
    """Injected from outside: the flow's refusal says why it ends, `code` is what both sides are told."""

    message: Any = None
    code: int = POLICY


class WireWebsocket(WebsocketLayer):
    """A WebSocket that ends on both sides as soon as it is refused, and whose close waits until it is recorded."""

    gate: Gate

    def start(self, event: events.Event) -> Commands:
        yield from super().start(event)
        for side, from_client in ((self.client_ws, True), (self.server_ws, False)):
            setattr(side, "events", self._tapped(side, from_client))  # noqa: B010 - a method of this one object
        self.gate.opened(self.flow)

    _handle_event = start

    def _tapped(self, side: WebsocketConnection, from_client: bool) -> Callable[[], Iterator[ws.Event]]:
        """The side's events; pings and pongs are put among the messages, which mitmproxy does not do."""
        real = side.events

        def each() -> Iterator[ws.Event]:
            for event in real():
                if isinstance(event, ws.Ping | ws.Pong):
                    kind = Opcode.PING if isinstance(event, ws.Ping) else Opcode.PONG
                    assert self.flow.websocket
                    self.flow.websocket.messages.append(WebSocketMessage(kind, from_client, bytes(event.payload)))
                yield event

        return each

    def relay_messages(self, event: events.Event) -> Commands:
        if isinstance(event, EndWebsocket):
            yield from self._end(event.code)
            return
        try:
            yield from self._relayed(super().relay_messages(event))
        except Exception as crash:
            log.error("a WebSocket failed: %s\n%s", type(crash).__name__, traced(crash))
            why = f"{type(crash).__name__} in the gateway"
            self.gate.refuse(self.flow, Refusal(why, status=502, code="GatewayError", station="wire"))
            yield from self._end(FAILED)
            return
        if self.gate.verdict(self.flow):
            yield from self._end(POLICY)
        elif any(sum(map(len, side.frame_buf)) > self.gate.body_limit for side in (self.client_ws, self.server_ws)):
            why = f"a WebSocket message is larger than the {self.gate.body_limit} bytes that the gateway reads whole"
            self.gate.refuse(self.flow, Refusal(why, status=413, code="RequestEntityTooLarge", station="wire"))
            yield from self._end(TOO_BIG)

    def _relayed(self, run: Commands) -> Commands:
        """mitmproxy's commands, the close of both sides held until the hook that records it is done."""
        assert self.flow.websocket
        held: list[commands.Command] = []
        reply = None
        while True:
            try:
                command = run.send(reply)
            except StopIteration:
                break
            if self.flow.websocket.timestamp_end and not isinstance(command, WebsocketEndHook):
                held.append(command)
                reply = None
            else:
                reply = yield command
        yield from self._released(held)

    def _end(self, code: int) -> Commands:
        """Ends both sides with a code, once that is recorded."""
        assert self.flow.websocket
        if self.flow.websocket.timestamp_end:
            return
        why = self.gate.verdict(self.flow)
        data = self.flow.websocket
        data.timestamp_end, data.closed_by_client = time.time(), None
        data.close_code, data.close_reason = code, (why.message if why else "").encode()[:120].decode("utf-8", "ignore")
        self._handle_event = self.done  # type: ignore[method-assign]
        yield WebsocketEndHook(self.flow)
        self.flow.live = False
        held: list[commands.Command] = []
        for side in (self.server_ws, self.client_ws):
            if side.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
                held.append(side.send2(ws.CloseConnection(code, data.close_reason)))
            held.append(commands.CloseConnection(side.conn))
        yield from held

    def _released(self, held: list[commands.Command]) -> Commands:
        """What closes both sides; without a clean close where that could not be recorded."""
        refused = self.gate.verdict(self.flow)
        for command in held:
            if not (refused and isinstance(command, commands.SendData)):
                yield command
