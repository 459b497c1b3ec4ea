"""Derived signing keys, cached within bounds; those of one secret can be forgotten at once, as its lease ends."""

from __future__ import annotations

from hmac import digest

_SECRETS = 4096
_SCOPES = 64

_keys: dict[str, dict[tuple[str, str, str], bytes]] = {}


def signing_key(secret_access_key: str, date: str, region: str, service: str) -> bytes:
    """The key of a secret for one date (YYYYMMDD), region and service.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, "Calculate the signature".
    """
    cached = _keys.get(secret_access_key)
    if cached is None:
        if len(_keys) >= _SECRETS:
            del _keys[next(iter(_keys))]  # the oldest
        cached = _keys[secret_access_key] = {}
    scope = (date, region, service)
    key = cached.get(scope)
    if key is None:
        if len(cached) >= _SCOPES:
            cached.clear()
        key = digest(b"AWS4" + secret_access_key.encode(), date.encode(), "sha256")
        for part in (region, service, "aws4_request"):
            key = digest(key, part.encode(), "sha256")
        cached[scope] = key
    return key


def forget(secret_access_key: str) -> None:
    """Drops every key derived from a secret."""
    _keys.pop(secret_access_key, None)
