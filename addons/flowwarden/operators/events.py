"""What happens to approvals, as it happens, for everyone who watches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..errors import Refusal
from ..types import Approval

MAX_WATCHERS = 200
BACKLOG = 1000  # events; a watcher that is further behind has to look again


class Hub:
    """Hands every event to every watcher's queue; may be told from any thread."""

    def __init__(self) -> None:
        self._watchers: dict[asyncio.Queue[tuple[str, str]], asyncio.AbstractEventLoop] = {}

    def join(self) -> asyncio.Queue[tuple[str, str]]:
        """A queue of (event, approval id); Refusal (503) beyond MAX_WATCHERS."""
        if len(self._watchers) >= MAX_WATCHERS:
            raise Refusal("too many are watching already", status=503, code="ServiceUnavailable")
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue(BACKLOG)
        self._watchers[queue] = asyncio.get_running_loop()
        return queue

    def leave(self, queue: asyncio.Queue[tuple[str, str]]) -> None:
        self._watchers.pop(queue, None)

    def tell(self, event: str, approval: Approval, _details: Mapping[str, Any]) -> None:
        for queue, loop in [*self._watchers.items()]:
            try:
                loop.call_soon_threadsafe(_put, queue, (event, approval.id))
            except RuntimeError:
                self.leave(queue)  # its loop is closed


def _put(queue: asyncio.Queue[tuple[str, str]], item: tuple[str, str]) -> None:
    if not queue.full():
        queue.put_nowait(item)
