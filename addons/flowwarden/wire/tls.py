"""TLS records in and out of OpenSSL's memory in as few calls as may be, without the exception at each end of data.

A small call meets that end six times. What is read and sent, and in which order, is as in mitmproxy's own layer.
"""

from __future__ import annotations

import contextlib
from logging import WARNING

from mitmproxy import connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.tls import TLSLayer
from OpenSSL import SSL

from .gate import Commands

_SIZE = 288 * 1024  # a block of a socket and what TLS adds to it: what comes at once also leaves at once
_BUFFER = SSL._ffi.new("char[]", _SIZE)  # type: ignore[attr-defined]  # one thread reads, and copies before it goes on


def install() -> None:
    """Every TLS layer from now on."""
    TLSLayer.tls_interact = _interact  # type: ignore[method-assign]
    TLSLayer.receive_data = _receive  # type: ignore[method-assign]
    TLSLayer.send_data = _send  # type: ignore[method-assign]


def _decrypt(tls: SSL.Connection, parts: list[bytes]) -> None:
    """Adds the plain text of all whole records that are there. Then raises as `SSL.Connection.recv` does at their end."""
    ssl = tls._ssl
    while True:
        size = 0
        while (got := SSL._lib.SSL_read(ssl, _BUFFER + size, _SIZE - size)) > 0:  # type: ignore[attr-defined]
            size += got
            if size == _SIZE:
                break
        if size:
            parts.append(bytes(SSL._ffi.buffer(_BUFFER, size)))  # type: ignore[attr-defined]
        if got <= 0:
            break
    if SSL._lib.SSL_get_error(ssl, got) != SSL._lib.SSL_ERROR_WANT_READ:  # type: ignore[attr-defined]
        tls._raise_ssl_error(ssl, got)


def _interact(self: TLSLayer) -> Commands:
    while (size := SSL._lib.BIO_read(self.tls._from_ssl, _BUFFER, _SIZE)) > 0:  # type: ignore[attr-defined]
        yield commands.SendData(self.conn, bytes(SSL._ffi.buffer(_BUFFER, size)))  # type: ignore[attr-defined]
        if size < _SIZE:
            return


def _send(self: TLSLayer, data: bytes) -> Commands:
    """pyOpenSSL has each call write one record of 16 KiB; into memory, which is never full, one call can write all."""
    ssl, lib = self.tls._ssl, SSL._lib  # type: ignore[attr-defined]
    lib.SSL_clear_mode(ssl, lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
    with contextlib.suppress(SSL.ZeroReturnError, SSL.SysCallError):  # the peer may go on sending; that is dropped
        if data and (written := lib.SSL_write(ssl, data, len(data))) <= 0:
            self.tls._raise_ssl_error(ssl, written)
    yield from self.tls_interact()


def _receive(self: TLSLayer, data: bytes) -> Commands:
    if data:
        self.tls.bio_write(data)
    parts: list[bytes] = []
    close = False
    try:
        _decrypt(self.tls, parts)
    except SSL.ZeroReturnError:
        close = True
    except SSL.Error as error:
        yield commands.Log(f"TLS Error: {error}", WARNING)
    yield from self.tls_interact()  # after the reading, which may have left something to be sent
    if parts:
        yield from self.event_to_child(events.DataReceived(self.conn, b"".join(parts)))
    if close:
        self.conn.state &= ~connection.ConnectionState.CAN_READ
        yield from self.event_to_child(events.ConnectionClosed(self.conn))
