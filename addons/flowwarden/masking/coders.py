"""Content codings of a body that passes in pieces: undone before the masks and done again behind them."""

from __future__ import annotations

import zlib
from typing import Any

import brotli
import zstandard

from .codings import RATIO, SLACK
from .model import refuse

_PIECE = 1 << 16
STREAMABLE = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd"})


class Undo:
    """Decodes a stream. Refusal where it is not what it says, or grows out of proportion."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._engine = _decoder(name, b"")
        self._taken = self._given = 0
        self._started = False
        self._ended = False

    def feed(self, data: bytes) -> list[bytes]:
        """The decoded bytes, in pieces of 64 KiB or little more."""
        self._taken += len(data)
        if not self._started and data:
            self._engine = _decoder(self._name, data)
            self._started = True
        out: list[bytes] = []
        try:
            for piece in self._pieces(data):
                self._given += len(piece)
                if self._given > self._taken * RATIO + SLACK:
                    raise refuse("TooLarge", "the answer's decoded body is out of proportion to its encoded one")
                out.append(piece)
        except (zlib.error, brotli.error, zstandard.ZstdError):
            raise refuse("UnreadableAnswer", f"the answer says it is {self._name} and is not") from None
        return out

    def _pieces(self, data: bytes) -> Any:
        if self._name == "br":
            piece = self._engine.process(data, output_buffer_limit=_PIECE)
            while piece:
                yield piece
                piece = self._engine.process(b"", output_buffer_limit=_PIECE)
            self._ended = self._engine.is_finished()
        elif self._name == "zstd":
            if data:
                for start in range(0, len(data), 1024):  # what one call may give has no limit of its own
                    yield self._engine.decompress(data[start : start + 1024])
            self._ended = bool(self._engine.eof)
        else:
            while data:
                yield self._engine.decompress(data, _PIECE)
                data = self._engine.unconsumed_tail
                if self._engine.eof:
                    data = self._engine.unused_data
                    self._ended = True
                    if data:
                        self._engine = _decoder(self._name, data)
                        self._ended = False

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


def _decoder(name: str, head: bytes) -> Any:
    if name == "br":
        return brotli.Decompressor()
    if name == "zstd":
        return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    if name == "deflate":
        raw = len(head) > 1 and ((head[0] << 8 | head[1]) % 31 or head[0] & 15 != 8)
        return zlib.decompressobj(-15 if raw else 15)
    return zlib.decompressobj(31)
