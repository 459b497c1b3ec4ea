"""Calls that run under a standing grant: they end with it, and not when they like."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from ..types import Approval

Stop = Callable[[str, bool], None]
"""Ends a call, in the loop that the call runs in: told why, and whether somebody ended the grant (else its time is over)."""


class Running:
    """What runs under which grant. `begin` is for the event loop, `tell` for any thread."""

    def __init__(self) -> None:
        self._calls: defaultdict[str, dict[str, tuple[Stop, asyncio.AbstractEventLoop]]] = defaultdict(dict)

    def begin(self, approval_id: str, flow_id: str, stop: Stop) -> Callable[[object], None]:
        """Notes a call; what is returned is called with anything when it is over."""
        self._calls[approval_id][flow_id] = (stop, asyncio.get_running_loop())

        def over(_flow: object) -> None:
            self._calls[approval_id].pop(flow_id, None)
            if not self._calls[approval_id]:
                del self._calls[approval_id]

        return over

    def tell(self, event: str, approval: Approval, _details: Mapping[str, Any]) -> None:
        """For `Approvals.listen`."""
        if event not in ("revoked", "expired") or approval.id not in self._calls:
            return
        revoked = event == "revoked"
        why = f"approval {approval.id} has {'been revoked' if revoked else 'expired'}: the call ends with it"
        for stop, loop in list(self._calls[approval.id].values()):
            loop.call_soon_threadsafe(stop, why, revoked)
