"""mitmproxy's connection handler: a short way into tunnels, large reads, backpressure over HTTP/2, every socket closed.

A `CancelledError` that arrives while `handle_connection` waits for the lock of its events ends it before it has closed
its transport. The kernel then keeps the socket and what the peer still sends to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any
from weakref import WeakValueDictionary

import mitmproxy.flow
from mitmproxy import http
from mitmproxy.connection import Client, Connection, ConnectionState, Server
from mitmproxy.proxy import commands, context, events, mode_servers
from mitmproxy.utils import asyncio_utils

from ..errors import traced
from . import headers, tls, tunnel
from .gate import Behind, Commands
from .spooled import NextBlock

BLOCK = 256 * 1024  # bytes that asyncio takes from a socket at once
BACKLOG = 1 << 20  # bytes of one upstream connection's answer that wait for an HTTP/2 client's window

_KINDS = frozenset({Client, Server})
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


class Blocks:
    """A reader that gives all that has come. mitmproxy asks for 64 KiB of what may be 256: each part costs a walk."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        reader._limit = BLOCK // 2  # type: ignore[attr-defined]  # else it stops and starts the socket at each block

    async def read(self, _size: int) -> bytes:
        return await self._reader.read(BLOCK)


class WireConnectionHandler(mode_servers.ProxyConnectionHandler):
    """One client and the connections made for it."""

    _tunnel: tunnel.Tunnel | None = None
    waiting: Callable[[Connection | None], int] | None = None

    async def handle_client(self) -> None:
        _handlers[self.client.id] = self
        self.moved = asyncio.Event()
        self._behind: list[Future[None]] = []
        self._reading: dict[asyncio.Task[None] | None, Connection] = {}
        await super().handle_client()

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
                self.moved.set()
            except Exception as crash:
                self.log(f"the layers of a connection failed: {traced(crash)}", logging.ERROR)

    def _commands(self, event: events.Event) -> Commands:
        inside = self._tunnel
        if inside is None:
            inside = self._tunnel = tunnel.TUNNELS.get(self.client)
        if inside is not None and inside.takes(event):
            return inside.commands(event)
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
        elif isinstance(command, Behind):
            self._behind.append(command.work)
        elif isinstance(command, commands.Log):
            self.log(command.message, command.level)
        else:
            raise TypeError(f"Unexpected command: {command}")

    async def drain_writers(self) -> None:
        """Waits where a peer does not take its bytes (in its socket's buffer, or in HTTP/2's windows), or a thread is behind."""
        while work := next((work for work in self._behind if not work.done()), None):
            await _done(work)
        self._behind.clear()
        for transport in self.transports.values():
            writer = transport.writer
            if isinstance(writer, asyncio.StreamWriter) and writer.transport.get_write_buffer_size():
                await super().drain_writers()  # type: ignore[no-untyped-call]
                break
        if self.waiting is None:
            return
        connection = self._reading.get(asyncio.current_task())
        while connection is not None and connection is not self.client and self.waiting(connection) > BACKLOG:
            self.moved.clear()
            await self.moved.wait()

    async def wakeup(self, request: commands.RequestWakeup) -> None:
        """A block of a spooled body is read when upstream has taken the ones before it."""
        if not isinstance(request, NextBlock):
            await super().wakeup(request)
            return
        await self.drain_writers()
        while request.waiting() > BACKLOG:
            self.moved.clear()
            await self.moved.wait()
        await request.read()
        task = asyncio.current_task()
        assert task is not None
        self.wakeup_timer.discard(task)
        await self.server_event(events.Wakeup(request))

    async def handle_connection(self, connection: Connection) -> None:
        transport = self.transports[connection]
        if isinstance(transport.reader, asyncio.StreamReader):
            transport.reader = Blocks(transport.reader)  # type: ignore[assignment]
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


async def _done(work: Future[None]) -> None:
    """Waits for work in a thread; what came of it learns who asks for its result."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def tell(_work: Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    work.add_done_callback(tell)
    await done.wait()


def install() -> None:
    """Every connection that is accepted from now on gets this handler.

    Things that mitmproxy does on every call and nobody needs here are left out: names and times of tasks for its
    debugger, a check of the types that its own parser has just made, a server connection a stream that is never used,
    questions to an abstract class, and objects for ids.
    """
    mode_servers.ProxyConnectionHandler = WireConnectionHandler  # type: ignore[misc]
    asyncio_utils.set_task_debug_info = _nothing
    http.MessageData.__post_init__ = _nothing  # type: ignore[method-assign]
    context.Context.fork = _fork  # type: ignore[method-assign]
    Connection.__eq__ = _same  # type: ignore[method-assign]
    mitmproxy.flow.uuid = _Ids  # type: ignore[assignment]
    tls.install()
    headers.install()


def _fork(self: context.Context) -> context.Context:
    """mitmproxy's own makes a server connection, with its random id, for each message and drops it at once."""
    made = object.__new__(context.Context)
    made.client, made.options, made.server = self.client, self.options, self.server
    made.layers = self.layers.copy()
    return made


def _same(self: Connection, other: Any) -> bool:
    """As mitmproxy's own, which asks an abstract class each time about what is nearly always this very object."""
    return self is other or ((other.__class__ in _KINDS or isinstance(other, Connection)) and self.id == other.id)


class _Ids:
    """Stands in for the module `uuid` where flows are made: text at once, without an object whose text is wanted."""

    @staticmethod
    def uuid4() -> str:
        """A random UUID (RFC 9562, section 5.4)."""
        digits = os.urandom(16).hex()
        variant = "89ab"[int(digits[16], 16) & 3]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _nothing(*_args: object, **_more: object) -> None:
    return None
