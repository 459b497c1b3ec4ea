"""What every path of the operators' listener does first: who is calling, by bearer token or from a browser."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any

import tornado.web

from ..errors import FlowwardenError, Refusal, TokenError, traced
from ..identity.tokens import VerifiedToken
from .browser import BrowserSessions, Pending
from .events import Hub
from .services import Services

_log = logging.getLogger(__name__)


@dataclass
class Listener:
    """What the handlers of one listener share."""

    services: Services
    hub: Hub
    browsers: BrowserSessions = field(default_factory=BrowserSessions)
    pending: Pending = field(default_factory=Pending)


class Handler(tornado.web.RequestHandler):
    """Signs the caller in before anything else; errors are JSON, `{"error": {"code", "message"}}`."""

    needs: tuple[str, ...] = ("viewer", "admin")  # any one of them; empty: any good token
    listener: Listener
    services: Services
    who: VerifiedToken
    csrf = ""  # set where the caller is a browser

    def initialize(self, listener: Listener) -> None:
        self.listener = listener
        self.services = listener.services

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

    async def prepare(self) -> None:
        self.who = await self.sign_in()
        if self.needs and not any(self.services.has_role(role, self.who.principal) for role in self.needs):
            raise Refusal(f"this needs the role {' or '.join(self.needs)}", status=403, code="AccessDenied")

    async def sign_in(self) -> VerifiedToken:
        """A bearer token or a browser's session; TokenError, and Refusal (403) for a request forged across sites."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await self.services.operator(token.strip())
        found = self.listener.browsers.find(self.get_cookie(self.cookie_name("session")) or "", self.services.clock())
        if found is None:
            raise TokenError("this needs an OIDC token (Authorization: Bearer …)", hint="Try `flowwarden login`.")
        self.services.sessions.refuse_revoked(found.who)
        if self.request.method not in ("GET", "HEAD"):
            self.refuse_forged(found.csrf)
        self.csrf = found.csrf
        return found.who

    def refuse_forged(self, csrf: str) -> None:
        """A change from a browser needs the page's own token, and comes from the page's own origin."""
        origin = self.request.headers.get("Origin", self.origin())
        site = self.request.headers.get("Sec-Fetch-Site", "same-origin")
        given = self.request.headers.get("X-CSRF-Token", "")
        if origin != self.origin() or site != "same-origin" or not BrowserSessions.same(given, csrf):
            raise Refusal("this request did not come from the approvals page", status=403, code="AccessDenied")

    def origin(self) -> str:
        """Where a browser reaches this listener; Refusal (421) under a name that nobody configured (DNS rebinding)."""
        if self.services.public_url:
            return self.services.public_url.rstrip("/")
        host = self.request.host
        if not BrowserSessions.own_host(host):
            raise Refusal(
                f"this listener is not known as {host!r}: use its address, or configure its public URL",
                status=421,
                code="MisdirectedRequest",
            )
        return f"{self.request.protocol}://{host}"

    def cookie_name(self, name: str) -> str:
        """`__Host-` binds a cookie to this very origin; it needs https (RFC 6265bis §4.1.3.2)."""
        return f"__Host-flowwarden-{name}" if self.secure() else f"flowwarden-{name}"

    def secure(self) -> bool:
        return (self.services.public_url or self.request.protocol).startswith("https")

    def json_body(self) -> dict[str, Any]:
        """The request's JSON object; Refusal (400, 415) for anything else."""
        if self.request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise Refusal("the body has to be application/json", status=415, code="UnsupportedMediaType")
        try:
            found = json.loads(self.request.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Refusal("the body has to be a JSON object", status=400, code="ValidationException")
        return found

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        code, message = "InternalError", "something went wrong here; the gateway's log says what"
        if isinstance(error, TokenError):
            status_code, code, message = 401, error.code, str(error)
            self.set_header("WWW-Authenticate", 'Bearer realm="flowwarden"')
        elif isinstance(error, Refusal):
            status_code, code, message = error.status, error.code, str(error)
        elif isinstance(error, FlowwardenError):
            status_code, code, message = 503, "ServiceUnavailable", error.message
        elif status_code < 500:
            code, message = "InvalidRequest", self._reason
        self.set_status(status_code)
        self.explain(code, message)

    def explain(self, code: str, message: str) -> None:
        self.finish({"error": {"code": code, "message": message}})

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, FlowwardenError | tornado.web.HTTPError):
            _log.error("%s %s failed: %s", self.request.method, self.request.path, traced(value))
