"""mitmproxy's connection handler, which now and then leaves a socket open that was closed by command.

A `CancelledError` that arrives while `handle_connection` waits for the lock of its events ends it before it has closed
its transport. The kernel then keeps the socket and what the peer still sends to it.
"""

from __future__ import annotations

import asyncio

from mitmproxy import http
from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events, mode_servers
from mitmproxy.utils import asyncio_utils

from .spooled import NextBlock


class WireConnectionHandler(mode_servers.ProxyConnectionHandler):
    """Closes what a connection's handler has left open."""

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Without mitmproxy's interception, which is not offered here: calls are held in the hook itself."""
        with self.timeout_watchdog.disarm():
            await self.master.addons.handle_lifecycle(hook)

    async def wakeup(self, request: commands.RequestWakeup) -> None:
        """A block of a spooled body is read when upstream has taken the ones before it."""
        if not isinstance(request, NextBlock):
            await super().wakeup(request)
            return
        await self.drain_writers()  # type: ignore[no-untyped-call]
        await request.read()
        task = asyncio.current_task()
        assert task is not None
        self.wakeup_timer.discard(task)
        await self.server_event(events.Wakeup(request))

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
    """Every connection that is accepted from now on gets this handler.

    Two things that mitmproxy does for its developers on every call are left out: names and times of tasks for its
    debugger, and a check of the types that its own parser has just made.
    """
    mode_servers.ProxyConnectionHandler = WireConnectionHandler  # type: ignore[misc]
    asyncio_utils.set_task_debug_info = _nothing
    http.MessageData.__post_init__ = _nothing  # type: ignore[method-assign]


def _nothing(*_args: object, **_more: object) -> None:
    return None
