"""What the wire asks of the gateway, and small things that its modules share."""

from __future__ import annotations

import re
from concurrent.futures import Future
from typing import Any, Protocol

from mitmproxy import http
from mitmproxy.proxy import commands, layer
from mitmproxy.proxy import context as proxy_context

from ..errors import Refusal
from .headers import expected_body_size

Commands = layer.CommandGenerator[Any]

_PEER_BYTES = re.compile(r"""(?<![a-z])b?['"].*""", re.DOTALL)


class Spool(Protocol):
    """A body on disk. `write` and `read` raise `Refusal`."""

    def write(self, data: bytes) -> None:
        """Takes the next bytes on their way in."""

    async def read(self) -> bytes:
        """The next block on its way out; b"" when all of it was what was judged."""


class Behind(commands.Command):
    """Asks the connection's handler to read no more until some work is done in its thread; the loop goes on meanwhile."""

    def __init__(self, work: Future[None]) -> None:
        self.work = work


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

    def spool(self, flow: http.HTTPFlow) -> Spool | None:
        """Where the body of this request is to be read to before it is judged; None: it streams, or is held in memory."""

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

    def hold(self, flow: http.HTTPFlow, size: int) -> None:
        """Counts bytes of a body that stay in memory (negative: that went); refuses beyond the session's share."""

    def sent(self, flow: http.HTTPFlow) -> None:
        """The answer is on its way to the client: what was counted goes as the client reads."""

    def unread(self, context: proxy_context.Context) -> None:
        """The client sent what is no HTTP, or a head without end; its connection is closed."""

    def behind(self, flow: http.HTTPFlow) -> Future[None] | None:
        """What has to be done before more of this flow's bodies is read; None while all keep up."""

    def left(self, flow: http.HTTPFlow) -> None:
        """The client left before its answer was complete."""


def misframed(flow: http.HTTPFlow) -> bool:
    """Whether a whole answer has another length than it announces: the agent would lose step with the connection."""
    assert flow.response is not None
    length = expected_body_size(flow.request, flow.response)
    return length is not None and length not in (-1, len(flow.response.raw_content or b""))


def without_bytes(text: str) -> str:
    """mitmproxy's message without what it quotes of the peer's bytes: those were never masked."""
    return _PEER_BYTES.sub("(bytes not shown)", text)


def copied[M: (http.Request, http.Response)](message: M) -> M:
    """A message whose head can be changed without touching the original (a tenth of the cost of `copy()`)."""
    made = object.__new__(type(message))
    made.__dict__.update(message.__dict__)
    made.data = object.__new__(type(message.data))
    made.data.__dict__.update(message.data.__dict__)
    made.headers = message.headers.copy()
    return made
