"""HTTP/1.1 on a blocking socket, byte for byte: used by the strict server and by the raw client."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

BLOCK = 64 * 1024
HEAD_LIMIT = 64 * 1024
Fields = list[tuple[str, str]]


class Malformed(Exception):
    """The peer broke HTTP/1.1's rules."""


class Truncated(Exception):
    """The peer left in the middle of a message."""


@dataclass
class Head:
    """Start line and fields as sent (latin-1)."""

    start: str
    fields: Fields = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str, default: str = "") -> str:
        found = self.all(name)
        return found[0] if found else default

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])


class Stream:
    """A buffered reader and writer over a socket; counts what came in."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.received = 0

    def fill(self) -> bool:
        """Reads one block; False at the end of the stream."""
        data = self.sock.recv(BLOCK)
        self.received += len(data)
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes, limit: int = HEAD_LIMIT) -> bytes:
        """Everything up to and including `mark`."""
        start = 0
        while (at := self.buffer.find(mark, start)) < 0:
            start = max(0, len(self.buffer) - len(mark) + 1)
            if len(self.buffer) > limit:
                raise Malformed(f"no {mark!r} within {limit} bytes")
            if not self.fill():
                raise Truncated(f"the stream ended after {bytes(self.buffer[:80])!r}")
        found = bytes(self.buffer[: at + len(mark)])
        del self.buffer[: at + len(mark)]
        return found

    def exactly(self, count: int) -> Iterator[bytes]:
        """`count` bytes in blocks."""
        while count:
            if not self.buffer and not self.fill():
                raise Truncated(f"{count} bytes were still to come")
            block = bytes(self.buffer[: min(count, BLOCK)])
            del self.buffer[: len(block)]
            count -= len(block)
            yield block

    def take(self, count: int) -> bytes:
        return b"".join(self.exactly(count))

    def rest(self) -> Iterator[bytes]:
        """Blocks until the peer closes."""
        while self.buffer or self.fill():
            block = bytes(self.buffer)
            self.buffer.clear()
            yield block

    def head(self) -> Head | None:
        """One message head; None if the peer closed before its first byte."""
        if not self.buffer and not self.fill():
            return None
        lines = self.until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        head = Head(lines[0])
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip() or "\n" in line:
                raise Malformed(f"not a header field: {line!r}")
            head.fields.append((name, value.strip(" \t")))
        return head

    def chunked(self) -> Iterator[bytes]:
        """A chunked body (RFC 9112, section 7.1), trailer dropped."""
        while size := int(self.until(b"\r\n")[:-2].partition(b";")[0], 16):
            yield from self.exactly(size)
            if self.take(2) != b"\r\n":
                raise Malformed("no CRLF after a chunk")
        while self.until(b"\r\n") != b"\r\n":
            pass

    def body(self, head: Head, *, response_to: str = "") -> Iterator[bytes]:
        """The body that belongs to a head; `response_to` is the request's method if the head is a response's."""
        lengths, codings = head.all("content-length"), head.all("transfer-encoding")
        if len(lengths) > 1 or (lengths and codings) or (codings and codings != ["chunked"]):
            raise Malformed(f"framing is not clear: content-length {lengths}, transfer-encoding {codings}")
        if response_to and (response_to == "HEAD" or head.status in {204, 304} or head.status < 200):
            return iter(())
        if codings:
            return self.chunked()
        if lengths:
            if not lengths[0].isdigit():
                raise Malformed(f"content-length {lengths[0]!r}")
            return self.exactly(int(lengths[0]))
        return self.rest() if response_to else iter(())

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_head(self, start: str, fields: Iterable[tuple[str, str]]) -> None:
        lines = [start, *(f"{name}: {value}" for name, value in fields), "", ""]
        self.send("\r\n".join(lines).encode("latin-1"))

    def send_chunked(self, blocks: Iterable[bytes]) -> None:
        for block in blocks:
            if block:
                self.send(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """Closes with RST instead of FIN."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()
