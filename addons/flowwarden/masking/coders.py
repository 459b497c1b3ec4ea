"""Content codings of a body that passes in pieces: undone before the masks and done again behind them."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import Any

import brotli
import zstandard

from .codings import RATIO, SLACK
from .model import refuse

_PIECE = 1 << 16
ZSTD_WINDOW = 16 << 20  # bytes that a frame may make its reader remember
_XZ_MEMORY = 32 << 20  # bytes of its dictionary
_BOUNDED = frozenset({"bzip2", "xz"})  # decoders that take a bound on what they give and keep the rest of the input
STREAMABLE = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd"})


class Undo:
    """Decodes a stream. Refusal where it is not what it says, or grows out of proportion or beyond `most` bytes."""

    def __init__(self, name: str, most: int | None = None) -> None:
        self._name = name
        self._engine = _decoder(name, b"")
        self._taken = 0
        self._most = most
        self._started = False
        self._ended = False
        self._rest = b""  # of the data, behind the end of a frame
        self.given = 0  # decoded bytes so far

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decoded bytes, in pieces of 64 KiB or little more."""
        self._taken += len(data)
        if not self._started and data:
            self._engine = _decoder(self._name, data)
            self._started = True
        try:
            for piece in self._pieces(data):
                self.given += len(piece)
                if self.given > min(self._taken * RATIO + SLACK, self._most or self.given):
                    raise refuse("TooLarge", "the answer's decoded body is out of proportion to its encoded one")
                yield piece
        except (zlib.error, brotli.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError):
            raise refuse("UnreadableAnswer", f"the answer says it is {self._name} and is not") from None

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._name == "br":
            piece = self._engine.process(data, output_buffer_limit=_PIECE)
            while piece:
                yield piece
                piece = self._engine.process(b"", output_buffer_limit=_PIECE)
            self._ended = self._engine.is_finished()
            return
        while data:
            if self._ended:  # another member, frame or stream follows
                self._engine, self._ended = _decoder(self._name, data), False
            yield from self._step(data)
            data = self._engine.unused_data + self._rest if self._ended else b""

    def _step(self, data: bytes) -> Iterator[bytes]:
        """What one member gives for the data, which may be its last."""
        engine, self._rest = self._engine, b""
        if self._name == "zstd":
            for start in range(0, len(data), 1024):  # what one call may give has no limit of its own
                yield engine.decompress(data[start : start + 1024])
                if engine.eof:
                    self._rest = data[start + 1024 :]
                    break
        elif self._name in _BOUNDED:
            yield engine.decompress(data, _PIECE)
            while not engine.eof and not engine.needs_input:
                yield engine.decompress(b"", _PIECE)
        else:
            while data and not engine.eof:
                yield engine.decompress(data, _PIECE)
                data = engine.unconsumed_tail
        self._ended = bool(engine.eof)

    def finish(self) -> None:
        """Refusal if the stream stops in the middle."""
        if self._started and not self._ended:
            raise refuse("UnreadableAnswer", f"the answer's {self._name} ends in the middle")


class Redo:
    """Encodes a stream."""

    def __init__(self, name: str) -> None:
        self._name = name
        if name == "br":
            self._engine: Any = brotli.Compressor(quality=4)
        elif name == "zstd":
            self._engine = zstandard.ZstdCompressor(level=3).compressobj()
        else:
            self._engine = zlib.compressobj(6, zlib.DEFLATED, 15 if name == "deflate" else 31)

    def feed(self, data: bytes) -> bytes:
        made = self._engine.process(data) if self._name == "br" else self._engine.compress(data)
        return bytes(made)

    def finish(self) -> bytes:
        return bytes(self._engine.finish() if self._name == "br" else self._engine.flush())


def is_raw(head: bytes) -> bool:
    """Whether a body of the coding `deflate` begins without zlib's header, as some servers send it."""
    return len(head) > 1 and bool((head[0] << 8 | head[1]) % 31 or head[0] & 15 != 8)


def _decoder(name: str, head: bytes) -> Any:
    if name == "br":
        return brotli.Decompressor()
    if name == "zstd":
        return zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()
    if name == "bzip2":
        return bz2.BZ2Decompressor()
    if name == "xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    if name == "deflate":
        return zlib.decompressobj(-15 if is_raw(head) else 15)
    return zlib.decompressobj(31)
