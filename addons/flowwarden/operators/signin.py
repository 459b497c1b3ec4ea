"""Signing in from a browser: OIDC's code flow with PKCE (OpenID Connect Core §3.1, RFC 7636, RFC 9207)."""

from __future__ import annotations

import asyncio
from html import escape
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from ..errors import Refusal, TokenError
from ..identity.fetch import fetch, post_form
from ..identity.keys import discover
from ..identity.rules import IssuerRules, safe_url
from ..identity.tokens import VerifiedToken
from . import page
from .browser import SIGN_IN_TIME, BrowserSessions, SignIn
from .handler import Handler


def safe_next(path: str) -> str:
    """Where to go after signing in: a path of this page, never an address elsewhere."""
    known = path == "/approvals" or path.startswith("/approvals/")
    return path if known and path.isprintable() and "\\" not in path and "//" not in path else "/approvals"


class Page(Handler):
    """What a person looks at: errors are a sentence, and a way to go on."""

    async def prepare(self) -> None:
        return None

    def explain(self, code: str, message: str) -> None:
        self.plain("That did not work", f'<p>{escape(message)}</p><p><a href="/approvals">Try again</a></p>')

    def plain(self, title: str, content: str) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", page.CSP)
        head = '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/page/approvals.css">'
        self.finish(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>{head}</head>'
            f"<body><article><h2>{title}</h2>{content}</article></body></html>"
        )


class Login(Page):
    """Sends the browser to the issuer; with several issuers it is asked which one first."""

    async def get(self) -> None:
        issuers = self.services.verifier.rules.issuers
        target = safe_next(self.get_query_argument("next", "/approvals"))
        chosen = self.get_query_argument("issuer", next(iter(issuers)) if len(issuers) == 1 else "")
        if not chosen:
            self.choose(list(issuers), target)
            return
        if chosen not in issuers:
            raise Refusal("this issuer is not one that the gateway trusts", status=400, code="ValidationException")
        rules = issuers[chosen]
        found = await asyncio.to_thread(discover, rules.issuer, fetch)
        endpoint = found.get("authorization_endpoint")
        if not isinstance(endpoint, str) or not safe_url(endpoint):
            raise TokenError(f"{rules.issuer} does not say where people sign in", "IDPCommunicationError")
        sign_in = SignIn(chosen, target, self.origin() + "/login/callback", self.services.clock() + SIGN_IN_TIME)
        self.listener.pending.add(sign_in)
        self.set_cookie(
            self.cookie_name("sign-in"), sign_in.browser, httponly=True, samesite="Lax", secure=self.secure(), path="/"
        )
        self.redirect(endpoint + ("&" if "?" in endpoint else "?") + urlencode(_question(rules, sign_in)))

    def choose(self, issuers: list[str], target: str) -> None:
        links = "".join(
            f'<li><a href="/login?issuer={quote(issuer, safe="")}&amp;next={quote(target, safe="")}">'
            f"{escape(urlsplit(issuer).hostname or issuer)}</a></li>"
            for issuer in issuers
        )
        self.plain("Sign in with", f"<ul>{links}</ul>")


class Callback(Page):
    """The issuer's answer: state, browser, issuer, nonce and token all have to fit the sign-in that was begun here."""

    async def get(self) -> None:
        cookie = self.get_cookie(self.cookie_name("sign-in")) or ""
        sign_in = self.listener.pending.take(self.get_query_argument("state", ""), cookie, self.services.clock())
        if sign_in is None:
            raise Refusal("this sign-in was not begun here, or took too long", status=400, code="InvalidRequest")
        self.clear_cookie(self.cookie_name("sign-in"), path="/", secure=self.secure())
        if self.get_query_argument("iss", sign_in.issuer) != sign_in.issuer:
            raise Refusal("the answer came from another issuer", status=400, code="InvalidRequest")
        if error := self.get_query_argument("error", ""):
            raise Refusal(f"the issuer refused: {error[:100]}", status=403, code="AccessDenied")
        who = await self.exchange(sign_in, self.get_query_argument("code", ""))
        self.set_cookie(
            self.cookie_name("session"),
            self.listener.browsers.start(who),
            httponly=True,
            samesite="Lax",
            secure=self.secure(),
            path="/",
            expires=who.expires,
        )
        self.redirect(sign_in.next)

    async def exchange(self, sign_in: SignIn, code: str) -> VerifiedToken:
        """The code for a token, which is then verified as any other."""
        rules = self.services.verifier.rules.issuers[sign_in.issuer]
        found = await asyncio.to_thread(discover, rules.issuer, fetch)
        endpoint = found.get("token_endpoint")
        if not isinstance(endpoint, str):
            raise TokenError(f"{rules.issuer} has no token endpoint", "IDPCommunicationError")
        answer = await asyncio.to_thread(post_form, endpoint, _exchange(rules, sign_in, code))
        own_client = rules.client_id in ("", rules.audience)
        token = answer.get("id_token" if own_client else "access_token")
        if not isinstance(token, str):
            raise TokenError(f"{rules.issuer} gave no token", "IDPCommunicationError")
        who = await self.services.operator(token)
        if who.issuer != sign_in.issuer:
            raise TokenError("the token is another issuer's")
        if own_client and not BrowserSessions.same(str(who.claims.get("nonce", "")), sign_in.nonce):
            raise TokenError("the token was made for another sign-in")
        return who


class Logout(Handler):
    needs = ()

    def post(self) -> None:
        self.listener.browsers.end(self.get_cookie(self.cookie_name("session")) or "")
        self.clear_cookie(self.cookie_name("session"), path="/", secure=self.secure())
        self.finish({})


def _question(rules: IssuerRules, sign_in: SignIn) -> dict[str, str]:
    return {
        "response_type": "code",
        "client_id": rules.client_id or rules.audience,
        "redirect_uri": sign_in.redirect_uri,
        "scope": " ".join(rules.scopes),
        "state": sign_in.state,
        "nonce": sign_in.nonce,
        "code_challenge": sign_in.challenge(),
        "code_challenge_method": "S256",
    }


def _exchange(rules: IssuerRules, sign_in: SignIn, code: str) -> dict[str, str]:
    form = {
        "grant_type": "authorization_code",
        "client_id": rules.client_id or rules.audience,
        "redirect_uri": sign_in.redirect_uri,
        "code": code,
        "code_verifier": sign_in.verifier,
    }
    if rules.client_secret_file:
        try:
            form["client_secret"] = Path(rules.client_secret_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise TokenError(f"client_secret_file cannot be read: {error.strerror}", "IDPCommunicationError") from None
    return form
