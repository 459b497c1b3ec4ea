"""Station 5: hold the call until a human has answered, or time is up."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from mitmproxy import http

from ..access import Access
from ..errors import Refusal
from ..judge import Judge
from ..recording import records
from ..types import Approval, Call, Decision, Request
from . import irreversible
from .digest import digest

if TYPE_CHECKING:
    from ..masking.masker import Masker
    from ..services import Services


class Approve(Judge):
    """A call that a rule wants approved waits here, its connection open."""

    name = "approve"

    def __init__(self, services: Services) -> None:
        self.services = services

    def judge(self, flow: http.HTTPFlow, owner: Access) -> Awaitable[None] | None:
        decision = owner.decision
        assert decision is not None
        if decision.effect == "allow":
            return None
        if decision.effect != "approve" or decision.terms is None:
            raise self._refusal("the decision is neither allow nor approve", "AccessDenied", owner)
        return self._hold(flow, owner, decision)

    async def _hold(self, flow: http.HTTPFlow, owner: Access, decision: Decision) -> None:
        call, request, session, terms = owner.call, owner.request, owner.session, decision.terms
        assert call is not None and request is not None and session is not None and terms is not None
        if request.body is None and self._can_wait(request):
            owner.body = "whole"  # an approval is for exactly one body: it is read first, and everything judged anew
            return
        if request.body is None:
            why = "this call needs an approval, and its body streams: an approval is for exactly one body"
            raise self._refusal(why, "AccessDenied", owner)
        body_sha256 = owner.body_sha256 or hashlib.sha256(request.body).hexdigest()
        _, role = self.services.acting(session, owner.auth.access_key_id if owner.auth is not None else "")
        bound = digest(session.principal, role, call.account, call.region, call, request, body_sha256)
        approvals = self.services.approvals
        standing = approvals.granted(
            session.id,
            bound,
            str(call.operation),
            call.resources,
            region=call.region,
            account=call.account,
            rules=decision.rules,
            rules_digest=decision.digest,
        )
        if standing is not None:
            owner.approval_id = standing.id
            return
        summary = summarise(owner, call, request, decision, self.services)
        asked = await approvals.aside(approvals.ask, bound, session.id, session.principal, summary, terms)
        owner.approval_id = asked.id
        flow.comment, flow.marked = f"waiting for approval {asked.id}", ":hourglass:"
        answered = await approvals.wait(asked.id, terms.hold, owner.gone)
        if owner.gone is not None and owner.gone.is_set():
            await approvals.aside(approvals.withdraw, asked.id)
            raise self._refusal("the client left while the call was held", "RequestWithdrawn", owner)
        await self._use(answered, owner, decision)

    def _can_wait(self, request: Request) -> bool:
        """Whether a body that would stream is small enough to be held."""
        length = request.header("x-amz-decoded-content-length") or request.header("content-length")
        return length.isdigit() and int(length) <= self.services.body_limit

    async def _use(self, answered: Approval, owner: Access, decision: Decision) -> None:
        """Uses the grant once. Session and rules are looked at again: time has passed."""
        approvals, session = self.services.approvals, owner.session
        assert session is not None and decision.terms is not None
        if answered.state in ("open", "approved"):
            self.services.sessions.check(session)
            if self.services.rules.current.digest != decision.digest:
                raise self._refusal("the rules changed while the call was held; repeat it", "AccessDenied", owner)
        if answered.state == "open":
            if decision.terms.on_timeout == "allow" and await approvals.aside(approvals.allow_on_timeout, answered.id):
                message = f"approval {answered.id}: nobody answered, allowed"
                self.services.note("alarm", records.alarm("on_timeout", message))
                return
            raise self._refusal(
                f"approval {answered.id} was not answered in time; the question stays open until "
                f"{_clock(answered.expires)}. Ask GET http://flowwarden.internal/approvals/{answered.id} and repeat the call",
                "ApprovalPending",
                owner,
            )
        if answered.state != "approved":
            reason = f": {answered.reason}" if answered.reason else ""
            raise self._refusal(f"approval {answered.id} was {answered.state}{reason}", "AccessDenied", owner)
        if answered.terms.scope == "request" and not await approvals.aside(approvals.consume, answered.id):
            raise self._refusal(f"approval {answered.id} was used already", "AccessDenied", owner)

    def _refusal(self, why: str, code: str, owner: Access) -> Refusal:
        rule = owner.decision.rules[0] if owner.decision and owner.decision.rules else ""
        return Refusal(why, status=403, code=code, station=self.name, rule=rule)


def summarise(owner: Access, call: Call, request: Request, decision: Decision, services: Services) -> dict[str, Any]:
    """What approvers see of a call: masked as a recording would be."""
    masker = services.masker(owner.principal)
    masked = masker.mask_request_for_recording(call, request.headers, request.body or b"")
    return {
        "operation": str(call.operation),
        "actions": [action.name for action in call.actions],
        "resources": list(call.resources),
        "params": _params(call, masked.counts, masker),
        "irreversible": irreversible.note(call),
        "region": call.region,
        "account": call.account,
        "host": request.host,
        "method": request.method,
        "path": masker.mask_text(request.target),
        "body": masked.body[:65536].decode("utf-8", "replace"),
        "rules": list(decision.rules),
        "rules_digest": decision.digest,
        "reason": decision.reason,
    }


def _params(call: Call, masks: Counter[str], masker: Masker) -> dict[str, str]:
    """The parameters one a line, each masked as a text; none where the body holds what fields hide."""
    if call.params is None or masks:
        return {}
    return {name: masker.mask_text(repr(value))[:2000] for name, value in call.params.items()}


def _clock(moment: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S UTC")
