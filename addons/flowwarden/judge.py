"""Judge: base of the stations that decide on a request, on its head when the body streams, else on the whole request."""

from __future__ import annotations

from collections.abc import Awaitable

from mitmproxy import http

from . import access, proof
from .access import Access
from .station import Station


class Judge(Station):
    """`judge` raises a Refusal or returns; only then is the request let pass."""

    def judge(self, flow: http.HTTPFlow, owner: Access) -> Awaitable[None] | None:
        raise NotImplementedError

    def requestheaders(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        owner = access.of(flow)
        return self._pass(flow, owner) if owner.body == "stream" and not owner.internal else None

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        owner = access.of(flow)
        return self._pass(flow, owner) if owner.body != "stream" and not owner.internal else None

    def _pass(self, flow: http.HTTPFlow, owner: Access) -> Awaitable[None] | None:
        asked = owner.body
        made = self.judge(flow, owner)
        if made is not None:
            return self._pass_after(flow, made)
        if owner.body == asked:  # else it wants to see the body first, and will be asked again
            proof.let_pass(flow, self.name)
        return None

    async def _pass_after(self, flow: http.HTTPFlow, made: Awaitable[None]) -> None:
        await made
        proof.let_pass(flow, self.name)
