"""The demo's OIDC issuer: oidc-provider-mock on loopback, asked for tokens over HTTP as any client would."""

from __future__ import annotations

import json
import logging
import urllib.parse
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from oidc_provider_mock import User, run_server_in_thread

AUDIENCE = "flowwarden"
_REDIRECT = "http://127.0.0.1/done"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


class Issuer:
    """One issuer. With a lifetime below zero its tokens are expired when they are born."""

    def __init__(self, stack: ExitStack, users: Sequence[User], lifetime: timedelta = timedelta(minutes=30)) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        logging.getLogger("oidc_provider_mock").setLevel(logging.ERROR)
        server = stack.enter_context(run_server_in_thread(user_claims=users, access_token_max_age=lifetime))
        self.url = f"http://localhost:{server.server_port}"

    def token(self, subject: str) -> str:
        """An ID token by the authorization code flow (OIDC Core §3.1)."""
        asked = {
            "client_id": AUDIENCE,
            "redirect_uri": _REDIRECT,
            "response_type": "code",
            "scope": "openid profile groups",
            "state": "demo",
        }
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
        consent = urllib.request.Request(  # noqa: S310 loopback
            f"{self.url}/oauth2/authorize?{urllib.parse.urlencode(asked)}",
            urllib.parse.urlencode({"sub": subject}).encode(),
        )
        try:
            location = opener.open(consent, timeout=10).headers["location"]
        except urllib.error.HTTPError as redirect:
            location = redirect.headers["location"]
        code = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "client_id": AUDIENCE, "redirect_uri": _REDIRECT}
        exchange = urllib.request.Request(f"{self.url}/oauth2/token", urllib.parse.urlencode(form).encode())  # noqa: S310
        with opener.open(exchange, timeout=10) as answer:
            return str(json.load(answer)["id_token"])
