"""Large bodies take few walks through the layers."""

from __future__ import annotations

import asyncio

from flowwarden.wire.connections import BLOCK, Blocks


async def test_a_read_gives_all_that_has_come():
    stream = asyncio.StreamReader(limit=BLOCK)
    reader = Blocks(stream)
    stream.feed_data(b"a" * 200_000)
    assert await reader.read(65535) == b"a" * 200_000
    stream.feed_data(b"b" * (BLOCK + 1))
    stream.feed_eof()
    assert [len(await reader.read(65535)) for _ in range(3)] == [BLOCK, 1, 0]
