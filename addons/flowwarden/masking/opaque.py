"""Streams whose first bytes tell what they are: text is masked, what cannot be read passes uninspected or is refused."""

from __future__ import annotations

from collections.abc import Callable

from . import kinds
from .model import refuse
from .stream import Core

_HEAD = 512


class OpaqueCore:
    """Waits for the first bytes. `readable` says whether they are to be searched; if not, and no rule denies, all passes.

    `noted` is called once with what could not be inspected.
    """

    def __init__(
        self, inner: Core, readable: Callable[[bytes], bool], deny: bool, noted: Callable[[], None], *, skip: bool
    ) -> None:
        self._inner = inner
        self._readable = readable
        self._deny = deny
        self._noted = noted
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
        if self._readable(head[:_HEAD]) or not head:
            self._through = False
            return head
        if self._deny:
            raise refuse("OpaqueAnswer", "the answer cannot be searched, and a rule denies that")
        self._noted()
        self._through = self._skip
        return head


def not_compressed(head: bytes) -> bool:
    """For S3 objects: whatever is no compressed format is searched, binary too."""
    return not kinds.compressed(head)
