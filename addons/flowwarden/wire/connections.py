"""mitmproxy's connection handler, which now and then leaves a socket open that was closed by command.

A `CancelledError` that arrives while `handle_connection` waits for the lock of its events ends it before it has closed
its transport. The kernel then keeps the socket and what the peer still sends to it.
"""

from __future__ import annotations

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import events, mode_servers


class WireConnectionHandler(mode_servers.ProxyConnectionHandler):
    """Closes what a connection's handler has left open."""

    async def handle_connection(self, connection: Connection) -> None:
        try:
            await super().handle_connection(connection)
        finally:
            left = self.transports.pop(connection, None)
            if left is not None:
                connection.state = ConnectionState.CLOSED
                if left.writer is not None:
                    left.writer.close()
                await self.server_event(events.ConnectionClosed(connection))


def install() -> None:
    """Every connection that is accepted from now on gets this handler."""
    mode_servers.ProxyConnectionHandler = WireConnectionHandler  # type: ignore[misc]
