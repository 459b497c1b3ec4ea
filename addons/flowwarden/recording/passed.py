"""Passed: a body that goes by in parts, hashed and counted, and kept in bodies/ if the rules say so."""

from __future__ import annotations

import asyncio
from typing import Literal

from .bodies import BodySink, HashSink
from .records import BodyAt


class Passed:
    """Takes the parts as the recording is to hold them. `end` makes a kept body durable."""

    def __init__(self, sink: BodySink | None) -> None:
        self._sink = sink or HashSink()

    def write(self, data: bytes) -> None:
        """StoreError if the disk refuses; the body must not go on then."""
        self._sink.write(data)

    async def end(self, of: Literal["request", "response"]) -> BodyAt:
        digest, size, path = await asyncio.to_thread(self._sink.finish)
        return {"of": of, "sha256": digest, "size": size, "kept": path is not None}
