"""Large bodies take few walks through the layers."""

from __future__ import annotations

import asyncio
import uuid

from mitmproxy.test import tflow

from flowwarden.wire import connections
from flowwarden.wire.connections import BLOCK, Blocks


async def test_a_read_gives_all_that_has_come():
    stream = asyncio.StreamReader(limit=BLOCK)
    reader = Blocks(stream)
    stream.feed_data(b"a" * 200_000)
    assert await reader.read(65535) == b"a" * 200_000
    stream.feed_data(b"b" * (BLOCK + 1))
    stream.feed_eof()
    assert [len(await reader.read(65535)) for _ in range(3)] == [BLOCK, 1, 0]


def test_ids_of_flows_are_random_uuids():
    connections.install()
    made = [tflow.tflow().id for _ in range(2000)]
    assert len(set(made)) == len(made)
    for text in made:
        read = uuid.UUID(text)
        assert (read.version, read.variant, str(read)) == (4, uuid.RFC_4122, text)
    assert {text[19] for text in made} == set("89ab")


def test_connections_are_equal_by_id_as_in_mitmproxy():
    connections.install()
    one, other, server = tflow.tclient_conn(), tflow.tclient_conn(), tflow.tserver_conn()
    assert one == one.__class__.from_state(one.get_state())
    assert one in {one.__class__.from_state(one.get_state())}
    other.id = "another"
    assert one != other
    assert one != server
    assert one != one.id
    assert one is not None and (one == None) is False  # noqa: E711
