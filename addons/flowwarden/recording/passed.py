"""Passed: a body that goes by in parts, hashed and counted, and kept in bodies/ if the rules say so."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol

from .bodies import BodySink, HashSink
from .records import BodyAt

BLOCK = 512 << 10  # bytes that are handed to the thread at once
AHEAD = 1  # blocks that may wait for the thread; then no more of the body is read: two threads hinder each other


class Masks(Protocol):
    """What stands in for secrets in a body that is kept; `sha256` and `size` are of the body as it passed.

    What cannot be masked is not kept at all, and `withheld` says why. `kept_sha256` is of what `feed` and `finish` gave.
    """

    @property
    def sha256(self) -> str: ...

    @property
    def kept_sha256(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def withheld(self) -> str: ...

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class Passed:
    """Takes the parts as the recording is to hold them. `end` makes a kept body durable.

    Hashing and writing go on in a thread of the body's own once it is larger than a block: both leave the interpreter to
    others meanwhile.
    """

    def __init__(self, sink: BodySink | None, masks: Masks | None = None) -> None:
        """`masks` stands between what passes and what a sink keeps of it."""
        self._sink = sink or HashSink()
        self._masked = (sink, masks) if sink is not None and masks is not None else None
        self._parts: list[bytes] = []
        self._size = 0
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()
        self._found: tuple[str, int, bool] | None = None

    def write(self, data: bytes) -> None:
        """StoreError if the disk refuses; the body must not go on then."""
        self._parts.append(data)
        self._size += len(data)
        if self._size >= BLOCK:
            self._hand_over()

    @property
    def behind(self) -> Future[None] | None:
        """What to wait for before more is written; None while the thread keeps up."""
        return self._waiting[-AHEAD - 1] if len(self._waiting) > AHEAD else None

    def _hand_over(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="flowwarden-body")
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._store, self._taken()))

    def _store(self, parts: list[bytes]) -> None:
        for part in parts:
            if self._masked is None:
                self._sink.write(part)
            else:
                sink, masks = self._masked
                sink.store(masks.feed(part))

    def _taken(self) -> list[bytes]:
        parts, self._parts, self._size = self._parts, [], 0
        return parts

    async def end(self, of: Literal["request", "response", "websocket"]) -> BodyAt:
        """StoreError if it cannot be made durable. Asked again (the first outcome was not written), it answers the same."""
        try:
            if self._found is None:
                self._found = await asyncio.to_thread(self._finish)
            digest, size, kept = self._found
        finally:
            if self._thread is not None:
                self._thread.shutdown(wait=False)
        found: BodyAt = {"of": of, "sha256": digest, "size": size, "kept": kept}
        if self._masked is not None:
            masks = self._masked[1]
            if masks.sha256 != digest:
                found["sent_sha256"] = masks.sha256
            if masks.withheld:
                found["withheld"] = masks.withheld
        return found

    def _finish(self) -> tuple[str, int, bool]:
        while self._waiting:
            self._waiting.popleft().result()
        if self._parts:
            self._store(self._taken())
        if self._masked is None:
            digest, size, path = self._sink.finish()
            return digest, size, path is not None
        sink, masks = self._masked
        sink.store(masks.finish())
        if masks.withheld:
            sink.discard()
            return masks.sha256, masks.size, False
        digest, size, _ = sink.finish(masks.kept_sha256)
        return digest, size, True
