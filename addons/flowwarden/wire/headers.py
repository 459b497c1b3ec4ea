"""Lookups in a message's head without a call for each of its fields: mitmproxy and the stations make dozens a call."""

from __future__ import annotations

from typing import Any

from mitmproxy import http


def install() -> None:
    """Every message's headers from now on. Results and errors are as in mitmproxy."""
    http.Headers.get_all = _get_all  # type: ignore[method-assign]
    http.Headers.get = _get  # type: ignore[assignment,method-assign]
    http.Headers.__contains__ = _contains  # type: ignore[assignment,method-assign]


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
