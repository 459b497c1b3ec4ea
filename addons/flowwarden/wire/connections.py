"""mitmproxy's connection handler, which now and then leaves a socket open that was closed by command.

A `CancelledError` that arrives while `handle_connection` waits for the lock of its events ends it before it has closed
its transport. The kernel then keeps the socket and what the peer still sends to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

from mitmproxy import http
from mitmproxy.connection import Client, Connection, ConnectionState
from mitmproxy.proxy import commands, events, mode_servers
from mitmproxy.utils import asyncio_utils

BACKLOG = 1 << 20  # bytes of one upstream connection's answer that wait for an HTTP/2 client's window

_handlers: WeakValueDictionary[str, WireConnectionHandler] = WeakValueDictionary()


def unsent(client: Client) -> int:
    """Bytes that a client's connection still holds because the client has not read them."""
    handler = _handlers.get(client.id)
    transport = handler.transports.get(client) if handler is not None else None
    if handler is None or transport is None or transport.writer is None:
        return 0
    in_windows = handler.waiting(None) if handler.waiting is not None else 0
    return in_windows + transport.writer.transport.get_write_buffer_size()  # type: ignore[union-attr]


def throttle(client: Client, waiting: Callable[[Connection | None], int]) -> None:
    """Over HTTP/2: no more is read from an upstream connection while `waiting` bytes of it are too many."""
    handler = _handlers.get(client.id)
    if handler is not None:
        handler.waiting = waiting


def moved(client: Client) -> None:
    """Says that what waits for a client may have become less."""
    handler = _handlers.get(client.id)
    if handler is not None:
        handler.moved.set()


class WireConnectionHandler(mode_servers.ProxyConnectionHandler):
    """Closes what a connection's handler has left open, and reads from upstream no faster than an HTTP/2 client takes."""

    waiting: Callable[[Connection | None], int] | None = None

    async def handle_client(self) -> None:
        _handlers[self.client.id] = self
        self.moved = asyncio.Event()
        self._reading: dict[asyncio.Task[None] | None, Connection] = {}
        await super().handle_client()

    async def drain_writers(self) -> None:
        """mitmproxy waits for sockets only; what waits for an HTTP/2 window lies in its own buffers."""
        await super().drain_writers()  # type: ignore[no-untyped-call]
        if self.waiting is None:
            return
        connection = self._reading.get(asyncio.current_task())
        while connection is not None and connection is not self.client and self.waiting(connection) > BACKLOG:
            self.moved.clear()
            await self.moved.wait()

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Without mitmproxy's interception, which is not offered here: calls are held in the hook itself."""
        with self.timeout_watchdog.disarm():
            await self.master.addons.handle_lifecycle(hook)

    async def handle_connection(self, connection: Connection) -> None:
        task = asyncio.current_task()
        self._reading[task] = connection
        try:
            await super().handle_connection(connection)
        finally:
            self._reading.pop(task, None)
            left = self.transports.pop(connection, None)
            if left is not None:
                connection.state = ConnectionState.CLOSED
                if left.writer is not None:
                    left.writer.close()
                await self.server_event(events.ConnectionClosed(connection))


def install() -> None:
    """Every connection that is accepted from now on gets this handler.

    Two things that mitmproxy does for its developers on every call are left out: names and times of tasks for its
    debugger, and a check of the types that its own parser has just made.
    """
    mode_servers.ProxyConnectionHandler = WireConnectionHandler  # type: ignore[misc]
    asyncio_utils.set_task_debug_info = _nothing
    http.MessageData.__post_init__ = _nothing  # type: ignore[method-assign]


def _nothing(*_args: object, **_more: object) -> None:
    return None
