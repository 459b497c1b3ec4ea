"""Signing in from a terminal: OAuth's device code (RFC 8628)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import TokenError
from ..identity.fetch import fetch, post_form
from ..identity.keys import discover
from ..identity.rules import safe_url

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def device_login(
    issuer: str,
    client_id: str,
    scopes: Sequence[str] = ("openid", "profile", "email"),
    *,
    tell: Callable[[str], object] = print,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    access_token: bool = False,
) -> str:
    """Shows a code, waits until it was entered at the issuer, and returns the id token (or the access token).

    TokenError if the issuer knows no device code, the person refuses, or the code runs out.
    """
    found = discover(issuer, fetch)
    started = _start(_endpoint(found, "device_authorization_endpoint", issuer), client_id, scopes, issuer)
    tell(f"Open {started['verification_uri']} and enter the code {started['user_code']}")
    if complete := started.get("verification_uri_complete"):
        tell(f"or open {complete}")
    answer = _poll(_endpoint(found, "token_endpoint", issuer), client_id, started, sleep, clock)
    token = answer.get("access_token" if access_token else "id_token")
    if not isinstance(token, str) or not token:
        raise TokenError(f"{issuer} gave no token", "IDPCommunicationError", "Ask for the scope openid.")
    return token


def _endpoint(found: dict[str, Any], name: str, issuer: str) -> str:
    endpoint = found.get(name)
    if not isinstance(endpoint, str) or not safe_url(endpoint):
        raise TokenError(
            f"{issuer} has no {name}",
            "IDPCommunicationError",
            "Get a token another way and give it by --token-file or FLOWWARDEN_TOKEN.",
        )
    return endpoint


def _start(endpoint: str, client_id: str, scopes: Sequence[str], issuer: str) -> dict[str, Any]:
    """RFC 8628 §3.2."""
    started = post_form(endpoint, {"client_id": client_id, "scope": " ".join(scopes)}, allow=(400, 401))
    if "error" in started:
        raise TokenError(f"{issuer} refused: {_error(started)}")
    if not all(isinstance(started.get(name), str) for name in ("device_code", "user_code", "verification_uri")):
        raise TokenError(f"{issuer} did not give a device code", "IDPCommunicationError")
    return started


def _poll(
    endpoint: str, client_id: str, started: dict[str, Any], sleep: Callable[[float], None], clock: Callable[[], float]
) -> dict[str, Any]:
    """RFC 8628 §3.4 and 3.5: asks every `interval` seconds, five more after each slow_down."""
    interval, end = _seconds(started, "interval", 5.0), clock() + _seconds(started, "expires_in", 600.0)
    form = {"grant_type": GRANT, "device_code": started["device_code"], "client_id": client_id}
    while clock() < end:
        sleep(interval)
        answer = post_form(endpoint, form, allow=(400, 401, 403))
        problem = answer.get("error")
        if problem is None:
            return answer
        if problem == "slow_down":
            interval += 5
        elif problem != "authorization_pending":
            raise TokenError(f"the sign-in was refused: {_error(answer)}")
    raise TokenError("the code was not entered in time", "ExpiredToken", "Try again.")


def _seconds(found: dict[str, Any], name: str, default: float) -> float:
    value = found.get(name, default)
    return float(value) if isinstance(value, int | float) and 0 < value <= 3600 else default


def _error(answer: dict[str, Any]) -> str:
    text = f"{answer.get('error')} {answer.get('error_description') or ''}"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]
