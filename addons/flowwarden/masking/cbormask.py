"""CBOR answers (RFC 8949; smithy-rpc-v2-cbor and Kinesis' x-amz-cbor): strings replaced in place, nothing else is touched.

Containers count items, not bytes, so a replaced string needs no other change. Tags are passed over and never evaluated.
"""

from __future__ import annotations

from collections.abc import Callable

from .budget import deep
from .globs import Globs
from .jsonmask import Whole
from .jsontree import Edits
from .model import refuse
from .values import Run, Values

_Visit = Callable[["Item", tuple[str, ...]], None]


class Item:
    """A string: where it stands, what it holds, and whether it is text (else bytes)."""

    __slots__ = ("content", "end", "is_name", "is_text", "start")

    def __init__(self, start: int, end: int, content: bytes, is_text: bool) -> None:
        self.start, self.end, self.content, self.is_text = start, end, content, is_text
        self.is_name = False


def header(major: int, value: int) -> bytes:
    """The initial bytes of an item (RFC 8949 section 3)."""
    if value < 24:
        return bytes([major << 5 | value])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 1 << (8 * size):
            return bytes([major << 5 | info]) + value.to_bytes(size, "big")
    raise ValueError("too large for CBOR")


def _broken() -> Exception:
    return refuse("UnreadableAnswer", "the answer says it is CBOR and is not")


class _Walk:
    """One pass over a document; calls `visit` with every string and its path."""

    def __init__(self, data: bytes, run: Run, visit: _Visit) -> None:
        self.data = data
        self.run = run
        self.visit = visit

    def document(self) -> None:
        if self.item(0, (), 0) != len(self.data):
            raise _broken()

    def head(self, at: int) -> tuple[int, int | None, int]:
        """(major type, argument or None for indefinite, where the content starts)."""
        if at >= len(self.data):
            raise _broken()
        major, info = self.data[at] >> 5, self.data[at] & 31
        if info < 24:
            return major, info, at + 1
        if info == 31:
            return major, None, at + 1
        if info > 27:
            raise _broken()
        size = 1 << (info - 24)
        if at + 1 + size > len(self.data):
            raise _broken()
        return major, int.from_bytes(self.data[at + 1 : at + 1 + size], "big"), at + 1 + size

    def item(self, at: int, path: tuple[str, ...], depth: int) -> int:
        """Reads the item at an offset; gives the offset behind it."""
        self.run.budget.tick()
        deep(depth)
        major, value, start = self.head(at)
        if major in {2, 3}:
            found, end = self.string(at, major, value, start)
            self.visit(found, path)
            return end
        if major == 4:
            return self.many(value, start, lambda place: self.item(place, path, depth + 1))
        if major == 5:
            return self.many(value, start, lambda place: self.pair(place, path, depth + 1))
        if major == 6:
            return self.item(start, path, depth + 1)
        if value is None:
            raise _broken()
        return start

    def many(self, count: int | None, at: int, one: Callable[[int], int]) -> int:
        if count is None:
            while at < len(self.data) and self.data[at] != 0xFF:
                at = one(at)
            return at + 1
        if count > len(self.data):
            raise _broken()
        for _ in range(count):
            at = one(at)
        return at

    def pair(self, at: int, path: tuple[str, ...], depth: int) -> int:
        major, value, start = self.head(at)
        if major not in {2, 3}:
            return self.item(self.item(at, path, depth), path, depth)
        name, end = self.string(at, major, value, start)
        name.is_name = True
        self.visit(name, path)
        return self.item(end, (*path, name.content.decode("utf-8", "replace")), depth)

    def string(self, at: int, major: int, value: int | None, start: int) -> tuple[Item, int]:
        if value is not None:
            end = start + value
            if end > len(self.data):
                raise _broken()
            return Item(at, end, self.data[start:end], major == 3), end
        parts: list[bytes] = []
        while start < len(self.data) and self.data[start] != 0xFF:
            inner, size, begin = self.head(start)
            if inner != major or size is None or begin + size > len(self.data):
                raise _broken()
            parts.append(self.data[begin : begin + size])
            start = begin + size
        if start >= len(self.data):
            raise _broken()
        return Item(at, start + 1, b"".join(parts), major == 3), start + 1


class CborMasker:
    """Masks CBOR documents."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def careful(self, data: bytes, run: Run, fields: Globs[Whole]) -> bytes | None:
        """The document with its secrets masked, None if there are none. Refusal if it is no CBOR."""
        edits = Edits(data)

        def visit(item: Item, path: tuple[str, ...]) -> None:
            if len(item.content) < 4 and not path:
                return
            masked = self._mask(item, path, run, fields)
            if masked is not None:
                edits.replace(item.start, item.end, header(3 if item.is_text else 2, len(masked)) + masked)

        _Walk(data, run, visit).document()
        return edits.result() if edits else None

    def _mask(self, item: Item, path: tuple[str, ...], run: Run, fields: Globs[Whole]) -> bytes | None:
        whole = fields.match(path) if fields and path and not item.is_name else None
        if whole is None:
            whole = next((found for n in range(1, len(path)) if (found := fields.match(path[:n])) is not None), None)
        if whole is not None and not item.is_name:
            return run.mask(whole.mask, item.content) if item.content else None
        key = b"" if item.is_name or not path else path[-1].encode()
        return self.values.mask(item.content, run, key)
