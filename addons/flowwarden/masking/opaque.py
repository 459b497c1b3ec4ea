"""Streams whose first bytes tell what they are: text is masked, what is packed is unpacked, what cannot be read is noted."""

from __future__ import annotations

from collections.abc import Callable

from . import kinds, packed, wide
from .model import Core
from .values import Run
from .wide import Wide

_HEAD = 512


class _Twice:
    """One reader behind the other; both keep the length of what they mask."""

    def __init__(self, first: Core, second: Core) -> None:
        self._first, self._second = first, second

    def feed(self, data: bytes) -> bytes:
        return self._second.feed(self._first.feed(data))

    def finish(self) -> bytes:
        return self._second.feed(self._first.finish()) + self._second.finish()


class OpaqueCore:
    """Waits for the first bytes. `readable` says whether they can be searched, `unpack` gives the reader of a compression.

    What begins as UTF-16 is searched as that and by another reader, which `plain` gives, as the bytes that it is: only its
    first bytes have said that it is UTF-16. `unreadable` is called once with what can neither be read nor unpacked; it
    raises where a rule denies that.
    """

    def __init__(
        self,
        inner: Core,
        run: Run,
        readable: Callable[[bytes], bool],
        unreadable: Callable[[], None],
        *,
        skip: bool,
        plain: Callable[[], Core],
        unpack: Callable[[str], Core] | None = None,
    ) -> None:
        self._inner = inner
        self._run = run
        self._readable = readable
        self._unreadable = unreadable
        self._unpack = unpack
        self._plain = plain
        self._skip = skip  # whether what cannot be read is passed without a search
        self._head = b""
        self._through: bool | None = None

    def feed(self, data: bytes) -> bytes:
        if self._through is None:
            self._head += data
            if len(self._head) < _HEAD:
                return b""
            data = self._decide()
        return data if self._through else self._inner.feed(data)

    def finish(self) -> bytes:
        first = self._decide() if self._through is None else b""
        if self._through:
            return first
        return self._inner.feed(first) + self._inner.finish()

    def _decide(self) -> bytes:
        head, self._head = self._head, b""
        self._through = False
        if self._unpack is not None and (name := packed.coding(head)):
            self._inner = self._unpack(name)
        elif order := wide.order(head):
            self._run.same_length = True
            self._inner = _Twice(Wide(self._inner, order), self._plain())
        elif head and not self._readable(head[:_HEAD]):
            self._unreadable()
            self._through = self._skip
        return head


def not_compressed(head: bytes) -> bool:
    """For S3 objects: whatever is no compressed format is searched, binary too."""
    return not kinds.compressed(head)
