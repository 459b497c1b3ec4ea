"""Presigned URLs that AWS itself put into an answer: they pass as they are, in the session that got them.

Lambda's `Code.Location`, the layers of ECR and the assets of CodeArtifact are signed with keys of AWS's own, which no rule
of the gateway can check. Any other request that is signed with a foreign key is refused.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from hashlib import sha256
from urllib.parse import urlsplit

from ..types import Headers, Request

MOST = 4096  # URLs of one session; the oldest go first
_MARK = b"X-Amz-Signature="
_URL = re.compile(rb"https://[A-Za-z0-9.-]+(?::443)?/[^\s\"'<>\\^`{|}\x00-\x20\x7f-\xff]*")
_AWS_HOST = re.compile(r"(?:[a-z0-9-]+\.)+(?:amazonaws\.com(?:\.cn)?|api\.aws|on\.aws)")
_ESCAPES = ((b"\\u0026", b"&"), (b"\\u003d", b"="), (b"\\/", b"/"), (b"&amp;", b"&"))


class IssuedUrls:
    """Digests of the presigned URLs of each session's answers."""

    def __init__(self) -> None:
        self._by_session: dict[str, OrderedDict[bytes, None]] = {}

    def note(self, session_id: str, headers: Headers, body: bytes) -> int:
        """Remembers the presigned URLs of AWS hosts in an answer (decoded, before it is masked); says how many."""
        texts = [value for name, value in headers if name.lower() == b"location" and _MARK in value]
        if _MARK in body or b"X-Amz-Signature\\u003d" in body:
            for escaped, plain in _ESCAPES:
                body = body.replace(escaped, plain)
            texts.append(body)
        found = [digest for text in texts for url in _URL.findall(text) if (digest := _digest_of(url))]
        if found:
            known = self._by_session.setdefault(session_id, OrderedDict())
            for digest in found:
                known[digest] = None
            while len(known) > MOST:
                known.popitem(last=False)
        return len(found)

    def allows(self, session_id: str, request: Request) -> bool:
        """Whether a request fetches exactly such a URL: GET or HEAD, no header authentication, nothing changed."""
        known = self._by_session.get(session_id)
        if known is None or request.method not in {"GET", "HEAD"} or request.scheme != "https" or request.port != 443:
            return False
        if "authorization" in request.fields or any(name.startswith("x-amz-") for name in request.fields):
            return False
        return _digest(request.host, request.target) in known

    def forget(self, session_id: str) -> None:
        """Drops what is known of a session that has ended."""
        self._by_session.pop(session_id, None)


def _digest_of(url: bytes) -> bytes | None:
    """The digest of a presigned URL of an AWS host; None for any other."""
    if _MARK not in url:
        return None
    try:
        parts = urlsplit(url.decode("ascii"))
    except ValueError:
        return None
    host = (parts.hostname or "").rstrip(".")
    if not _AWS_HOST.fullmatch(host):
        return None
    return _digest(host, f"{parts.path}?{parts.query}")


def _digest(host: str, target: str) -> bytes:
    return sha256(f"{host}\n{target}".encode()).digest()
