"""The disk fails under the real chain in a real proxy: full at intent, full at outcome, read-only, a sync that fails."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flowwarden import build
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
async def test_full_or_read_only_at_intent(gateway: Whole, version: str, code: int) -> None:
    """Faults 11 and 13: 503, nothing upstream, not ready and why; ready again by itself when the disk is."""
    with failing(gateway, write=code, overwrite=code):
        answer = await gateway.get(version, "/key")
        assert answer.status == 503
        assert b"cannot record" in answer.body or b"nothing can be recorded" in answer.body
        assert gateway.upstream.requests == []
        assert build.health(gateway.services)["ready"] is False
        assert build.health(gateway.services)["problems"]


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
