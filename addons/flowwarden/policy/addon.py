"""Station 4: allow, deny, or ask a human?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mitmproxy import http

from ..access import Access
from ..errors import Refusal
from ..judge import Judge
from ..signing.shapes import require_unsigned_allowed
from ..types import Decision
from . import accounts

if TYPE_CHECKING:
    from ..services import Services


class Decide(Judge):
    """The rules' answer; then the account pin, which no allow overrules."""

    name = "decide"

    def __init__(self, services: Services) -> None:
        self.services = services

    def judge(self, flow: http.HTTPFlow, owner: Access) -> None:
        call, request = owner.call, owner.request
        assert call is not None and request is not None
        rules = self.services.rules.current
        now = datetime.fromtimestamp(self.services.clock(), UTC)
        if owner.issued:
            why = "AWS put this presigned URL into an answer of this session."
            owner.decision = Decision("allow", ("issued-url",), why, rules.digest)
            return
        decision = owner.decision = rules.decide(owner.principal, call, request, now)
        rule = decision.rules[0] if decision.rules else ""
        if decision.effect == "deny":
            raise Refusal(_why(owner, rule, decision.reason), code="AccessDenied", station=self.name, rule=rule)
        if "upgrade" in request.fields and (decision.mask or not decision.websocket):
            why = "no rule lets this host have a WebSocket, whose messages nobody masks (websocket: true, mask: off)"
            raise Refusal(why, code="AccessDenied", station=self.name, rule=rule)
        if owner.auth is None:
            require_unsigned_allowed(request, call, decision.unsigned)
        lending = self.services.lending(owner.session) if call.aws else None
        if lending is not None:
            foreign = accounts.outside(call, request, frozenset(lending.accounts))
            if foreign:
                raise Refusal(foreign, code="AccessDenied", station=self.name, rule="account-pin")


def _why(owner: Access, rule: str, reason: str) -> str:
    call = owner.call
    what = ", ".join(action.name for action in call.actions) if call and call.actions else ""
    if not what:
        what = (
            str(call.operation)
            if call and call.operation
            else f"{owner.request.method} {owner.request.host}"
            if owner.request
            else ""
        )
    if rule in ("", "default"):
        return f"no rule allows {what}"
    return f"{what} is denied by rule {rule}" + (f": {reason}" if reason else "")
