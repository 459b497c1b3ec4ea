"""The operators' listener: sessions, approvals, health and metrics as JSON; signed in on every path but health."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import tornado.httpserver
import tornado.iostream
import tornado.netutil
import tornado.web

from ..approval.who import refuse_approver
from ..errors import ConfigError, Refusal, TokenError
from ..sessions.ids import rfc3339
from ..types import Approval
from . import page, signin
from .events import Hub
from .handler import Handler, Listener
from .services import Services, session_json

MAX_BODY = 64 * 1024
BRIEF = frozenset({"operation", "actions", "resources", "account", "region", "rules", "reason", "irreversible"})
HEARTBEAT = 15.0  # seconds between signs of life to those who watch


class Health(Handler):
    async def prepare(self) -> None:
        return None

    def get(self) -> None:
        health = dict(self.services.health())
        self.set_status(200 if health.get("ready") else 503)
        self.finish({**health, "version": self.services.version})


class Metrics(Handler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(self.services.metrics())


class Whoami(Handler):
    needs = ()

    def get(self) -> None:
        roles = [role for role in self.services.roles if self.services.has_role(role, self.who.principal)]
        told = {"principal": self.who.principal.as_json(), "roles": roles, "expires": rfc3339(self.who.expires)}
        self.finish({**told, "csrf": self.csrf} if self.csrf else told)


class Sessions(Handler):
    def get(self) -> None:
        everything = self.get_query_argument("all", "") in ("1", "true")
        self.finish({"sessions": [session_json(s) for s in self.services.sessions.list(all=everything)]})


class OneSession(Handler):
    async def prepare(self) -> None:
        if self.request.method == "DELETE":
            self.needs = ("admin",)
        await super().prepare()

    def get(self, session_id: str) -> None:
        found = self.services.sessions.get(session_id)
        if found is None:
            raise Refusal("there is no such session", status=404, code="ResourceNotFoundException")
        self.finish(session_json(found))

    def delete(self, session_id: str) -> None:
        """`?principal=1` ends all of the principal's sessions and revokes every token issued to it so far."""
        found = self.services.sessions.get(session_id)
        if found is None:
            raise Refusal("there is no such session", status=404, code="ResourceNotFoundException")
        reason = f"ended by {self.who.principal.name or self.who.subject}"
        who = found.principal
        if self.get_query_argument("principal", "") in ("1", "true"):
            self.services.sessions.revoke_principal(who.issuer, who.subject, reason)
        ended = self.services.sessions.end(session_id, reason)
        self.finish(session_json(ended or found))


class ApprovalHandler(Handler):
    """Whoever may answer a question may see it; viewers and administrators see all."""

    needs = ()

    def may_see(self, approval: Approval) -> bool:
        roles = ("viewer", "admin", "approver")
        return any(self.services.has_role(role, self.who.principal) for role in roles) or not self.why_not(approval)

    def why_not(self, approval: Approval) -> str:
        """Why the caller may not answer; empty if it may."""
        approvals = self.services.approvals
        try:
            refuse_approver(
                approvals.requester(approval.id),
                self.who.principal,
                approval.terms,
                token_id=self.who.token_id,
                session_tokens=approvals.tokens_of(approval.session),
                default_groups=approvals.default_groups,
            )
        except Refusal as refusal:
            return str(refusal)
        return ""

    def told(self, approval: Approval) -> dict[str, Any]:
        why_not = self.why_not(approval)
        told = self.services.approvals.as_json(approval.id)  # a moment later: a grant may be used up by then
        return {
            **told,
            "state": approval.state,
            "may_answer": not why_not,
            "why_not": why_not,
            "wants_purpose": approval.wants_purpose,
        }

    def brief(self, approval: Approval) -> dict[str, Any]:
        """Without what the request holds: who sees that has looked at the one question, and that is recorded."""
        told = self.told(approval)
        told["summary"] = {name: value for name, value in told["summary"].items() if name in BRIEF}
        return told

    def one(self, approval_id: str) -> Approval:
        """404 for what does not exist and for what the caller may not see alike."""
        found = self.services.approvals.find(approval_id)
        if found is None or not self.may_see(found):
            raise Refusal("there is no such approval", status=404, code="ResourceNotFoundException")
        return found


class Approvals(ApprovalHandler):
    async def prepare(self) -> None:
        if not page.wanted(self):
            await super().prepare()

    def get(self) -> None:
        if page.wanted(self):
            page.send(self)
            return
        self.services.approvals.expire()
        found = self.services.approvals.list(self.get_query_argument("state", "") or None)
        self.finish({"approvals": [self.brief(approval) for approval in found if self.may_see(approval)]})


class OneApproval(Approvals):
    def get(self, approval_id: str = "") -> None:
        if page.wanted(self):
            page.send(self)
            return
        self.services.approvals.expire()
        approval = self.one(approval_id)
        self.services.approvals.viewed(approval.id, self.who.principal)
        self.finish(self.told(approval))


class Events(ApprovalHandler):
    """Server-sent events (https://html.spec.whatwg.org/#server-sent-events), for as long as the token is good."""

    queue: asyncio.Queue[tuple[str, str]] | None = None

    def on_connection_close(self) -> None:
        if self.queue is not None and not self.queue.full():
            self.queue.put_nowait(("gone", ""))  # wakes the loop below, which then finds the stream closed

    async def get(self) -> None:
        queue = self.queue = self.listener.hub.join()
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        try:
            await self.tell({"event": "hello"})
            while self.services.clock() < self.who.expires:
                self.services.sessions.refuse_revoked(self.who)
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        event, approval_id = await queue.get()
                except TimeoutError:
                    self.write(": still here\n\n")
                    await self.flush()
                    continue
                if event == "gone":
                    return
                approval = self.services.approvals.find(approval_id)
                if approval is not None and event != "viewed" and self.may_see(approval):
                    await self.tell({"event": event, "approval": self.brief(approval)})
        except (tornado.iostream.StreamClosedError, TokenError):
            return
        finally:
            self.listener.hub.leave(queue)

    async def tell(self, event: dict[str, Any]) -> None:
        self.write(f"data: {json.dumps(event)}\n\n")
        await self.flush()


class AnswerApproval(ApprovalHandler):
    async def post(self, approval_id: str) -> None:
        approval = self.one(approval_id)
        body = self.json_body()
        approve, reason = body.get("approve"), body.get("reason", "")
        if not isinstance(approve, bool) or not isinstance(reason, str) or set(body) - {"approve", "reason"}:
            raise Refusal(
                'the body has to be {"approve": true or false, "reason": text}', status=400, code="ValidationException"
            )
        approvals, who = self.services.approvals, self.who
        answered = await approvals.aside(
            approvals.answer, approval.id, who.principal, approve, reason, token_id=who.token_id
        )
        self.finish(self.told(answered))


class RevokeApproval(ApprovalHandler):
    """Taking back only ever closes: those who could answer may, and administrators."""

    async def post(self, approval_id: str) -> None:
        approval = self.one(approval_id)
        reason = self.json_body().get("reason", "") if self.request.body else ""
        if not self.services.has_role("admin", self.who.principal) and (why_not := self.why_not(approval)):
            raise Refusal(why_not, status=403, code="AccessDenied")
        if not isinstance(reason, str):
            raise Refusal("'reason' has to be text", status=400, code="ValidationException")
        approvals = self.services.approvals
        self.finish(self.told(await approvals.aside(approvals.revoke, approval.id, self.who.principal, reason)))


class Nothing(Handler):
    needs = ()

    async def prepare(self) -> None:
        await super().prepare()
        raise Refusal("there is nothing here", status=404, code="NotFound")


def make_app(services: Services) -> tornado.web.Application:
    """The listener's application; `services.attach()` is the caller's business."""
    hub = Hub()
    services.approvals.listen(hub.tell)
    own = {"listener": Listener(services, hub)}
    one = r"([A-Za-z0-9-]{1,64})"
    return tornado.web.Application(
        [
            (r"/health", Health, own),
            (r"/metrics", Metrics, own),
            (r"/whoami", Whoami, own),
            (r"/sessions", Sessions, own),
            (rf"/sessions/{one}", OneSession, own),
            (r"/approvals", Approvals, own),
            (r"/approvals/events", Events, own),
            (rf"/approvals/{one}", OneApproval, own),
            (rf"/approvals/{one}/answer", AnswerApproval, own),
            (rf"/approvals/{one}/revoke", RevokeApproval, own),
            (r"/page/(approvals\.(?:js|css))", page.Asset, own),
            (r"/login", signin.Login, own),
            (r"/login/callback", signin.Callback, own),
            (r"/logout", signin.Logout, own),
        ],
        default_handler_class=Nothing,
        default_handler_args=own,
        log_function=lambda _handler: None,
    )


def serve(services: Services, listen: str) -> tornado.httpserver.HTTPServer:
    """Listens on `host:port` (port 0: any); ConfigError if that cannot be done."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"warden_admin_listen: {listen!r} is not host:port", "For example 127.0.0.1:8082.")
    server = tornado.httpserver.HTTPServer(
        make_app(services), max_body_size=MAX_BODY, max_header_size=32 * 1024, idle_connection_timeout=300
    )
    try:
        server.add_sockets(tornado.netutil.bind_sockets(int(port), host.strip("[]")))
    except OSError as error:
        raise ConfigError(
            f"warden_admin_listen: {listen} cannot be listened on: {error.strerror or error}",
            "Stop what uses the port, or choose another.",
        ) from None
    return server
