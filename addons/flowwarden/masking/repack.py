"""A compressed body made again around its masks, exactly as long as it was: sizes told elsewhere (HEAD, List) stay true.

What is left to the length is filled with what the format itself knows to say nothing, inside the one stream there is, as
far as it can be: many readers stop at the end of the first. Whatever is made is read back before it is given.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator

import brotli
import zstandard

from . import coders

Check = Callable[[], None]
"""Called often while the work goes on; raises when it takes too long."""

_PIECE = 64 << 10
_EXTRA = 0xFFFF  # bytes of a gzip header's extra field
_XZ_HEADER = 1024  # bytes of an xz block's header
_LEVELS = (  # of zlib: how hard it tries, how much it remembers, and a strategy that is better for logs
    (6, 8, zlib.Z_DEFAULT_STRATEGY),
    (9, 9, zlib.Z_DEFAULT_STRATEGY),
    (9, 9, zlib.Z_FILTERED),
)
_XZ = ((6, lzma.CHECK_CRC64), (6 | lzma.PRESET_EXTREME, lzma.CHECK_CRC64), (6 | lzma.PRESET_EXTREME, lzma.CHECK_CRC32))


def fitted(name: str, plain: bytes, length: int, check: Check, like: bytes = b"") -> bytes | None:
    """`plain` under a compression or content coding in exactly `length` bytes; None where that cannot be.

    `like` is the body as it was: a `deflate` without zlib's header stays without it.
    """
    if name == "deflate" and coders.is_raw(like):
        name = "raw deflate"
    for made in _MAKERS[name](plain, length, check):
        if len(made) == length and _reads(name, made) == plain:
            return made
    return None


def _reads(name: str, made: bytes) -> bytes | None:
    """What other software makes of it than the one that wrote it; None if it cannot."""
    try:
        return _READERS[name](made)
    except (zlib.error, brotli.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError, ValueError):
        return None


def _pieces(plain: bytes, check: Check) -> Iterator[bytes]:
    for start in range(0, len(plain), _PIECE):
        check()
        yield plain[start : start + _PIECE]


# deflate (RFC 1951): empty blocks. A stored one is five bytes, one of fixed codes ten bits.


def _deflate(plain: bytes, room: int, check: Check) -> Iterator[bytes]:
    """Streams to try for `room` bytes. Those that are shorter leave it to who asks to fill the rest."""
    for level, memory, strategy in _LEVELS:
        engine = zlib.compressobj(level, zlib.DEFLATED, -15, memory, strategy)
        body = b"".join([engine.compress(piece) for piece in _pieces(plain, check)])
        yield body + engine.copy().flush()
        for mode in (zlib.Z_BLOCK, zlib.Z_PARTIAL_FLUSH):  # ends with a block of its own: one to three bytes more
            other = engine.copy()
            yield body + other.flush(mode) + other.flush()
        opened = body + engine.flush(zlib.Z_SYNC_FLUSH)
        if room - len(opened) >= 2:
            yield opened + empty_blocks(room - len(opened))


def empty_blocks(size: int) -> bytes:
    """`size` bytes (two or more) of deflate blocks that hold nothing, from a byte's beginning; the last one is final."""
    stored, rest = divmod(size - 2, 5)
    if rest == 4:  # a fixed one, and a final stored one
        end = b"\x02\x04\0\0\xff\xff"
    else:  # so many fixed ones, and a final one
        bits = sum(0b010 << 10 * number for number in range(rest)) | 0b011 << 10 * rest
        end = bits.to_bytes(rest + 2, "little")
    return b"\0\0\0\xff\xff" * stored + end


def _gzip(plain: bytes, length: int, check: Check) -> Iterator[bytes]:
    tail = struct.pack("<II", zlib.crc32(plain), len(plain) & 0xFFFFFFFF)
    for made in _deflate(plain, length - 18, check):
        if (header := gzip_header(length - len(made) - len(tail))) is not None:
            yield header + made + tail


def gzip_header(size: int) -> bytes | None:
    """A header (RFC 1952) of `size` bytes, None where it cannot be so short or long."""
    gap = size - 10
    flags, filled = 0, b""
    if not 0 <= gap <= _EXTRA + 2:
        return None
    if gap >= 6:  # an extra field with one subfield, which every reader skips
        flags, filled = 4, struct.pack("<H2sH", gap - 2, b"pd", gap - 6) + b"\0" * (gap - 6)
    elif gap:  # too short for one: a comment of blanks
        flags, filled = 16, b" " * (gap - 1) + b"\0"
    return b"\x1f\x8b\x08" + bytes([flags]) + b"\0\0\0\0\0\xff" + filled


def _zlib(plain: bytes, length: int, check: Check) -> Iterator[bytes]:
    tail = zlib.adler32(plain).to_bytes(4)
    return (b"\x78\x9c" + made + tail for made in _deflate(plain, length - 6, check))


def _zstd(plain: bytes, length: int, check: Check) -> Iterator[bytes]:
    """A skippable frame (RFC 8878 section 3.1.2) behind. It is eight bytes or more: for less, the frame itself varies."""
    for level in (3, 12, 19):
        for checksum, sized in ((False, True), (True, True), (False, False), (True, False)):
            engine = zstandard.ZstdCompressor(level=level, write_checksum=checksum, write_content_size=sized)
            stream = engine.compressobj(size=len(plain) if sized else -1)
            made = b"".join([stream.compress(piece) for piece in _pieces(plain, check)]) + stream.flush()
            gap = length - len(made)
            if gap < -4:
                break  # another form of the frame is not so much shorter
            if gap >= 8:
                yield made + struct.pack("<II", 0x184D2A50, gap - 8) + b"\0" * (gap - 8)
            elif gap in {0, 3, 6}:  # empty blocks of three bytes
                start = zstandard.frame_header_size(made)
                yield made[:start] + b"\0" * gap + made[start:]


def _br(plain: bytes, length: int, check: Check) -> Iterator[bytes]:
    """Empty metadata blocks (RFC 7932 section 9.2), a byte each."""
    for quality in (5, 9, 11):
        engine = brotli.Compressor(quality=quality)
        opened = b"".join([engine.process(piece) for piece in _pieces(plain, check)]) + engine.flush()
        gap = length - len(opened) - 1
        if gap >= 0:
            yield opened + b"\x06" * gap + b"\x03"
        elif gap >= -4:  # without the flush it is a little shorter
            engine = brotli.Compressor(quality=quality)
            yield b"".join([engine.process(piece) for piece in _pieces(plain, check)]) + engine.finish()


def _bzip2(plain: bytes, length: int, check: Check) -> Iterator[bytes]:
    """The lengths of Huffman codes are told in steps: one up and one down again are four bits and change nothing."""
    engine = bz2.BZ2Compressor(9)
    made = b"".join([engine.compress(piece) for piece in _pieces(plain, check)]) + engine.flush()
    gap = length - len(made)
    if gap >= 0 and made[4:10] == b"1AY&SY":
        yield _with_steps(made, gap)


def _with_steps(made: bytes, gap: int) -> bytes:
    head = made[
        : 16 << 10
    ]  # the tables of a block begin within it: some 18,000 selectors of up to six bits come before
    bits = f"{int.from_bytes(head):0{8 * len(head)}b}"
    at = 32 + 48 + 32 + 1 + 24  # the stream's header; the block's magic, checksum, `randomised` and origin
    at += 16 + 16 * bits.count("1", at, at + 16) + 3  # the symbols in use; how many tables
    selectors = int(bits[at : at + 15], 2)
    at += 15
    for _ in range(selectors):
        at = bits.index("0", at) + 1
    steps = b"\xee" if int(bits[at : at + 5], 2) == 20 else b"\xbb"  # 11 10: down and up; 10 11: up and down
    below = 8 * len(made) - at - 5
    upper, lower = divmod(int.from_bytes(made), 1 << below)
    return (((upper << 8 * gap | int.from_bytes(steps * gap)) << below) | lower).to_bytes(len(made) + gap)


def _xz(plain: bytes, length: int, check: Check) -> Iterator[bytes]:
    """Zeros in the block's header, which says how long it is; beyond what fits there, empty streams of 32 bytes.

    Stream padding would be simpler, but Python's lzma takes it for a stream that has been cut off.
    """
    for preset, kind in _XZ:
        engine = lzma.LZMACompressor(lzma.FORMAT_XZ, kind, preset)
        made = b"".join([engine.compress(piece) for piece in _pieces(plain, check)]) + engine.flush()
        gap = length - len(made)
        if gap < 0 or gap % 4:
            continue
        nothing = lzma.compress(b"", lzma.FORMAT_XZ, kind)
        most = min(gap, _XZ_HEADER - 4 * (made[12] + 1))
        for extra in range(most, max(-1, most - 3 * len(nothing)), -4):
            wider = _with_header(made, extra)
            count, rest = divmod(length - len(wider), len(nothing))
            if count >= 0 and not rest:
                yield wider + nothing * count
                break


def _with_header(made: bytes, extra: int) -> bytes:
    """A stream of one block whose header is `extra` bytes longer; index and footer tell of it."""
    size = 4 * (made[12] + 1)
    header = bytes([made[12] + extra // 4]) + made[13 : 8 + size] + b"\0" * extra
    records = len(made) - 12 - 4 * (int.from_bytes(made[-8:-4], "little") + 1)
    assert made[records : records + 2] == b"\0\1"  # an index, of one block
    unpadded, at = _vint(made, records + 2)
    uncompressed, _ = _vint(made, at)
    index = b"\0\1" + _as_vint(unpadded + extra) + _as_vint(uncompressed)
    index += b"\0" * (-len(index) % 4)
    told = (len(index) // 4).to_bytes(4, "little") + made[-4:-2]
    return b"".join(
        [made[:12], _summed(header), made[12 + size : records], _summed(index), _crc(told), told, made[-2:]]
    )


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """A number of the format, and where it ends."""
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return number, at


def _as_vint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _summed(data: bytes) -> bytes:
    return data + _crc(data)


def _unzstd(body: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
        return bytes(reader.read())


_MAKERS: dict[str, Callable[[bytes, int, Check], Iterator[bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _zlib,
    "raw deflate": _deflate,
    "zstd": _zstd,
    "br": _br,
    "bzip2": _bzip2,
    "xz": _xz,
}
_READERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "x-gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "raw deflate": lambda body: zlib.decompress(body, -15),
    "zstd": _unzstd,
    "br": brotli.decompress,
    "bzip2": bz2.decompress,
    "xz": lzma.decompress,
}
