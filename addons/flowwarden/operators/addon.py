"""flowwarden.internal: what the agent's side asks of the gateway itself, through the proxy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy import http

from .. import access, proof
from ..errors import Refusal
from ..station import Station
from . import internal

if TYPE_CHECKING:
    from ..services import Services

_LIMIT = 64 * 1024


class Internal(Station):
    """Answers at once; the call goes nowhere."""

    name = "internal"

    def __init__(self, services: Services) -> None:
        self.services = services

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if not access.of(flow).internal:
            return
        length = flow.request.headers.get("content-length", "0")
        if "transfer-encoding" in flow.request.headers or not length.isdecimal() or int(length) > _LIMIT:
            why = f"at most {_LIMIT} bytes are read here, and their number has to be announced"
            raise Refusal(why, status=413, code="RequestEntityTooLarge", station=self.name)

    async def request(self, flow: http.HTTPFlow) -> None:
        owner = access.of(flow)
        if not owner.internal:
            return
        request = flow.request
        status, headers, body = await internal.answer(
            self.services.operators,
            request.method,
            request.path,
            dict(request.headers.items()),
            request.content or b"",
            owner.credential,
        )
        response = http.Response.make(status, body, dict(headers))
        flow.response = proof.of(flow).own_answer = response
