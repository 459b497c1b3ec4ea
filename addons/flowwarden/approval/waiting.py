"""Those who hold a call and wait for its answer. Answers may come from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from typing import Any


class Waiters:
    """One future for each held call, by the approval's id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def count(self, approval_id: str) -> int:
        with self._lock:
            return len(self._waiting.get(approval_id, ()))

    def join(self, approval_id: str) -> asyncio.Future[None]:
        """A future of the running loop that is done at the next change; hand it back to `leave`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting[approval_id].add(future)
        return future

    def leave(self, approval_id: str, future: asyncio.Future[None]) -> None:
        future.cancel()
        with self._lock:
            self._waiting[approval_id].discard(future)
            if not self._waiting[approval_id]:
                del self._waiting[approval_id]

    def wake(self, approval_id: str) -> None:
        with self._lock:
            futures = list(self._waiting.get(approval_id, ()))
        for future in futures:
            try:
                future.get_loop().call_soon_threadsafe(_done, future)
            except RuntimeError:
                continue  # its loop is closed: nobody waits there any more


async def first(future: asyncio.Future[None], seconds: float, gone: asyncio.Event | None) -> None:
    """Returns when the future is done, `seconds` are over, or `gone` is set; whichever is first."""
    leaving = asyncio.ensure_future(gone.wait()) if gone is not None else None
    waited: set[asyncio.Future[Any]] = {future} if leaving is None else {future, leaving}
    try:
        await asyncio.wait(waited, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if leaving is not None:
            leaving.cancel()


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
