"""The WebSockets that are open: they end when their session ends, when the gateway stops, or when they are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mitmproxy import http

from . import access, wire
from .errors import Refusal

SESSION_ENDED = Refusal("the session has ended", status=403, code="ExpiredToken", station="identify")
STOPPING = Refusal("the gateway stops", status=503, code="ServiceUnavailable", station="wire")


class Sockets:
    """Open WebSockets by flow id. `inject` puts an event into a connection that lives; the master sets it."""

    def __init__(self) -> None:
        self.inject: Callable[[Any], None] | None = None
        self._open: dict[str, http.HTTPFlow] = {}

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, flow: http.HTTPFlow) -> None:
        self._open[flow.id] = flow

    def ended(self, flow: http.HTTPFlow) -> None:
        self._open.pop(flow.id, None)

    def end(self, refusal: Refusal, code: int, session: str = "") -> None:
        """Ends all of them, or a session's, with a close code (RFC 6455) on both sides."""
        for flow in list(self._open.values()):
            owner = access.of(flow)
            if self.inject is None or (session and (owner.session is None or owner.session.id != session)):
                continue
            owner.refusal = owner.refusal or refusal
            try:
                self.inject(wire.EndWebsocket(flow, code=code))
            except ValueError:
                pass  # its connection has ended, and so will it
