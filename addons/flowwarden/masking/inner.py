"""What decoded bytes hold: text, text in UTF-16, or text under a compression; and the way back."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import zstandard

from . import wide

_CAP = 4 << 20  # bytes that may come out of a compression
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"
Pack = Callable[[bytes], bytes]


def same(data: bytes) -> bytes:
    """The way back to text that is nothing but text."""
    return data


def opened(data: bytes) -> tuple[bytes, Pack] | None:
    """The text in some bytes, and what makes such bytes of another text; None if they are no text of any kind."""
    if data[:2] == b"\x1f\x8b":
        return _with(_inflated(data, 31), lambda text: gzip.compress(text, 6, mtime=0))
    if data[:1] == b"\x78" and len(data) > 8 and (data[0] << 8 | data[1]) % 31 == 0:
        plain = _inflated(data, 15)
        if plain is not None:
            return plain, zlib.compress
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return _with(_unzstd(data), zstandard.compress)
    if (order := wide.order(data)) and b"\0" in data:  # as in each ASCII letter of UTF-16: else only its mark is there
        codec = wide.CODECS[order]
        return data.decode(codec, "replace").encode(), lambda text: text.decode("utf-8", "replace").encode(codec)
    return (data, same) if _mostly_text(data) else None


def _with(plain: bytes | None, pack: Pack) -> tuple[bytes, Pack] | None:
    return None if plain is None else (plain, pack)


def _mostly_text(data: bytes) -> bool:
    head = data[:4096]
    if len(head.translate(None, _PRINTABLE)) * 20 <= len(head):
        return True
    try:
        data[: len(data) // 4 * 4 or 4].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(data) - 8
    return b"\0" not in data


def _inflated(data: bytes, wbits: int) -> bytes | None:
    try:
        return zlib.decompressobj(wbits).decompress(data, _CAP)
    except zlib.error:
        return None


def _unzstd(data: bytes) -> bytes | None:
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 23).stream_reader(data) as reader:
            return bytes(reader.read(_CAP))
    except zstandard.ZstdError:
        return None
