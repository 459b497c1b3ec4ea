"""What the wire asks of the gateway, and small things that its modules share."""

from __future__ import annotations

import copy
import re
from typing import Any, Protocol

from mitmproxy import http
from mitmproxy.net.http.http1 import expected_http_body_size
from mitmproxy.proxy import context as proxy_context
from mitmproxy.proxy import layer

from ..errors import Refusal

Commands = layer.CommandGenerator[Any]

_PEER_BYTES = re.compile(r"""(?<![a-z])b?['"].*""", re.DOTALL)


class Gate(Protocol):
    """What the wire asks of the gateway. Every method that may refuse raises `Refusal`."""

    body_limit: int

    def at_once(self, event: str, flow: http.HTTPFlow) -> bool:
        """Runs a head's hook here and now. False: a station has to wait, and mitmproxy has to run the hook."""

    def began(self, flow: http.HTTPFlow, credential: str) -> None:
        """A request head has arrived on a stream of the wire; `credential` is its own Proxy-Authorization."""

    def seal(self, flow: http.HTTPFlow) -> None:
        """Refuses unless every station let exactly this request pass."""

    def sign(self, flow: http.HTTPFlow) -> http.Request:
        """The signed copy that goes on the wire."""

    def dial(self, flow: http.HTTPFlow) -> tuple[tuple[str, int], bool]:
        """Address and TLS of the connection that this request takes."""

    def verdict(self, flow: http.HTTPFlow) -> Refusal | None:
        """A refusal that a hook has spoken since the head passed."""

    def answer(self, flow: http.HTTPFlow, refusal: Refusal) -> http.Response:
        """The refusal in the protocol's own form; it becomes the flow's answer."""

    def may_release(self, flow: http.HTTPFlow) -> bool:
        """Whether swap, mask and record let this answer go to the agent."""

    def may_stream(self, flow: http.HTTPFlow) -> bool:
        """Whether the answer's stream callable is the guard's own."""

    def may_upgrade(self, flow: http.HTTPFlow) -> bool:
        """Whether a WebSocket is allowed here."""

    def opened(self, flow: http.HTTPFlow) -> None:
        """A WebSocket has begun; it lasts until its end hook."""

    def refuse(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        """The wire itself refuses what a flow goes on with."""

    def keep_answer(self, flow: http.HTTPFlow, body: bytes) -> None:
        """Takes a whole answer as it came; the flow itself gets it only when it was swapped and masked."""

    def unread(self, context: proxy_context.Context) -> None:
        """The client sent what is no HTTP, or a head without end; its connection is closed."""

    def left(self, flow: http.HTTPFlow) -> None:
        """The client left before its answer was complete."""


def misframed(flow: http.HTTPFlow) -> bool:
    """Whether a whole answer has another length than it announces: the agent would lose step with the connection."""
    assert flow.response is not None
    length = expected_http_body_size(flow.request, flow.response)
    return length is not None and length not in (-1, len(flow.response.raw_content or b""))


def without_bytes(text: str) -> str:
    """mitmproxy's message without what it quotes of the peer's bytes: those were never masked."""
    return _PEER_BYTES.sub("(bytes not shown)", text)


def copied[M: (http.Request, http.Response)](message: M) -> M:
    """A message whose head can be changed without touching the original (a tenth of the cost of `copy()`)."""
    made = copy.copy(message)
    made.data = copy.copy(message.data)
    made.headers = message.headers.copy()
    return made
