"""Station 5: hold the call until a human has answered, or time is up."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from mitmproxy import ctx, hooks, http

from .. import proof
from ..access import Access
from ..errors import Refusal
from ..judge import Judge
from ..recording import records
from ..signing import payload, sigv4
from ..types import Approval, Decision
from . import attempts, pending
from .digest import digest
from .spool import said
from .store import LEFT
from .summary import summarise

if TYPE_CHECKING:
    from ..services import Services

_OFF_LOOP = 1 << 20  # bytes of a body that are hashed in a thread


class Approve(Judge):
    """A call that a rule wants approved waits here, its connection open."""

    name = "approve"

    def __init__(self, services: Services) -> None:
        self.services = services
        self._attempts: attempts.Attempts[http.Response] = attempts.Attempts()

    def judge(self, flow: http.HTTPFlow, owner: Access) -> Awaitable[None] | None:
        decision = owner.decision
        assert decision is not None
        if decision.effect == "allow":
            return None
        if decision.effect != "approve" or decision.terms is None:
            raise self._refusal("the decision is neither allow nor approve", "AccessDenied", owner)
        if owner.body == "stream":
            self._on_head(owner, decision)
            return None
        return self._hold(flow, owner, decision)

    def _on_head(self, owner: Access, decision: Decision) -> None:
        """A body that streams may do so under a standing grant; else it is read first: an approval is for exactly one."""
        assert owner.request is not None
        if self._standing(owner, decision, self._bound(owner, "streams")):
            return
        length = owner.request.header("content-length")
        size = int(length) if length.isdecimal() else None
        if size is not None and size <= self.services.body_limit:
            owner.body = "whole"
        elif not self.services.spools.limit:
            why = "this call needs an approval, and its body is too large to be held (warden_body_limit, warden_spool_limit)"
            raise self._refusal(why, "RequestEntityTooLarge", owner, 413)
        else:
            reader = payload.of(owner.auth, owner.phantom, owner.request.headers)
            spool = owner.spool = self.services.spools.open(size or 0, reader)
            owner.at_end.append(lambda _flow: spool.close())
            owner.body = "spool"

    async def _hold(self, flow: http.HTTPFlow, owner: Access, decision: Decision) -> None:
        request, session, terms = owner.request, owner.session, decision.terms
        assert request is not None and session is not None and terms is not None
        bound = self._bound(owner, await self._said(owner))
        self.services.sessions.check(session)
        invocation = attempts.key(session.id, bound, request.header("amz-sdk-invocation-id"))
        if await self._joined(flow, owner, invocation) or self._standing(owner, decision, bound):
            return
        answered = await self._answered(flow, owner, decision, bound)
        if not await self._joined(flow, owner, invocation):
            await self._use(answered, owner, decision, invocation)

    async def _said(self, owner: Access) -> str:
        """What the body says, as hexadecimal SHA-256; in the aws-chunked form what is in it, its signatures checked."""
        request, spool = owner.request, owner.spool
        assert request is not None
        if spool is not None:
            await spool.end()
            owner.body_sha256 = spool.sha256
            if owner.auth is not None:
                sigv4.check_payload(owner.auth, spool.sha256)
            return spool.said
        body = request.body or b""
        reader = payload.of(owner.auth, owner.phantom, request.headers)
        if reader is None:
            return owner.body_sha256 or hashlib.sha256(body).hexdigest()

        def read() -> str:
            reader.feed(body)
            reader.finish()
            return said(reader)

        return await asyncio.to_thread(read) if len(body) > _OFF_LOOP else read()

    def _bound(self, owner: Access, body: str) -> str:
        """The digest of the request as a human approves it."""
        call, request, session = owner.call, owner.request, owner.session
        assert call is not None and request is not None and session is not None
        _, role = self.services.acting(session, owner.auth.access_key_id if owner.auth is not None else "")
        return digest(session.principal, role, call.account, call.region, call, request, body)

    def _standing(self, owner: Access, decision: Decision, bound: str) -> bool:
        """Whether a grant for an operation or a session covers this call; the call ends with it."""
        call, session = owner.call, owner.session
        assert call is not None and session is not None
        found = self.services.approvals.granted(
            session.id,
            bound,
            str(call.operation),
            call.resources,
            region=call.region,
            account=call.account,
            rules=decision.rules,
            rules_digest=decision.digest,
            flow=owner.id,
        )
        if found is None:
            return False
        owner.approval_id = found.id
        self._ends_with(found.id, owner)
        return True

    def _ends_with(self, approval_id: str, owner: Access) -> None:
        """Revocation and the session's end stop what is still running; the end of its time what streams without an end."""

        def stop(why: str, revoked: bool) -> None:
            refusal = self._refusal(why, "AccessDenied", owner)
            if revoked:
                owner.refusal = owner.refusal or refusal
            else:
                owner.time_over = refusal

        owner.at_end.append(self.services.running.begin(approval_id, owner.id, stop))

    async def _answered(self, flow: http.HTTPFlow, owner: Access, decision: Decision, bound: str) -> Approval:
        """Asks, or joins who has asked, and waits as long as the rule says; Refusal (403) if the client leaves."""
        call, request, session, terms = owner.call, owner.request, owner.session, decision.terms
        assert call is not None and request is not None and session is not None and terms is not None
        approvals, loop = self.services.approvals, asyncio.get_running_loop()
        summary = summarise(owner, call, request, decision, self.services)
        until = loop.time() + terms.hold
        while True:
            asked = await approvals.aside(
                approvals.ask,
                bound,
                session.id,
                session.principal,
                summary,
                terms,
                flow=owner.id,
                resources=call.resources,
            )
            owner.approval_id = asked.id
            flow.comment, flow.marked = f"waiting for approval {asked.id}", ":hourglass:"
            ctx.master.addons.trigger(hooks.UpdateHook([flow]))  # mitmweb shows it while it waits
            if asked.wants_purpose:
                raise self._refusal(pending.reason_wanted(asked), "ApprovalPending", owner)
            answered = await approvals.wait(asked.id, until - loop.time(), owner.gone)
            if owner.gone is not None and owner.gone.is_set():
                await approvals.aside(approvals.withdraw, asked.id)
                raise self._refusal("the client left while the call was held", "RequestWithdrawn", owner)
            if answered.state != "withdrawn" or answered.reason != LEFT:
                return answered
            # an earlier attempt's leaving crossed this one's joining: the question is opened again

    async def _use(
        self, answered: Approval, owner: Access, decision: Decision, invocation: attempts.Key | None
    ) -> None:
        """Uses the grant once. Session and rules are looked at again: time has passed."""
        approvals, session = self.services.approvals, owner.session
        assert session is not None and decision.terms is not None
        if answered.state in ("open", "approved"):
            self.services.sessions.check(session)
            if self.services.rules.current.digest != decision.digest:
                raise self._refusal("the rules changed while the call was held; repeat it", "AccessDenied", owner)
        lenient = answered.state == "open" and decision.terms.on_timeout == "allow"
        if answered.state == "open" and not lenient:
            raise self._refusal(pending.not_answered(answered), "ApprovalPending", owner)
        if answered.state not in ("open", "approved"):
            reason = f": {answered.reason}" if answered.reason else ""
            raise self._refusal(f"approval {answered.id} was {answered.state}{reason}", "AccessDenied", owner)
        if answered.terms.scope != "request" and not lenient:
            self._ends_with(answered.id, owner)
            return
        attempt = self._attempts.begin(invocation, owner.id, answered.id)
        use = approvals.allow_on_timeout if lenient else approvals.consume
        if not await approvals.aside(use, answered.id, owner.id):
            if attempt is not None:
                self._attempts.end(attempt, None, again=True)
            raise self._refusal(f"approval {answered.id} was used already", "AccessDenied", owner)
        owner.at_end.append(lambda _flow: approvals.later(approvals.settle, answered.id))
        if attempt is not None:
            owner.at_end.append(lambda flow: self._ended(flow, attempt))
        if lenient:
            message = f"approval {answered.id}: nobody answered, allowed"
            self.services.note("alarm", records.alarm("on_timeout", message))

    def _ended(self, flow: http.HTTPFlow, attempt: attempts.Attempt[http.Response]) -> None:
        """Keeps what the agent got, for its SDK's retries; not what may be tried again, and nothing that was not let out."""
        answer = flow.response
        if answer is None or callable(answer.stream) or not proof.may_release(flow):
            self._attempts.end(attempt, None)
            return
        small = len(answer.raw_content or b"") <= attempts.LARGEST
        again = answer.status_code >= 500 or answer.status_code == 429
        self._attempts.end(attempt, answer.copy() if small else None, again=again)

    async def _joined(self, flow: http.HTTPFlow, owner: Access, invocation: attempts.Key | None) -> bool:
        """Gives a retry the answer of the attempt that was let through, if there is one: one execution, one answer."""
        earlier = self._attempts.find(invocation)
        if earlier is None:
            return False
        owner.approval_id = earlier.approval
        await earlier.over.wait()
        if earlier.answer is None:
            raise self._refusal(pending.answer_unknown(earlier.approval, earlier.flow), "OutcomeUnknown", owner, 409)
        owner.notes.append(f"a retry: this is the answer of flow {earlier.flow}")
        flow.response = proof.of(flow).own_answer = earlier.answer.copy()
        return True

    def _refusal(self, why: str, code: str, owner: Access, status: int = 403) -> Refusal:
        rule = owner.decision.rules[0] if owner.decision and owner.decision.rules else ""
        return Refusal(why, status=status, code=code, station=self.name, rule=rule)
