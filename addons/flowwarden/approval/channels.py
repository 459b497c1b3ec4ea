"""The ways a notification leaves: a signed webhook, and apprise."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..identity.rules import is_loopback, safe_url
from ..sessions.ids import rfc3339

TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class Message:
    """One notification. `id` is the same at every attempt, so that a receiver can tell a repetition."""

    id: str
    time: float  # POSIX seconds
    event: str
    title: str
    text: str
    facts: Mapping[str, Any]

    def body(self) -> bytes:
        told = {"type": f"approval.{self.event}", "timestamp": rfc3339(self.time), "data": dict(self.facts)}
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def read_secret(text: str) -> bytes:
    """`whsec_` and base64, 24 to 64 bytes (Standard Webhooks, "Signature scheme"); ValueError for anything else."""
    try:
        secret = base64.b64decode(text.strip().removeprefix("whsec_"), validate=True)
    except binascii.Error:
        secret = b""
    if not 24 <= len(secret) <= 64:
        raise ValueError("a webhook's secret is whsec_ and 24 to 64 bytes in base64")
    return secret


def sign(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


class WebhookChannel:
    """Posts JSON, signed as Standard Webhooks 1.0 says. Redirects are not followed."""

    def __init__(self, url: str, secret: bytes) -> None:
        if not safe_url(url):
            raise ValueError("a webhook needs an https:// URL")
        self.name = f"webhook at {urlsplit(url).hostname}"  # a path may hold a token
        self._url = url
        self._secret = secret
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if is_loopback(urlsplit(url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def send(self, message: Message) -> None:
        """ValueError with the status if it is not 2xx; OSError if nobody answers."""
        body, timestamp = message.body(), int(message.time)
        request = urllib.request.Request(  # noqa: S310 checked above
            self._url,
            data=body,
            method="POST",
            headers={
                "Content-Type": "application/json",
                "User-Agent": "flowwarden",
                "webhook-id": message.id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": sign(self._secret, message.id, timestamp, body),
            },
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT):
                return
        except urllib.error.HTTPError as error:
            error.close()
            raise ValueError(f"status {error.code}") from None


class AppriseChannel:
    """Slack, Teams, e-mail or whatever else one apprise URL names: https://github.com/caronc/apprise/wiki."""

    def __init__(self, url: str) -> None:
        import apprise  # half a second: not for those who do not use it

        self._sender = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Flowwarden", async_mode=False))
        if not self._sender.add(url):
            raise ValueError("apprise does not know this address")  # which holds a token, and so is not repeated
        self._format = apprise.NotifyFormat.TEXT
        self.name = f"apprise {url.partition(':')[0]}"

    def send(self, message: Message) -> None:
        """ValueError if the service did not take it."""
        if not self._sender.notify(title=message.title, body=message.text, body_format=self._format):
            raise ValueError("the service did not take the message")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None
