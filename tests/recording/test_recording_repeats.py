"""What strangers are refused is recorded, and does not fill the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowwarden.recording import repeats
from flowwarden.recording.index import Index, rebuild
from flowwarden.recording.repeats import EACH, SECONDS, Repeats, network
from support.whole import whole

FLOOD = 150


class Told:
    def __init__(self) -> None:
        self.now = 0.0
        self.records: list[dict[str, object]] = []
        self.repeats = Repeats(self.records.append, clock=lambda: self.now)


def test_first_ones_alone_then_a_count():
    """Twenty have a record of their own, the rest of the minute one record; the next minute begins anew."""
    told = Told()
    assert [told.repeats.alone("10.0.0.1", f"n{n}") for n in range(100)] == [True] * EACH + [False] * (100 - EACH)
    assert told.repeats.alone("10.0.0.2", "") is True
    told.repeats.flush()
    assert told.records == []
    told.now = SECONDS
    told.repeats.flush()
    assert told.records == [{"refused": "more of the same", "client": "10.0.0.1", "count": 100 - EACH, "last": "n99"}]
    assert told.repeats.alone("10.0.0.1", "") is True


def test_a_count_whose_time_is_over_is_recorded_by_the_next():
    told = Told()
    for _ in range(EACH + 3):
        told.repeats.alone("a", "")
    told.now = SECONDS + 1
    assert told.repeats.alone("a", "") is True
    assert [record["count"] for record in told.records] == [3]
    told.repeats.flush(all=True)
    assert len(told.records) == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100)), max_size=300))
def test_nothing_is_lost(asked):
    """Those that have a record of their own and those that are counted are all that there were."""
    told = Told()
    alone = 0
    for client, later in asked:
        told.now += later
        alone += told.repeats.alone(str(client), "")
    told.repeats.flush(all=True)
    assert alone + sum(int(str(record["count"])) for record in told.records) == len(asked)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(repeats, "ADDRESSES", 10)
    told = Told()
    for n in range(1000):
        told.repeats.alone(f"10.0.{n // 250}.{n % 250}", "")
    assert len(told.repeats._counts) <= 11
    told.repeats.flush(all=True)
    assert {record["client"] for record in told.records} == {"others"}


@pytest.mark.parametrize(
    ("address", "name"),
    [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::/64"),
     ("fe80::1%eth0", "fe80::/64"), ("", "")],
)  # fmt: skip
def test_who_is_one_address(address, name):
    assert network(address) == name


async def test_a_flood_of_refused_tunnels_and_tokens(tmp_path: Path) -> None:
    """In a gateway that runs: the log stays small and says how many there were; who has a session is recorded always."""
    async with whole(tmp_path) as gateway:
        async with gateway.tunnel("bucket.example.com", 22, status=b"403"):
            pass
        first = (await gateway.evidence())[-2]
        assert (first["type"], first["target"], first["client"]) == ("tunnel", "bucket.example.com:22", "127.0.0.1")
        for _ in range(FLOOD):
            async with gateway.tunnel("bucket.example.com", 22, status=b"403"):
                pass
        handle, gateway.handle = gateway.handle, "nobody"
        for _ in range(FLOOD // 10):
            assert (await gateway.get("h1", "/k")).status == 403
        before = len(await gateway.evidence())
        gateway.handle = handle
        assert (await gateway.get("h1", "/k")).status == 200
        assert len(await gateway.evidence()) == before + 3  # intent, outcome, and the test's own
        gateway.services.repeats.flush(all=True)
        evidence = await gateway.evidence()
        tunnels = [record for record in evidence if record["type"] == "tunnel"]
        strangers = [record for record in evidence if record["type"] == "outcome" and not record["session"]]
        assert len(tunnels) + len(strangers) == EACH + 1
        assert tunnels[-1]["count"] == FLOOD + 1 + FLOOD // 10 - EACH
        assert len(json.dumps(tunnels)) < 10_000
    rebuild(tmp_path / "recordings")
    index = Index(tmp_path / "recordings" / "index.db")
    assert "146 times more of the same, from 127.0.0.1" in index.flows(decision="deny")[0]["reason"]
    index.close()
