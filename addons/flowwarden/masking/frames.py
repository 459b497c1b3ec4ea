"""AWS event-stream messages (application/vnd.amazon.eventstream): read and checked, written again with right CRCs.

A message is prelude (total length, headers length, CRC32 of both), headers, payload, CRC32 of all before it.
https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html#streaming-event-stream
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from .model import refuse

MOST = 24 << 20  # bytes of one message; AWS's own limit is 16 MiB of payload
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
Head = tuple[bytes, int, bytes]
"""(name, type, value bytes) of a message header."""


@dataclass(slots=True)
class Frame:
    """One message. `raw` is as it came, to be passed on where nothing changed."""

    heads: list[Head]
    payload: bytes
    raw: bytes

    def text(self, name: bytes) -> str:
        """A string header's value, empty if there is none."""
        return next(
            (value.decode("utf-8", "replace") for head, kind, value in self.heads if head == name and kind == 7), ""
        )


def _broken(why: str) -> Exception:
    return refuse("UnreadableAnswer", f"the answer says it is an event stream and is not: {why}")


def parse_heads(data: bytes) -> list[Head]:
    """The headers of a message."""
    found: list[Head] = []
    at = 0
    try:
        while at < len(data):
            size = data[at]
            name = data[at + 1 : at + 1 + size]
            kind = data[at + 1 + size]
            at += 2 + size
            if kind in {6, 7}:
                length = struct.unpack_from(">H", data, at)[0]
                at += 2
            else:
                length = _FIXED[kind]
            if at + length > len(data):
                raise _broken("a header is cut off")
            found.append((name, kind, data[at : at + length]))
            at += length
    except (IndexError, KeyError, struct.error):
        raise _broken("its headers cannot be read") from None
    return found


def build(heads: list[Head], payload: bytes) -> bytes:
    """A message's bytes."""
    parts = []
    for name, kind, value in heads:
        length = struct.pack(">H", len(value)) if kind in {6, 7} else b""
        parts.append(bytes([len(name)]) + name + bytes([kind]) + length + value)
    packed = b"".join(parts)
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + payload
    return body + struct.pack(">I", zlib.crc32(body))


class Reader:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Takes bytes; gives the messages that are whole. Refusal for a wrong CRC or length."""
        self._buffer += data
        found: list[Frame] = []
        while len(self._buffer) >= 12:
            total, heads, crc = struct.unpack_from(">III", self._buffer)
            if zlib.crc32(self._buffer[:8]) != crc or not 16 + heads <= total <= MOST:
                raise _broken("a prelude is wrong")
            if len(self._buffer) < total:
                break
            raw = bytes(self._buffer[:total])
            del self._buffer[:total]
            if zlib.crc32(raw[:-4]) != struct.unpack(">I", raw[-4:])[0]:
                raise _broken("a checksum is wrong")
            found.append(Frame(parse_heads(raw[12 : 12 + heads]), raw[12 + heads : -4], raw))
        return found

    def finish(self) -> None:
        """Refusal if the stream stops within a message."""
        if self._buffer:
            raise _broken("it ends within a message")
