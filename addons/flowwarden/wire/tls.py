"""TLS records in and out of OpenSSL's memory, without the exception that pyOpenSSL raises at each end of data.

A small call meets that end six times. What is read and sent, and in which order, is as in mitmproxy's own layer.
"""

from __future__ import annotations

from logging import WARNING

from mitmproxy import connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.tls import TLSLayer
from OpenSSL import SSL

from .gate import Commands

_SIZE = 256 * 1024
_BUFFER = SSL._ffi.new("char[]", _SIZE)  # type: ignore[attr-defined]  # one thread reads, and copies before it goes on


def install() -> None:
    """Every TLS layer from now on."""
    TLSLayer.tls_interact = _interact  # type: ignore[method-assign]
    TLSLayer.receive_data = _receive  # type: ignore[method-assign]


def _decrypted(tls: SSL.Connection) -> bytes:
    """Plain text of the next record; empty: no whole record is there. Raises as `SSL.Connection.recv` does otherwise."""
    ssl = tls._ssl
    size = SSL._lib.SSL_read(ssl, _BUFFER, _SIZE)  # type: ignore[attr-defined]
    if size > 0:
        return bytes(SSL._ffi.buffer(_BUFFER, size))  # type: ignore[attr-defined]
    if SSL._lib.SSL_get_error(ssl, size) != SSL._lib.SSL_ERROR_WANT_READ:  # type: ignore[attr-defined]
        tls._raise_ssl_error(ssl, size)
    return b""


def _interact(self: TLSLayer) -> Commands:
    while (size := SSL._lib.BIO_read(self.tls._from_ssl, _BUFFER, _SIZE)) > 0:  # type: ignore[attr-defined]
        yield commands.SendData(self.conn, bytes(SSL._ffi.buffer(_BUFFER, size)))  # type: ignore[attr-defined]
        if size < _SIZE:
            return


def _receive(self: TLSLayer, data: bytes) -> Commands:
    if data:
        self.tls.bio_write(data)
    parts: list[bytes] = []
    close = False
    try:
        while part := _decrypted(self.tls):
            parts.append(part)
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
