"""Signing in, by browser and by terminal: every step that an attacker could take in somebody's place."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import oidc_provider_mock
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowwarden.errors import TokenError
from flowwarden.identity.rules import IdentityRules, IssuerRules, Role
from flowwarden.operators import login, page
from flowwarden.operators.browser import MAX_BROWSERS, BrowserSessions, Pending, SignIn
from flowwarden.operators.signin import safe_next


class Browser:
    """What a browser does: follows nothing by itself, keeps cookies by host and port."""

    def __init__(self) -> None:
        self.cookies: dict[str, dict[str, str]] = {}

    def ask(
        self, url: str, method: str = "GET", body: str | None = None, cookies: bool = True, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, str]:
        parts = urlsplit(url)
        jar = self.cookies.setdefault(parts.netloc, {})
        link = http.client.HTTPConnection(parts.netloc, timeout=20)
        sent = {"Accept": "text/html", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if jar and cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        link.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, sent)
        answer = link.getresponse()
        text = answer.read().decode()
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = line.split(";")[0].partition("=")
            jar[name] = value
        link.close()
        return answer.status, answer.headers, text

    async def go(self, url: str, method: str = "GET", body: str | None = None, **more: Any) -> Any:
        return await asyncio.to_thread(self.ask, url, method, body, **more)


class Site:
    def __init__(self, world: Any, issuer: str) -> None:
        self.world, self.issuer, self.url = world, issuer, world.url

    async def begin(self, browser: Browser, next: str = "/approvals") -> str:
        """Where the issuer is asked."""
        status, headers, _ = await browser.go(f"{self.url}/login?{urlencode({'next': next})}")
        assert status == 302
        return str(headers["Location"])

    async def consent(self, browser: Browser, where: str, who: str = "bob") -> str:
        """The issuer's answer: where the browser is sent back to."""
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        _, headers, _ = await browser.go(where, "POST", urlencode({"sub": who}), **form)
        return str(headers["Location"])

    async def sign_in(self, browser: Browser, who: str = "bob") -> None:
        status, _, _ = await browser.go(await self.consent(browser, await self.begin(browser), who))
        assert status == 302


@pytest.fixture
async def site(make_world: Callable[[IdentityRules], Any]) -> AsyncIterator[Site]:
    people = [oidc_provider_mock.User(sub=name, claims={"groups": ["sre"]}) for name in ("bob", "carol")]
    with oidc_provider_mock.run_server_in_thread(user_claims=people) as provider:
        issuer = f"http://localhost:{provider.server_port}"
        roles = {"approver": Role(frozenset({"sre"}))}
        world = make_world(IdentityRules({issuer: IssuerRules(issuer, "flowwarden")}, roles=roles))
        server = world.listen()
        yield Site(world, issuer)
        server.stop()
        await server.close_all_connections()


async def test_signing_in(site: Site) -> None:
    """Code flow with PKCE (S256), state and nonce; then the page, and the data with the browser's cookie."""
    browser = Browser()
    status, headers, _ = await browser.go(f"{site.url}/approvals/ap-1")
    assert (status, headers["Location"]) == (302, "/login?next=%2Fapprovals%2Fap-1")
    where = await site.begin(browser, "/approvals/ap-1")
    query = parse_qs(urlsplit(where).query)
    assert where.startswith(site.issuer)
    assert query["response_type"] == ["code"] and query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == [f"{site.url}/login/callback"]
    assert len(query["state"][0]) >= 43 and len(query["nonce"][0]) >= 43 and len(query["code_challenge"][0]) == 43
    status, headers, _ = await browser.go(await site.consent(browser, where))
    assert (status, headers["Location"]) == (302, "/approvals/ap-1")
    flags = next(line for line in headers.get_all("Set-Cookie") if line.startswith("flowwarden-session"))
    assert "HttpOnly" in flags and "SameSite=Lax" in flags and "Path=/" in flags
    status, headers, text = await browser.go(f"{site.url}/approvals/ap-1")
    assert (status, headers["Content-Security-Policy"], headers["X-Frame-Options"]) == (200, page.CSP, "DENY")
    assert "unsafe" not in page.CSP and "http" not in page.CSP and "*" not in page.CSP
    assert "<script>" not in text and "style=" not in text and "onclick" not in text
    status, _, text = await browser.go(f"{site.url}/whoami", Accept="application/json")
    assert json.loads(text)["principal"]["subject"] == "bob"
    for name in ("approvals.js", "approvals.css"):
        status, headers, _ = await Browser().go(f"{site.url}/page/{name}")
        assert (status, headers["X-Content-Type-Options"]) == (200, "nosniff")


async def test_an_answer_that_was_not_asked_for(site: Site) -> None:
    """Another browser's answer (login CSRF), one used twice, a made-up state, another issuer's, an error, a bad code."""
    victim, attacker = Browser(), Browser()
    theirs = await site.consent(attacker, await site.begin(attacker), "carol")
    await site.begin(victim)
    status, _, _ = await victim.go(theirs)
    assert status == 400 and "flowwarden-session" not in victim.cookies[urlsplit(site.url).netloc]
    assert (await attacker.go(theirs + "&iss=https%3A%2F%2Fevil.example"))[0] == 400
    assert (await attacker.go(theirs))[0] == 400, "an answer can be given once"
    browser = Browser()
    where = await site.begin(browser)
    state = parse_qs(urlsplit(where).query)["state"][0]
    assert (await browser.go(f"{site.url}/login/callback?state=made-up&code=x"))[0] == 400
    assert (await browser.go(f"{site.url}/login/callback"))[0] == 400
    assert (await browser.go(f"{site.url}/login/callback?state={state}&error=access_denied"))[0] == 403
    state = parse_qs(urlsplit(await site.begin(browser)).query)["state"][0]
    assert (await browser.go(f"{site.url}/login/callback?state={state}&code=made-up"))[0] == 401
    assert "flowwarden-session" not in browser.cookies[urlsplit(site.url).netloc]


async def test_a_code_of_another_sign_in(site: Site) -> None:
    """A code made for one sign-in does not finish another: the nonce in the token is not this one's."""
    browser = Browser()
    first = await site.consent(browser, await site.begin(browser))
    code = parse_qs(urlsplit(first).query)["code"][0]
    state = parse_qs(urlsplit(await site.begin(browser)).query)["state"][0]
    status, _, text = await browser.go(f"{site.url}/login/callback?{urlencode({'state': state, 'code': code})}")
    assert status == 401
    assert "another sign-in" in text


async def test_changes_need_the_pages_own_token(site: Site) -> None:
    """Cookie alone, another origin, another site, a wrong token: 403; the page's own token from its own origin: taken."""
    from flowwarden.types import ApprovalTerms, Principal

    terms = ApprovalTerms(approver_groups=frozenset({"sre"}))
    asked = site.world.services.approvals.ask("d", "s", Principal(site.issuer, "alice"), {}, terms)
    browser = Browser()
    await site.sign_in(browser)
    csrf = json.loads((await browser.go(f"{site.url}/whoami", Accept="application/json"))[2])["csrf"]
    good = {
        "Content_Type": "application/json",
        "X_CSRF_Token": csrf,
        "Origin": site.url,
        "Sec_Fetch_Site": "same-origin",
    }
    answer, body = f"{site.url}/approvals/{asked.id}/answer", '{"approve": true}'
    for change in (
        {"X_CSRF_Token": ""},
        {"X_CSRF_Token": csrf[:-1]},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": site.url.replace("http:", "https:")},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert (await browser.go(answer, "POST", body, **{**good, **change}))[0] == 403, change
    assert (await browser.go(answer, "POST", body, cookies=False, **good))[0] == 401
    other = Browser()
    await site.sign_in(other, "carol")
    assert (await other.go(answer, "POST", body, **good))[0] == 403, "one browser's token is nothing in another"
    assert site.world.services.approvals.get(asked.id).state == "open"
    assert (await browser.go(answer, "POST", body, **good))[0] == 200
    assert (await browser.go(f"{site.url}/logout", "POST", "", **good))[0] == 200
    assert (await browser.go(f"{site.url}/whoami", Accept="application/json"))[0] == 401


async def test_several_issuers(site: Site) -> None:
    """The person is asked which one; an issuer that is not trusted is not among them."""
    rules = site.world.services.verifier.rules
    site.world.services.verifier.rules = IdentityRules(
        {**rules.issuers, "https://two.example.com": IssuerRules("https://two.example.com", "a")}
    )
    browser = Browser()
    status, headers, text = await browser.go(f"{site.url}/login?next=%2Fapprovals%2Fap-1")
    assert (status, text.count("<a href=")) == (200, 2)
    assert headers["Content-Security-Policy"] == page.CSP
    status, _, text = await browser.go(f"{site.url}/login?{urlencode({'issuer': 'https://evil.example/<b>'})}")
    assert (status, "<b>" in text) == (400, False)
    status, _, text = await browser.go(f"{site.url}/login?{urlencode({'issuer': site.issuer})}")
    assert status == 302


async def test_a_browser_is_signed_in_as_long_as_its_token(site: Site) -> None:
    """Expired or revoked, the cookie opens nothing any more."""
    browser, other = Browser(), Browser()
    await site.sign_in(browser)
    await site.sign_in(other, "carol")
    site.world.services.sessions.revoke_principal(site.issuer, "carol", "gone")
    assert (await other.go(f"{site.url}/whoami", Accept="application/json"))[0] == 401
    assert (await browser.go(f"{site.url}/whoami", Accept="application/json"))[0] == 200
    import time

    site.world.services.clock = lambda: time.time() + 3601
    assert (await browser.go(f"{site.url}/whoami", Accept="application/json"))[0] == 401
    assert (await browser.go(f"{site.url}/approvals"))[0] == 302


async def test_a_strangers_name_for_this_listener(site: Site) -> None:
    """DNS rebinding: a page under evil.example that resolves to this listener gets no sign-in and no page."""
    browser = Browser()
    for path in ("/login", "/approvals"):
        assert (await browser.go(site.url + path, Host="evil.example:8082"))[0] == 421
    site.world.services.public_url = "https://approvals.example.com"
    status, headers, _ = await browser.go(site.url + "/login", Host="anything")
    assert status == 302
    query = parse_qs(urlsplit(headers["Location"]).query)
    assert query["redirect_uri"] == ["https://approvals.example.com/login/callback"]
    assert headers["Set-Cookie"].startswith("__Host-flowwarden-sign-in=") and "Secure" in headers["Set-Cookie"]


@given(st.text(max_size=60) | st.text("/\\apprvls.:@?#%\t\n evil", max_size=40))
def test_where_a_sign_in_leads(path: str) -> None:
    """Never anywhere but to the approvals page."""
    found = safe_next(path)
    assert found == "/approvals" or (found.startswith("/approvals/") and "//" not in found and "\\" not in found)
    assert not set(found) & {"\n", "\r", "\t"}
    for bad in (
        "https://evil",
        "//evil",
        "/approvals//evil",
        "/approvals/\\evil",
        "/approvalsx",
        "/approvals/\nSet-Cookie: a",
    ):
        assert safe_next(bad) == "/approvals"


def test_browsers_and_sign_ins_are_bounded() -> None:
    """A flood of sign-ins pushes out the oldest, and takes no more memory."""
    pending, browsers = Pending(), BrowserSessions()
    made = [SignIn("i", "/approvals", "r", 10.0) for _ in range(MAX_BROWSERS + 5)]
    for sign_in in made:
        pending.add(sign_in)
        browsers.start(None)  # type: ignore[arg-type]
    assert pending.take(made[0].state, made[0].browser, 0) is None
    assert pending.take(made[-1].state, made[-1].browser, 10.0) is None, "too late"
    assert pending.take(made[-2].state, made[-3].browser, 9.0) is None, "another browser"
    assert pending.take(made[-2].state, made[-2].browser, 9.0) is made[-2]
    assert pending.take(made[-2].state, made[-2].browser, 9.0) is None, "once"
    assert len(browsers._known) == MAX_BROWSERS
    assert "verifier" not in repr(made[0]) and made[0].state not in repr(made[0])


def test_own_names() -> None:
    for host in ("127.0.0.1:8082", "127.0.0.1", "localhost:1", "[::1]:8082", "[::1]", "127.8.8.8:1"):
        assert BrowserSessions.own_host(host), host
    for host in (
        "evil.example",
        "evil.example:8082",
        "127.0.0.1.evil.example",
        "localhost.evil.example:1",
        "",
        ":",
        "[::2]:1",
        "0x7f.1",
    ):
        assert not BrowserSessions.own_host(host), host


# ── from a terminal ──


class Device:
    """An issuer's device endpoints, answering from a script."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any], start: dict[str, Any] | None = None
    ) -> None:
        self.answers, self.asked, self.slept, self.now = list(answers), [], [], 0.0  # type: ignore[var-annotated]
        self.start = start or {
            "device_code": "d",
            "user_code": "ABCD-EFGH",
            "verification_uri": "https://idp/x",
            "interval": 2,
            "expires_in": 60,
        }
        endpoints = {"device_authorization_endpoint": "https://idp/device", "token_endpoint": "https://idp/token"}
        monkeypatch.setattr(login, "discover", lambda issuer, fetch: endpoints)
        monkeypatch.setattr(login, "post_form", self.post)

    def post(self, url: str, form: dict[str, str], *, allow: tuple[int, ...] = ()) -> dict[str, Any]:
        self.asked.append((url, form))
        return (
            self.start
            if url.endswith("device")
            else self.answers.pop(0)
            if self.answers
            else {"error": "authorization_pending"}
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def run(self, **more: Any) -> tuple[str, list[str]]:
        told: list[str] = []
        found = login.device_login(
            "https://idp", "cli", tell=told.append, sleep=self.sleep, clock=lambda: self.now, **more
        )
        return found, told


PENDING, SLOW = {"error": "authorization_pending"}, {"error": "slow_down"}


def test_device_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8628 §3.4, 3.5: polls at the interval, five seconds slower after each slow_down, until the token is there."""
    device = Device(monkeypatch, PENDING, SLOW, PENDING, {"id_token": "the-token"})
    token, told = device.run()
    assert token == "the-token"
    assert "ABCD-EFGH" in told[0] and "https://idp/x" in told[0]
    assert device.slept == [2, 2, 7, 7]
    assert device.asked[0][1] == {"client_id": "cli", "scope": "openid profile email"}
    assert device.asked[1][1] == {"grant_type": login.GRANT, "device_code": "d", "client_id": "cli"}


def test_device_code_refused_late_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TokenError, match="access_denied no thanks"):
        Device(monkeypatch, {"error": "access_denied", "error_description": "no\x1b thanks\n"}).run()
    with pytest.raises(TokenError, match="in time"):
        Device(monkeypatch).run()
    with pytest.raises(TokenError, match="no token"):
        Device(monkeypatch, {"access_token": "x"}).run()
    assert Device(monkeypatch, {"access_token": "x"}).run(access_token=True)[0] == "x"
    with pytest.raises(TokenError, match="unauthorized_client"):
        Device(monkeypatch, start={"error": "unauthorized_client"}).run()
    with pytest.raises(TokenError, match="device code"):
        Device(monkeypatch, start={"device_code": 5}).run()
    monkeypatch.setattr(
        login, "discover", lambda issuer, fetch: {"device_authorization_endpoint": "http://idp.example/x"}
    )
    with pytest.raises(TokenError, match="has no device_authorization_endpoint"):
        login.device_login("https://idp", "cli")
