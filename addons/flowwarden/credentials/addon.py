"""Lend: a session's lease at hand before anything leaves. Station 9, swap: credentials in answers become phantoms."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from mitmproxy import http

from .. import access, proof
from ..access import Access
from ..errors import Refusal
from ..judge import Judge
from ..station import Station
from ..types import Session

if TYPE_CHECKING:
    from ..services import Services


class Lend(Judge):
    """Takes the lease that the request will be signed with; waits for STS only where there is none yet."""

    name = "lend"

    def __init__(self, services: Services) -> None:
        self.services = services

    def judge(self, flow: http.HTTPFlow, owner: Access) -> Awaitable[None] | None:
        call, decision, auth = owner.call, owner.decision, owner.auth
        assert call is not None and decision is not None
        if auth is None or owner.session is None or not (call.aws or decision.sign):
            return None
        if owner.request is None or owner.request.scheme != "https":
            why = "a call is signed with real credentials only inside TLS: use https"
            raise Refusal(why, code="AccessDenied", station=self.name)
        vault = self.services.vault
        derived = vault.by_key(auth.access_key_id)
        if derived is not None and derived[0] == owner.session.id:
            owner.lease = derived[2]
            return None
        owner.lease = vault.current(owner.session.id)
        return None if owner.lease is not None else self._wait(owner, owner.session)

    async def _wait(self, owner: Access, session: Session) -> None:
        owner.lease = await self.services.vault.lease(session)


class Swap(Station):
    """Real credentials that AWS puts into an answer stay in the vault; the agent gets phantoms that work here."""

    name = "swap"

    def __init__(self, services: Services) -> None:
        self.services = services

    def response(self, flow: http.HTTPFlow) -> None:
        owner = access.of(flow)
        response, call, session = flow.response, owner.call, owner.session
        assert response is not None
        if call is not None and call.operation is not None and session is not None and owner.raw_answer is not None:
            kind = response.headers.get("content-type", "")
            swapped = self.services.vault.swap(session.id, call.operation, kind, owner.raw_answer)
            owner.raw_answer = swapped[0]
            self.services.issued.note(session.id, call.operation, owner.raw_answer)
        proof.let_out(flow, self.name)
