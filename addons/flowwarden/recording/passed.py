"""Passed: a body that goes by in parts, hashed and counted, and kept in bodies/ if the rules say so."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from .bodies import BodySink, HashSink
from .records import BodyAt

BLOCK = 512 << 10  # bytes that are handed to the thread at once
AHEAD = 8  # blocks that may wait for the disk; then the body waits too


class Passed:
    """Takes the parts as the recording is to hold them. `end` makes a kept body durable.

    Hashing and writing go on in a thread of the body's own once it is larger than a block: both leave the interpreter to
    others meanwhile.
    """

    def __init__(self, sink: BodySink | None) -> None:
        self._sink = sink or HashSink()
        self._parts: list[bytes] = []
        self._size = 0
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()

    def write(self, data: bytes) -> None:
        """StoreError if the disk refuses; the body must not go on then."""
        self._parts.append(data)
        self._size += len(data)
        if self._size >= BLOCK:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="flowwarden-body")
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= AHEAD):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._sink.write, self._taken()))

    def _taken(self) -> bytes:
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        return data

    async def end(self, of: Literal["request", "response", "websocket"]) -> BodyAt:
        """StoreError if it cannot be made durable."""
        try:
            digest, size, path = await asyncio.to_thread(self._finish)
        finally:
            if self._thread is not None:
                self._thread.shutdown(wait=False)
        return {"of": of, "sha256": digest, "size": size, "kept": path is not None}

    def _finish(self) -> tuple[str, int, object]:
        while self._waiting:
            self._waiting.popleft().result()
        if self._parts:
            self._sink.write(self._taken())
        return self._sink.finish()
