"""Content-Encoding, undone and done again, with a cap on what a small body may become (RFC 9110 section 8.4)."""

from __future__ import annotations

import gzip
import zlib

import brotli
import zstandard

from .model import refuse

RATIO = 200  # a decoded body may be this many times the encoded one, plus SLACK
SLACK = 1 << 20
MOST = 64 << 20
_PIECE = 1 << 16
KNOWN = frozenset({"gzip", "x-gzip", "br", "zstd", "deflate"})


def names(header: str) -> list[str]:
    """The codings of a Content-Encoding header in the order they were applied, `identity` and `aws-chunked` left out."""
    found = [name.strip().lower() for name in header.split(",")]
    return [name for name in found if name and name not in {"identity", "aws-chunked"}]


def _bomb() -> Exception:
    return refuse("TooLarge", "the answer's decoded body is out of proportion to its encoded one")


def _cap(size: int) -> int:
    return min(MOST, size * RATIO + SLACK)


def _inflate(body: bytes, wbits: int, cap: int) -> bytes:
    out: list[bytes] = []
    size = 0
    rest = body
    while rest:
        engine = zlib.decompressobj(wbits)
        piece = engine.decompress(rest, cap - size + 1)
        size += len(piece)
        if size > cap:
            raise _bomb()
        out.append(piece)
        if not engine.eof:
            raise zlib.error("incomplete stream")
        rest = engine.unused_data.lstrip(b"\0") if wbits == 31 else b""  # gzip members may follow each other
    return b"".join(out)


def _unbrotli(body: bytes, cap: int) -> bytes:
    engine = brotli.Decompressor()
    out = [engine.process(body, output_buffer_limit=_PIECE)]
    size = len(out[0])
    while not engine.is_finished():
        piece = engine.process(b"", output_buffer_limit=_PIECE)
        size += len(piece)
        if size > cap:
            raise _bomb()
        if not piece and engine.can_accept_more_data():
            raise zlib.error("incomplete stream")
        out.append(piece)
    return b"".join(out)


def _unzstd(body: bytes, cap: int) -> bytes:
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body, read_across_frames=True) as reader:
        out = reader.read(cap + 1)
    if len(out) > cap:
        raise _bomb()
    return bytes(out)


def decode(body: bytes, codings: list[str]) -> bytes:
    """The body without its codings. Refusal: an unknown coding, a broken body, one that grows out of proportion."""
    if len(codings) > 2:
        raise refuse("UnreadableAnswer", "the answer has more than two content codings")
    cap = _cap(len(body))
    for name in reversed(codings):
        try:
            body = _decode_one(body, name, cap)
        except (zlib.error, OSError, EOFError, brotli.error, zstandard.ZstdError, ValueError) as error:
            raise refuse(
                "UnreadableAnswer", f"the answer says it is {name} and is not: {type(error).__name__}"
            ) from None
    return body


def _decode_one(body: bytes, name: str, cap: int) -> bytes:
    if not body:
        return body
    if name in {"gzip", "x-gzip"}:
        return _inflate(body, 31, cap)
    if name == "deflate":
        try:
            return _inflate(body, 15, cap)
        except zlib.error:
            return _inflate(body, -15, cap)  # some servers send a raw stream
    if name == "br":
        return _unbrotli(body, cap)
    if name == "zstd":
        return _unzstd(body, cap)
    raise refuse("UnreadableAnswer", f"the answer has the content coding {name!r}, which cannot be read")


def encode(body: bytes, codings: list[str]) -> bytes:
    """The body with its codings again."""
    for name in codings:
        if name in {"gzip", "x-gzip"}:
            body = gzip.compress(body, 6, mtime=0)
        elif name == "deflate":
            body = zlib.compress(body, 6)
        elif name == "br":
            body = brotli.compress(body, quality=4)
        else:
            body = zstandard.ZstdCompressor(level=3).compress(body)
    return body
