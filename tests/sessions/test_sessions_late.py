"""An answer that comes when its session has ended: the agent gets it, and nothing of it is kept for the session."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.whole import whole
from support.wire_clients import PATIENCE, Got

BODY = b"password-12345678"


async def test_a_masked_object_is_not_remembered_for_a_session_that_has_ended(tmp_path: Path) -> None:
    """The end clears what a session has seen; nothing would ever clear what came after it."""
    asked, ended = asyncio.Event(), asyncio.Event()

    async def late(_got: Got, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await ended.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)

    async with whole(tmp_path) as gateway:
        sessions, seen = gateway.services.sessions, gateway.services.masked_objects
        session = sessions.by_handle(gateway.handle)
        assert session is not None
        for live in (True, False):
            gateway.upstream.on_request = late
            asked.clear()
            ended.clear()
            getting = asyncio.create_task(gateway.get("h1", "/key"))
            async with asyncio.timeout(PATIENCE):
                await asked.wait()
                if not live:
                    sessions.end(session.id)
                ended.set()
                answer = await getting
            assert answer.status == 200 and b"[MASKED" in answer.body
            assert (session.id in seen._seen) is live
