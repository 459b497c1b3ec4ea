"""WebSockets after an allowed upgrade."""

from __future__ import annotations

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebsocketLayer

from .gate import Commands, Gate


class WireWebsocket(WebsocketLayer):
    """A WebSocket that ends on both sides as soon as a message was refused."""

    gate: Gate

    def relay_messages(self, event: events.Event) -> Commands:
        yield from super().relay_messages(event)
        if self.gate.verdict(self.flow) and self._handle_event != self.done:
            self._handle_event = self.done
            yield commands.CloseConnection(self.context.server)
            yield commands.CloseConnection(self.context.client)
            yield WebsocketEndHook(self.flow)
            self.flow.live = False
