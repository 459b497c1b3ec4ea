"""flowwarden.internal: the little that an agent may ask of the gateway itself. Only ever about its own session."""

from __future__ import annotations

import json
import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote

from ..errors import FlowwardenError, Refusal, TokenError
from ..identity.tokens import VerifiedToken, looks_like_token, token_hash
from ..sessions.ids import rfc3339
from ..types import Approval, Session
from .services import Services, session_json

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""

MAX_REASON = 2000  # characters of why a session makes a call
PROXY_USER = "session"
"""The user name beside the handle in a proxy URL; the gateway reads the password only."""


class Question:
    """One request to flowwarden.internal. Header names are lower case."""

    def __init__(self, services: Services, path: str, headers: Mapping[str, str], credential: str) -> None:
        self.services = services
        self.path, _, query = path.partition("?")
        self.query = parse_qs(query[:1000])
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.credential = credential

    async def session(self) -> Session:
        """The session of the proxy credential; TokenError without a good one."""
        sessions, credential = self.services.sessions, self.credential
        if not credential:
            raise TokenError("there is no session: the proxy was used without a password", "InvalidToken")
        if looks_like_token(credential):
            verified = await self.services.verifier.verify(credential)
            return sessions.check(sessions.for_token(verified, token_hash(credential)))
        found = sessions.by_handle(credential)
        if found is None:
            raise TokenError("the proxy password is not a session's handle", "InvalidToken", "Start a new session.")
        return sessions.check(found)

    async def bearer(self) -> VerifiedToken:
        """The OIDC token of the Authorization header, or the one used as proxy password; TokenError."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await self.services.verifier.verify(token.strip())
        if looks_like_token(self.credential):
            return await self.services.verifier.verify(self.credential)
        raise TokenError("this needs an OIDC token (Authorization: Bearer …)", "InvalidToken")

    def wants_env(self) -> bool:
        return self.query.get("format") == ["env"] or "text/plain" in self.headers.get("accept", "")


async def answer(
    services: Services,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    credential: str = "",
) -> Answer:
    """The answer of flowwarden.internal. `path` includes the query; `credential` is the proxy password, "" if none.

    Never raises: what is refused is an answer of 4xx with a JSON error.
    """
    question = Question(services, path, headers, credential)
    try:
        known = {name: handler for (verb, name), handler in _ROUTES.items() if verb == method}
        if question.path.startswith("/approvals/") and method in ("GET", "POST"):
            return await (_approval(question) if method == "GET" else _reason(question, body))
        if handler := known.get(question.path):
            return await handler(question)
        if any(name == question.path for _, name in _ROUTES):
            raise Refusal(f"{method} is not possible here", status=405, code="MethodNotAllowed")
        raise Refusal("there is nothing here", status=404, code="NotFound")
    except TokenError as error:
        return error_answer(401, error.code, str(error))
    except Refusal as error:
        return error_answer(error.status, error.code, str(error))
    except FlowwardenError as error:
        return error_answer(503, "ServiceUnavailable", error.message)


def error_answer(status: int, code: str, message: str) -> Answer:
    extra = {"WWW-Authenticate": 'Bearer realm="flowwarden"'} if status == 401 else {}
    return _json({"error": {"code": code, "message": message}}, status, extra)


async def _ca(question: Question) -> Answer:
    try:
        pem = question.services.ca_pem.read_bytes()
    except OSError:
        raise Refusal("the CA certificate cannot be read", status=503, code="ServiceUnavailable") from None
    start, end = pem.find(b"-----BEGIN CERTIFICATE-----"), pem.rfind(b"-----END CERTIFICATE-----")
    if start < 0 or b"PRIVATE KEY" in pem[start:end]:
        raise Refusal("the CA certificate cannot be read", status=503, code="ServiceUnavailable")
    return 200, {"Content-Type": "application/x-pem-file", "Cache-Control": "no-store"}, pem[start:end] + _END


_END = b"-----END CERTIFICATE-----\n"


async def _start(question: Question) -> Answer:
    verified = await question.bearer()
    session, handle = question.services.sessions.start(verified)
    return _session_answer(question, session, handle)


async def _renew(question: Question) -> Answer:
    session = await question.session()
    renewed = question.services.sessions.renew(session, await question.bearer())
    question.services.note_session("renew", renewed)
    return _json(session_json(renewed))


async def _end(question: Question) -> Answer:
    session = await question.session()
    ended = question.services.sessions.end(session.id, "ended by its owner")
    return _json(session_json(ended or session))


async def _credentials(question: Question) -> Answer:
    return _json(credential_process(await question.session()))


async def _whoami(question: Question) -> Answer:
    return _json(session_json(await question.session()))


async def _approval(question: Question) -> Answer:
    return _status(await _own(question))


async def _reason(question: Question, body: bytes) -> Answer:
    """Why the session makes the call that waits: {"reason": text}, once."""
    approval = await _own(question)
    try:
        said = json.loads(body)
        reason = said["reason"] if isinstance(said, dict) and set(said) == {"reason"} else None
    except (ValueError, RecursionError):
        reason = None
    if not isinstance(reason, str):
        raise Refusal('the body has to be {"reason": "..."}', status=400, code="ValidationException")
    services = question.services
    told = services.mask(reason[:MAX_REASON])
    return _status(await services.approvals.aside(services.approvals.give_reason, approval.id, approval.session, told))


async def _own(question: Question) -> Approval:
    session = await question.session()
    approval = question.services.approvals.find(question.path.removeprefix("/approvals/"))
    if approval is None or approval.session != session.id:
        raise Refusal("this session has no such approval", status=404, code="NotFound")
    return approval


def _status(approval: Approval) -> Answer:
    told = {
        "id": approval.id,
        "state": approval.state,
        "expires": rfc3339(approval.expires),
        "reason": approval.reason,
        "scope": approval.terms.scope,
    }
    return _json({**told, "wants": "reason"} if approval.wants_purpose else told)


_ROUTES: Mapping[tuple[str, str], Callable[[Question], Awaitable[Answer]]] = {
    ("GET", "/ca.pem"): _ca,
    ("POST", "/session"): _start,
    ("POST", "/session/renew"): _renew,
    ("DELETE", "/session"): _end,
    ("GET", "/credentials"): _credentials,
    ("GET", "/whoami"): _whoami,
}


def credential_process(session: Session) -> dict[str, Any]:
    """https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html"""
    phantom = session.phantom
    found: dict[str, Any] = {
        "Version": 1,
        "AccessKeyId": phantom.access_key_id,
        "SecretAccessKey": phantom.secret_access_key,
        "Expiration": rfc3339(session.expires),
    }
    if phantom.session_token:
        found["SessionToken"] = phantom.session_token
    return found


def proxy_with(url: str, handle: str) -> str:
    """The proxy URL with a handle as its password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{PROXY_USER}:{quote(handle, safe='')}@{rest}"


def environment(session: Session, handle: str, proxy_url: str) -> dict[str, str]:
    """The variables that point an agent at the gateway; a CA bundle's path is for the one who knows the file system."""
    proxy, phantom = proxy_with(proxy_url, handle), session.phantom
    found = {
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
        "NODE_USE_ENV_PROXY": "1",
        "AWS_ACCESS_KEY_ID": phantom.access_key_id,
        "AWS_SECRET_ACCESS_KEY": phantom.secret_access_key,
        "AWS_EC2_METADATA_DISABLED": "true",
        "FLOWWARDEN_SESSION": session.id,
    }
    if phantom.session_token:
        found["AWS_SESSION_TOKEN"] = phantom.session_token
    return found


def _session_answer(question: Question, session: Session, handle: str) -> Answer:
    variables = environment(session, handle, question.services.proxy_url)
    if question.wants_env():
        lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        return 201, {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}, lines.encode()
    told = {
        **session_json(session),
        "handle": handle,
        "proxy": variables["HTTPS_PROXY"],
        "credentials": credential_process(session),
    }
    return _json(told, 201)


def _json(data: Mapping[str, Any], status: int = 200, extra: Mapping[str, str] | None = None) -> Answer:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **(extra or {})}
    return status, headers, json.dumps(data).encode() + b"\n"
