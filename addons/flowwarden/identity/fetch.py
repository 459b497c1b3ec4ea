"""Small documents over HTTPS, from the outside: an issuer's discovery document and keys."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode, urlsplit

from ..errors import TokenError
from .rules import is_loopback, safe_url

TIMEOUT = 5.0
"""Seconds that one fetch may take before a socket operation gives up."""

LIMIT = 512 * 1024
"""Bytes: a key set of a hundred keys is some 50 KB."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An issuer's keys come from the address the rules name, and from no other."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _opener(url: str) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # never this machine's own proxy for this machine
    return urllib.request.build_opener(*handlers)


def fetch(url: str) -> bytes:
    """The body behind an https:// URL (http:// on loopback), at most LIMIT bytes. Blocks: call it in a thread."""
    return _send(urllib.request.Request(url, headers={"Accept": "application/json"}), url)  # noqa: S310 (checked there)


def post_form(url: str, form: dict[str, str], *, allow: tuple[int, ...] = ()) -> dict[str, Any]:
    """Posts a form and returns the JSON object of the answer; statuses in `allow` are answers too. Blocks."""
    request = urllib.request.Request(  # noqa: S310 (checked in _send)
        url, data=urlencode(form).encode(), headers={"Accept": "application/json"}, method="POST"
    )
    return parse_object(_send(request, url, allow), url)


def _send(request: urllib.request.Request, url: str, allow: tuple[int, ...] = ()) -> bytes:
    if not safe_url(url):
        raise TokenError(f"{url} is not an https:// URL", "IDPCommunicationError")
    try:
        with _opener(url).open(request, timeout=TIMEOUT) as answer:
            body: bytes = answer.read(LIMIT + 1)
    except urllib.error.HTTPError as error:
        if error.code not in allow:
            raise TokenError(f"{url} answered with status {error.code}", "IDPCommunicationError") from None
        body = error.read(LIMIT + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise TokenError(f"{url} cannot be reached: {reason}", "IDPCommunicationError") from None
    if len(body) > LIMIT:
        raise TokenError(f"{url} answered with more than {LIMIT} bytes", "IDPCommunicationError")
    return body


def parse_object(body: bytes, url: str) -> dict[str, Any]:
    """A JSON object; TokenError says where it came from."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise TokenError(f"{url} did not answer with a JSON object", "IDPCommunicationError")
    return found
