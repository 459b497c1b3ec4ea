"""Derived signing keys, cached within bounds; those of one secret can be forgotten at once, as its lease ends."""

from __future__ import annotations

import hmac

_SECRETS = 4096
_SCOPES = 16  # of a kilobyte each


class SigningKey:
    """A derived key, ready to sign: a copy of an HMAC that has its key costs less than a new one."""

    __slots__ = ("_mac",)

    def __init__(self, key: bytes) -> None:
        self._mac = hmac.new(key, digestmod="sha256")

    def sign(self, text: str) -> str:
        """The signature of a string to sign, in hexadecimal."""
        mac = self._mac.copy()
        mac.update(text.encode())
        return mac.hexdigest()


_keys: dict[str, dict[tuple[str, str, str], SigningKey]] = {}


def signing_key(secret_access_key: str, date: str, region: str, service: str) -> SigningKey:
    """The key of a secret for one date (YYYYMMDD), region and service.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, "Calculate the signature".
    """
    cached = _keys.get(secret_access_key)
    if cached is None:
        if len(_keys) >= _SECRETS:
            del _keys[next(iter(_keys))]  # the oldest
        cached = _keys[secret_access_key] = {}
    scope = (date, region, service)
    made = cached.get(scope)
    if made is None:
        if len(cached) >= _SCOPES:
            cached.clear()
        key = b"AWS4" + secret_access_key.encode()
        for part in (date, region, service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        made = cached[scope] = SigningKey(key)
    return made


def forget(secret_access_key: str) -> None:
    """Drops every key derived from a secret."""
    _keys.pop(secret_access_key, None)
