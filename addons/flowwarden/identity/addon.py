"""Station 2: who is this? The tunnel's credential names a session, and the phantom signature has to be the same one's."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from mitmproxy import http

from .. import access, proof
from ..access import Access
from ..connect import names
from ..errors import Refusal, TokenError
from ..signing import authentication, sigv4
from ..signing.authentication import Authentication
from ..station import Station
from ..types import Phantom, Session
from . import tokens

if TYPE_CHECKING:
    from ..services import Services


class Identify(Station):
    """The credential is kept per client connection and checked again on every request."""

    name = "identify"

    def __init__(self, services: Services) -> None:
        self.services = services

    def http_connect(self, flow: http.HTTPFlow) -> None:
        credential = password(access.of(flow).credential)
        if not credential and access.tunnel(flow.client_conn).host != names.INTERNAL:
            raise unauthenticated()
        access.tunnel(flow.client_conn).credential = credential

    def requestheaders(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        owner = access.of(flow)
        owner.credential = password(owner.credential) or access.tunnel(flow.client_conn).credential
        if owner.internal:
            return None
        if not owner.credential:
            raise unauthenticated()
        session = self._known(owner.credential)
        if session is None:
            return self._first_use(flow, owner)
        self._identify(flow, owner, session)
        return None

    async def _first_use(self, flow: http.HTTPFlow, owner: Access) -> None:
        """An OIDC token that has not been seen before: its session starts by itself."""
        try:
            verified = await self.services.verifier.verify(owner.credential)
            sessions = self.services.sessions
            session = sessions.check(sessions.for_token(verified, tokens.token_hash(owner.credential)))
        except TokenError as error:
            raise self._refusal(error) from None
        self._identify(flow, owner, session)

    def _identify(self, flow: http.HTTPFlow, owner: Access, session: Session) -> None:
        owner.session, owner.principal = session, session.principal
        assert owner.request is not None
        auth = owner.auth = authentication.parse(owner.request)
        if auth is None:
            proof.let_pass(flow, self.name)
            return
        if auth.presigned and self.services.issued.allows(session.id, owner.request):
            owner.auth, owner.issued = None, True
            proof.let_pass(flow, self.name)
            return
        phantom = owner.phantom = self._phantom(auth, session)
        if not sigv4.needs_body(auth):
            self._verify(owner, auth, phantom, None)
            proof.let_pass(flow, self.name)

    def request(self, flow: http.HTTPFlow) -> None:
        """The body is whole: its hash has to be the one that was signed."""
        owner = access.of(flow)
        if owner.internal or owner.body in ("stream", "spool"):
            return
        auth, phantom, content = owner.auth, owner.phantom, flow.request.data.content or b""
        if auth is not None and phantom is not None:
            body_sha256 = owner.body_sha256 = hashlib.sha256(content).hexdigest()
            if sigv4.needs_body(auth):
                self._verify(owner, auth, phantom, body_sha256)
            else:
                sigv4.check_payload(auth, body_sha256)
        proof.let_pass(flow, self.name)

    def _known(self, credential: str) -> Session | None:
        """The session behind a credential, checked anew; None for an OIDC token that is seen for the first time."""
        sessions = self.services.sessions
        try:
            if tokens.looks_like_token(credential):
                session = sessions.by_token(tokens.token_hash(credential))
                return None if session is None else sessions.check(session)
            session = sessions.by_handle(credential)
            if session is None:
                why = "the proxy password is not a session's handle"
                raise TokenError(why, "InvalidToken", "Start a session first.")
            return sessions.check(session)
        except TokenError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: TokenError) -> Refusal:
        return Refusal(str(error), status=403, code=error.code, station=self.name)

    def _phantom(self, auth: Authentication, session: Session) -> Phantom | None:
        """The phantom that the request was signed with, if it is this session's; None for the fixed dummy key."""
        key = auth.access_key_id
        if key == session.phantom.access_key_id:
            return session.phantom
        rules = self.services.sessions.rules
        if rules.phantoms == "optional" and key == rules.dummy_key:
            return None
        derived = self.services.vault.by_key(key)
        if derived is not None and derived[0] == session.id:
            return derived[1]
        raise sigv4.unknown_key(auth)

    def _verify(self, owner: Access, auth: Authentication, phantom: Phantom | None, body_sha256: str | None) -> None:
        if phantom is None:
            return
        assert owner.request is not None
        sigv4.verify(
            owner.request,
            auth,
            phantom.secret_access_key,
            now=self.services.clock(),
            body_sha256=body_sha256,
            session_token=phantom.session_token,
        )


def password(header: str) -> str:
    """The credential in a Proxy-Authorization header (RFC 7617 Basic: the password, or the user name alone; Bearer)."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        user, _, secret = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return ""
    return secret or user


def unauthenticated() -> Refusal:
    return Refusal(
        "this proxy needs a session: put its handle or an OIDC token into the password of HTTPS_PROXY",
        status=407,
        code="ProxyAuthenticationRequired",
        station="identify",
    )
