"""mitmproxy's connection handler with a short way through the layers, and every socket closed.

A `CancelledError` that arrives while `handle_connection` waits for the lock of its events ends it before it has closed
its transport. The kernel then keeps the socket and what the peer still sends to it.
"""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakKeyDictionary

from mitmproxy import http
from mitmproxy.connection import Client, Connection, ConnectionState
from mitmproxy.proxy import commands, context, events, layer, mode_servers
from mitmproxy.proxy.layers import ClientTLSLayer, HttpLayer
from mitmproxy.utils import asyncio_utils

from . import headers, tls
from .gate import Commands, without_bytes

BLOCK = 256 * 1024  # bytes that asyncio takes from a socket at once

TUNNELS: WeakKeyDictionary[Client, Tunnel] = WeakKeyDictionary()


class Tunnel:
    """What lies inside an open CONNECT tunnel. Nothing around it changes a byte any more, so events go there directly.

    Around it are the mode's layer, the HTTP layer that took the CONNECT, its HTTP/1 connection and its stream: each would
    wrap, route and unwrap every event and command, which is a sixth of what a small call costs.
    """

    def __init__(self, outer: HttpLayer, inner: layer.Layer) -> None:
        self.outer = outer
        self.inner = inner

    def takes(self, event: events.Event) -> bool:
        """Not the completion of what was begun on the long way."""
        return not isinstance(event, events.CommandCompleted) or event.command not in self.outer.command_sources

    def commands(self, event: events.Event) -> Commands:
        """What the inner layers want done, in the form in which it would have come out on the long way."""
        for command in self.inner.handle_event(event):
            if type(command) is commands.CloseTcpConnection:
                yield commands.CloseConnection(command.connection)  # a tunnel knows no half-closed connection
                continue
            if isinstance(command, commands.Log):
                command.message = without_bytes(command.message)
            yield command


def opened(outer: HttpLayer, inner: layer.Layer) -> None:
    """A CONNECT was answered and its connection is a pipe now."""
    if not any(isinstance(each, ClientTLSLayer) for each in outer.context.layers):
        TUNNELS[outer.context.client] = Tunnel(outer, inner)  # with TLS to the proxy, that layer still has to decrypt


class Blocks:
    """A reader that gives all that has come. mitmproxy asks for 64 KiB of what may be 256: each part costs a walk."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def read(self, _size: int) -> bytes:
        return await self._reader.read(BLOCK)


class WireConnectionHandler(mode_servers.ProxyConnectionHandler):
    """Sends events into an open tunnel directly, and closes what a connection's handler has left open."""

    _tunnel: Tunnel | None = None

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Without mitmproxy's interception, which is not offered here: calls are held in the hook itself."""
        with self.timeout_watchdog.disarm():
            await self.master.addons.handle_lifecycle(hook)

    async def server_event(self, event: events.Event) -> None:
        """One event after the other; a task that begins at once could otherwise come back in here (mitmproxy #7027)."""
        async with self._server_event_lock:
            self.timeout_watchdog.register_activity()
            try:
                for command in self._commands(event):
                    self._carry_out(command)
            except Exception:
                self.log("mitmproxy has crashed!", logging.ERROR, exc_info=True)

    def _commands(self, event: events.Event) -> Commands:
        tunnel = self._tunnel
        if tunnel is None:
            tunnel = self._tunnel = TUNNELS.get(self.client)
        if tunnel is not None and tunnel.takes(event):
            return tunnel.commands(event)
        return self.layer.handle_event(event)

    def _carry_out(self, command: commands.Command) -> None:
        if isinstance(command, commands.SendData):
            transport = self.transports.get(command.connection)
            if transport is not None and transport.writer is not None and not transport.writer.is_closing():
                transport.writer.write(command.data)
        elif isinstance(command, commands.StartHook):
            asyncio_utils.create_task(
                self.hook_task(command), name=command.name, keep_ref=True, client=self.client.peername
            )
        elif isinstance(command, commands.OpenConnection):
            assert command.connection not in self.transports
            handler = asyncio_utils.create_task(
                self.open_connection(command), name="server connection", keep_ref=False, client=self.client.peername
            )
            self.transports[command.connection] = mode_servers.server.ConnectionIO(handler=handler)
        elif isinstance(command, commands.RequestWakeup):
            task = asyncio_utils.create_task(
                self.wakeup(command), name="wakeup timer", keep_ref=False, client=self.client.peername
            )
            self.wakeup_timer.add(task)
        elif isinstance(command, commands.CloseConnection):
            if command.connection in self.transports:
                half = isinstance(command, commands.CloseTcpConnection) and command.half_close
                self.close_connection(command.connection, half)
        elif isinstance(command, commands.Log):
            self.log(command.message, command.level)
        else:
            raise TypeError(f"Unexpected command: {command}")

    async def drain_writers(self) -> None:
        """Waits where a peer does not take its bytes; where nothing is left to write there is nothing to wait for."""
        for transport in self.transports.values():
            writer = transport.writer
            if isinstance(writer, asyncio.StreamWriter) and writer.transport.get_write_buffer_size():
                await super().drain_writers()  # type: ignore[no-untyped-call]
                return

    async def handle_connection(self, connection: Connection) -> None:
        transport = self.transports[connection]
        if isinstance(transport.reader, asyncio.StreamReader):
            transport.reader = Blocks(transport.reader)  # type: ignore[assignment]
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

    Things that mitmproxy does on every call and nobody needs here are left out: names and times of tasks for its
    debugger, a check of the types that its own parser has just made, a server connection a stream that is never used.
    """
    mode_servers.ProxyConnectionHandler = WireConnectionHandler  # type: ignore[misc]
    asyncio_utils.set_task_debug_info = _nothing
    http.MessageData.__post_init__ = _nothing  # type: ignore[method-assign]
    context.Context.fork = _fork  # type: ignore[method-assign]
    tls.install()
    headers.install()


def _fork(self: context.Context) -> context.Context:
    """mitmproxy's own makes a server connection, with its random id, for each message and drops it at once."""
    made = object.__new__(context.Context)
    made.client, made.options, made.server = self.client, self.options, self.server
    made.layers = self.layers.copy()
    return made


def _nothing(*_args: object, **_more: object) -> None:
    return None
