"""Lookups in a message's head without a call for each of its fields: mitmproxy and the stations make dozens a call."""

from __future__ import annotations

from typing import Any

from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.proxy.layers import http as layers

_read = http1.expected_http_body_size
_KNOWN = "_warden_body_size"


def install() -> None:
    """Every message's headers from now on. Results and errors are as in mitmproxy."""
    http.Headers.get_all = _get_all  # type: ignore[method-assign]
    http.Headers.get = _get  # type: ignore[assignment,method-assign]
    http.Headers.__contains__ = _contains  # type: ignore[assignment,method-assign]
    http1.expected_http_body_size = layers.expected_http_body_size = expected_body_size


def expected_body_size(request: http.Request, response: http.Response | None = None) -> int | None:
    """mitmproxy's `expected_http_body_size`, read once for a head: a small call asks seven times, of four heads.

    The answer stays with the message, for as long as its header fields are the same object: changed ones are another.
    """
    message: http.Message = request if response is None else response
    fields = message.headers.fields
    asked = (fields, request.method, response.status_code) if response is not None else (fields, "", 0)
    known = vars(message).get(_KNOWN)
    if known is not None and known[0][0] is fields and known[0][1:] == asked[1:]:
        return int(known[1]) if known[1] is not None else None
    size = _read(request, response)
    vars(message)[_KNOWN] = asked, size
    return size


def _key(name: str | bytes) -> bytes:
    return (name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name).lower()


def _get_all(self: http.Headers, name: str | bytes) -> list[str]:
    key = _key(name)
    length = len(key)
    return [
        value.decode("utf-8", "surrogateescape")
        for found, value in self.fields
        if len(found) == length and found.lower() == key
    ]


def _get(self: http.Headers, name: str | bytes, default: Any = None) -> Any:
    values = _get_all(self, name)
    return ", ".join(values) if values else default


def _contains(self: http.Headers, name: object) -> bool:
    if not isinstance(name, str | bytes):
        return False
    return isinstance(name, str | bytes) and bool(_get_all(self, name))
