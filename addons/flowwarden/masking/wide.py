"""UTF-16 text, as Windows programs write it: searched as the text that it is, masked character by character in its place."""

from __future__ import annotations

from typing import Literal

from .model import Core

Order = Literal["", "little", "big"]
CODECS = {"little": "utf-16-le", "big": "utf-16-be"}
_HEAD = 512
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n\f"
_NONZERO = b"\0" + b"\xff" * 255
_ZERO = b"\xff" + b"\0" * 255


def order(head: bytes) -> Order:
    """Which byte order a text begins with that has two bytes a character; empty if it has not, or not much of ASCII.

    What begins so may go on as something else: whoever asks searches it as the bytes that it is, too.
    """
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"} and head[2:4] != b"\0\0":
        return "little" if head[:1] == b"\xff" else "big"
    head = head[: min(_HEAD, len(head) // 2 * 2)]
    if len(head) < 8 or b"\0" not in head:
        return ""
    even, odd = head[0::2], head[1::2]
    if _is_text(even) and _is_zero(odd):
        return "little"
    return "big" if _is_text(odd) and _is_zero(even) else ""


def _is_text(data: bytes) -> bool:
    return len(data.translate(None, _PRINTABLE)) * 10 <= len(data)


def _is_zero(data: bytes) -> bool:
    return data.count(0) * 10 >= len(data) * 9


def _both(one: bytes, other: bytes) -> bytes:
    """The bits that both have, byte by byte."""
    return (int.from_bytes(one) & int.from_bytes(other)).to_bytes(len(one))


class Wide:
    """Gives a stream of UTF-16 to `inner` as one byte a character (0 for all beyond Latin-1), and takes it back.

    `inner` has to keep the length of what it masks.
    """

    def __init__(self, inner: Core, byte_order: Order) -> None:
        self._inner = inner
        self._low = 0 if byte_order == "little" else 1
        self._odd = b""
        self._lows, self._highs, self._text = bytearray(), bytearray(), bytearray()

    def feed(self, data: bytes) -> bytes:
        data = self._odd + data
        whole = len(data) // 2 * 2
        self._odd = data[whole:]
        low, high = data[self._low : whole : 2], data[1 - self._low : whole : 2]
        text = _both(low, high.translate(_ZERO))
        self._lows += low
        self._highs += high
        self._text += text
        return self._merged(self._inner.feed(text))

    def finish(self) -> bytes:
        return self._merged(self._inner.finish()) + self._odd

    def _merged(self, masked: bytes) -> bytes:
        """What came from `inner`, two bytes a character again; only where it is another text the bytes change."""
        size = len(masked)
        low, high = bytes(self._lows[:size]), bytes(self._highs[:size])
        if masked != self._text[:size]:
            unseen = masked.translate(_ZERO)  # characters that `inner` was not shown, and did not write over
            low = (int.from_bytes(masked) | int.from_bytes(_both(low, unseen))).to_bytes(size)
            high = _both(high, unseen)
        del self._lows[:size], self._highs[:size], self._text[:size]
        out = bytearray(2 * size)
        out[self._low :: 2], out[1 - self._low :: 2] = low, high
        return bytes(out)
