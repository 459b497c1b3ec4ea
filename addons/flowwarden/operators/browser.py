"""People's browsers at the operators' listener: who is signed in, and who is just signing in. In memory only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from ..identity.rules import is_loopback
from ..identity.tokens import VerifiedToken
from ..sessions.ids import sha256

MAX_BROWSERS = 1000
SIGN_IN_TIME = 600.0  # seconds that a sign-in may take


@dataclass(frozen=True)
class BrowserSession:
    who: VerifiedToken
    csrf: str = field(repr=False)


class BrowserSessions:
    """By the SHA-256 of the cookie. A browser is signed in for as long as its token is good."""

    def __init__(self) -> None:
        self._known: dict[str, BrowserSession] = {}

    def start(self, who: VerifiedToken) -> str:
        """The cookie of a new session; the oldest one goes when there are too many."""
        while len(self._known) >= MAX_BROWSERS:
            del self._known[next(iter(self._known))]
        cookie = secrets.token_urlsafe(32)
        self._known[sha256(cookie)] = BrowserSession(who, secrets.token_urlsafe(32))
        return cookie

    def find(self, cookie: str, now: float) -> BrowserSession | None:
        found = self._known.get(sha256(cookie)) if cookie else None
        if found is not None and now >= found.who.expires:
            self.end(cookie)
            return None
        return found

    def end(self, cookie: str) -> None:
        self._known.pop(sha256(cookie), None)

    @staticmethod
    def same(one: str, other: str) -> bool:
        return bool(other) and hmac.compare_digest(one.encode(), other.encode())

    @staticmethod
    def own_host(host: str) -> bool:
        """Whether a Host header names this machine by address or as localhost: what no stranger's DNS can point here."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
        return is_loopback(name.strip("[]"))


@dataclass(frozen=True)
class SignIn:
    """One sign-in under way: OAuth state, PKCE verifier, OIDC nonce, and the browser that it belongs to."""

    issuer: str
    next: str
    redirect_uri: str
    expires: float
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    browser: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def challenge(self) -> str:
        """RFC 7636 §4.2, S256."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


class Pending:
    """Sign-ins under way, by state; each can be finished once, by the browser that began it."""

    def __init__(self) -> None:
        self._waiting: dict[str, SignIn] = {}

    def add(self, sign_in: SignIn) -> None:
        while len(self._waiting) >= MAX_BROWSERS:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[sign_in.state] = sign_in

    def take(self, state: str, browser: str, now: float) -> SignIn | None:
        found = self._waiting.get(state)
        if found is None or not BrowserSessions.same(browser, found.browser):
            return None
        del self._waiting[state]
        return found if now < found.expires else None
