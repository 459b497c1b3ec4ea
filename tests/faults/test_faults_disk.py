"""The disk fails under the real chain in a real proxy: full at intent, full at outcome, read-only, a sync that fails."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flowwarden import health
from support import whole as support
from support.whole import Whole, whole

VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Whole]:
    async with whole(tmp_path / "gateway") as running:
        yield running


@contextmanager
def failing(gateway: Whole, **codes: int) -> Iterator[None]:
    """The writer's disk refuses these of its calls."""
    disk = gateway.services.recorder._disk
    for name, code in codes.items():

        def fail(*_args: Any, code: int = code) -> Any:
            raise OSError(code, "made to fail")

        setattr(disk, name, fail)
    try:
        yield
    finally:
        for name in codes:
            delattr(disk, name)


@VERSIONS
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
async def test_full_or_read_only_at_intent(
    gateway: Whole, version: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Faults 11 and 13: 503, nothing upstream, not ready and why; ready again by itself when the disk is."""
    with failing(gateway, write=code, overwrite=code):
        answer = await gateway.get(version, "/key")
        assert answer.status == 503
        assert b"cannot record" in answer.body or b"nothing can be recorded" in answer.body
        assert gateway.upstream.requests == []
        assert health.health(gateway.services)["ready"] is False
        [why] = health.health(gateway.services)["problems"]
        told = health.tell(gateway.services, [])
        assert health.tell(gateway.services, told) == told == [why]
        assert [record.getMessage() for record in caplog.records if record.name == "flowwarden"].count(
            f"problem: {why}"
        ) == 1


@VERSIONS
async def test_full_at_outcome(gateway: Whole, version: str) -> None:
    """Fault 12: the call was carried out and its answer is withheld: 502 or 503, and no byte of it."""
    broken = failing(gateway, write=errno.ENOSPC, overwrite=errno.ENOSPC)

    async def answering(_got: Any, writer: asyncio.StreamWriter) -> None:
        broken.__enter__()
        body = b"what the agent must not see"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    gateway.upstream.on_request = answering
    try:
        answer = await gateway.get(version, "/key")
        assert len(gateway.upstream.requests) == 1
        assert answer.status in (502, 503)
        assert b"must not see" not in answer.body
    finally:
        broken.__exit__(None, None, None)


@VERSIONS
async def test_a_sync_that_fails_is_never_tried_again(gateway: Whole, version: str) -> None:
    """Fault 14: the kernel may have dropped the pages, so that a second sync would lie: refused until a restart."""
    with failing(gateway, overwrite=errno.EIO, sync=errno.EIO):
        assert (await gateway.get(version, "/key")).status == 503
    assert (await gateway.get(version, "/other")).status == 503
    assert gateway.upstream.requests == []
    assert "restart" in gateway.services.recorder.problem


async def test_an_index_that_somebody_locks(gateway: Whole) -> None:
    """Fault 18: calls go on and are recorded; health says what is wrong, and the index catches up by itself."""
    services = gateway.services
    services.indexer._pause = 0.01
    services.indexer.start()
    try:
        assert (await gateway.get("h1", "/one")).status == 200
        path = gateway.folder / "recordings" / "index.db"
        await eventually(lambda: path.exists() and len(rows(path)) == 1)
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        assert (await gateway.get("h1", "/two")).status == 200
        await eventually(lambda: "locked" in " ".join(health.health(services)["problems"]))
        assert health.health(services)["ready"] is True
        lock.execute("ROLLBACK")
        lock.close()
        await eventually(lambda: health.health(services)["problems"] == [] and len(rows(path)) == 2)
    finally:
        await asyncio.to_thread(services.indexer.stop)


def rows(path: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        try:
            return db.execute("SELECT path FROM flows WHERE outcome = 'ok'").fetchall()
        except sqlite3.OperationalError:
            return []  # its tables are still to come


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - another thread's work, which has no event here
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("answers", [True, False])
async def test_a_call_that_demands_an_anchor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    """Fault 24: `anchor: true` waits for somebody else's receipt, and is refused without; other calls go on."""
    rule = {"effect": "allow", "actions": ["s3:GetObject"]}
    grave = {**rule, "id": "grave", "resources": ["arn:aws:s3:::bucket/grave"], "anchor": True}
    light = {**rule, "id": "light", "resources": ["arn:aws:s3:::bucket/light"]}
    monkeypatch.setitem(support.POLICY, "rules", [grave, light])
    kept = tmp_path / "kept"
    command = ["/bin/sh", "-c", f"cat >> {kept}; echo receipt" if answers else "echo nobody there >&2; exit 3"]
    async with whole(tmp_path / "gateway", warden_anchor=json.dumps(command)) as gateway:
        answer = await gateway.get("h1", "/grave")
        assert (await gateway.get("h1", "/light")).status == 200
        evidence = await gateway.evidence()
        intents = [record for record in evidence if record["type"] == "intent"]
        anchors = [record for record in evidence if record["type"] == "anchor"]
        if answers:
            assert answer.status == 200, answer.body
            assert len(gateway.upstream.requests) == 2
            assert anchors[0]["size"] > intents[0]["seq"] and anchors[0]["receipt"]["output"] == "receipt\n"
            assert str(anchors[0]["size"]) in kept.read_text().splitlines()
        else:
            assert answer.status == 503 and [seen.target for seen in gateway.upstream.requests] == ["/light"]
            assert anchors == []


async def test_a_session_that_ends_while_its_call_is_carried_out(gateway: Whole) -> None:
    """Fault 35: the call was allowed: it completes once, and is recorded; the next one is refused."""
    begun, go = asyncio.Event(), asyncio.Event()
    answering = gateway.upstream.on_request

    async def slow(*args: Any) -> Any:
        begun.set()
        await go.wait()
        made = answering(*args) if answering is not None else None
        return await made if asyncio.iscoroutine(made) else made

    gateway.upstream.on_request = slow
    call = asyncio.create_task(gateway.get("h1", "/key"))
    await asyncio.wait_for(begun.wait(), 10)
    [session] = gateway.services.sessions.list()
    gateway.services.sessions.end(session.id, "its time is over")
    go.set()
    assert (await call).status == 200
    assert len(gateway.upstream.requests) == 1
    ends = [record for record in await gateway.evidence() if record["type"] == "outcome"]
    assert [(end["outcome"], end["session"]) for end in ends] == [("ok", session.id)]
    assert (await gateway.get("h1", "/key")).status == 403
    assert len(gateway.upstream.requests) == 1
