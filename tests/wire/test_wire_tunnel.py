"""Events go into an open tunnel directly, and come out as they would on the long way through the layers around it."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref

from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events

from flowwarden import access
from flowwarden.wire import connections, tunnel
from support.harness import HOST, PATIENCE, At, Proxy, after, running

ASK = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
CONNECT = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode()


def handlers(proxy: Proxy) -> list[connections.WireConnectionHandler]:
    return list(proxy.master.addons.get("proxyserver").connections.values())


class Hello:
    """A TLS client whose records are in the test's hands."""

    def __init__(self, proxy: Proxy) -> None:
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = proxy.trust(["http/1.1"]).wrap_bio(self.into, self.out, server_hostname=HOST)

    def step(self, received: bytes = b"", text: bytes = b"") -> tuple[bytes, bytes]:
        """(what is to be sent, what was read)."""
        if received:
            self.into.write(received)
        read = b""
        try:
            self.tls.do_handshake()
            if text:
                self.tls.write(text)
            while part := self.tls.read():
                read += part
        except ssl.SSLWantReadError:
            pass
        return self.out.read(), read

    async def asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """The answer to one request, sent when the handshake is done."""
        read, asked = b"", False
        while b"hello" not in read:
            out, more = self.step(await asyncio.wait_for(reader.read(65536), PATIENCE))
            read += more
            if not asked and self.tls.version():
                asked = True
                out += self.step(text=ASK)[0]
            writer.write(out)
        return read


async def test_the_layers_around_a_tunnel_are_passed_by():
    async with running() as proxy, proxy.client("h1") as client:
        assert (await client.ask("GET", "/")).status == 200
        (handler,) = handlers(proxy)
        within = tunnel.TUNNELS[handler.client]
        seen: list[events.Event] = []
        whole = handler.layer.handle_event
        handler.layer.handle_event = lambda event: (seen.append(event), whole(event))[1]
        inside: list[events.Event] = []
        direct = within.inner.handle_event
        within.inner.handle_event = lambda event: (inside.append(event), direct(event))[1]
        assert (await client.ask("GET", "/")).status == 200
        assert not seen and len(inside) >= 3  # the request, the hook's end, the answer


async def test_a_hello_that_comes_with_its_connect_is_not_lost():
    """What lies behind a CONNECT in the same packet takes the long way; what it began there ends there."""
    async with running() as proxy, proxy.raw(connect=False) as (reader, writer):
        hello = Hello(proxy)
        writer.write(CONNECT + hello.step()[0])
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert b" 200 " in head
        read = await hello.asked(reader, writer)
        assert read.startswith(b"HTTP/1.1 200 ")
        assert len(proxy.upstream.requests) == 1


async def test_tls_to_the_proxy_keeps_the_long_way():
    """There an outer layer still has to decrypt every byte."""
    async with running() as proxy:
        context = proxy.trust(["http/1.1"])
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=context, server_hostname=HOST)
        writer.write(CONNECT)
        assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        hello = Hello(proxy)
        writer.write(hello.step()[0])
        read = await hello.asked(reader, writer)
        assert read.startswith(b"HTTP/1.1 200 ")
        assert all(handler.client not in tunnel.TUNNELS for handler in handlers(proxy))
        writer.close()


async def test_a_client_that_leaves_its_tunnel_is_noticed():
    """Its close reaches the inner layers, and everything of it ends."""
    waits, noticed = asyncio.Event(), asyncio.Event()

    async def hold(flow):
        waits.set()
        await asyncio.wait_for(access.of(flow).gone.wait(), PATIENCE)
        noticed.set()

    async with running(change=after("decide", At("hold", request=hold))) as proxy:
        async with proxy.tunnel() as (_, writer):
            writer.write(ASK)
            await asyncio.wait_for(waits.wait(), PATIENCE)
            (handler,) = handlers(proxy)
            assert handler.client in tunnel.TUNNELS
        await asyncio.wait_for(noticed.wait(), PATIENCE)
        await proxy.recording.until()
        assert not proxy.upstream.requests


class Fixed:
    def __init__(self, *found: commands.Command) -> None:
        self.found = found

    def handle_event(self, _event: events.Event):
        yield from self.found


def test_commands_come_out_as_on_the_long_way():
    """A half-close is a close, and a log line quotes no byte of a peer."""
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    inner = Fixed(commands.CloseTcpConnection(client, half_close=True), commands.Log("Unexpected data: b'secret'"))
    close, log = tunnel.Tunnel(None, inner).commands(events.Start())
    assert type(close) is commands.CloseConnection and close.connection is client
    assert "secret" not in log.message


async def test_nothing_of_a_tunnel_outlives_its_client():
    """A gateway runs for weeks: the layers, streams and TLS state of each connection go with it."""
    async with running() as proxy:
        async with proxy.client("h1") as client:
            assert (await client.ask("GET", "/")).status == 200
            (handler,) = handlers(proxy)
            gone = [weakref.ref(handler.client), weakref.ref(handler.layer)]
        del handler
        async with asyncio.timeout(PATIENCE):
            while handlers(proxy):  # noqa: ASYNC110 nobody tells when a handler is done
                await asyncio.sleep(0.001)
        for _ in range(3):
            await asyncio.sleep(0)
            gc.collect()
        assert [each() for each in gone] == [None, None]
