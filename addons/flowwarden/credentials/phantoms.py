"""Phantom credentials: in shape and length like AWS's own, and known again by their construction alone.

A key id of AWS's holds its account's number in bits 1 to 40 after the prefix (base 32). Numbers of 12 digits end below
2^40, so the gateway's key ids, which start with `77` there, can never be AWS's. Key ids, secrets and tokens all end with
a check over the rest, by which masking tells them from real secrets.
"""

from __future__ import annotations

import re
import secrets
from base64 import b32encode, b64encode
from hashlib import sha256

from ..types import Phantom

MARK = "77FW"
_KEY_ID = re.compile(r"A[KS]IA77FW[A-Z2-7]{12}")
_TOKEN_START = "IQoJb3JpZ2luX2Vj"  # noqa: S105 - how every token of STS starts
_SECRET = 40
_TOKEN = 800
_CHECK = 8


def mint(prefix: str = "ASIA", *, secret_length: int = _SECRET, token_length: int = _TOKEN) -> Phantom:
    """New phantom credentials: `ASIA` (short-lived, with a token) or `AKIA` (long-lived, without)."""
    body = prefix + MARK + b32encode(secrets.token_bytes(10))[:9].decode()
    key_id = body + b32encode(_digest(body))[:3].decode()
    token = _text(token_length, _TOKEN_START) if prefix == "ASIA" and token_length else ""
    return Phantom(key_id, _text(secret_length), token)


def is_phantom(key_id: str) -> bool:
    """Whether an access key id is one that this construction gives. It says nothing of whether it was ever minted."""
    return bool(_KEY_ID.fullmatch(key_id)) and b32encode(_digest(key_id[:-3]))[:3].decode() == key_id[-3:]


def is_phantom_text(text: str) -> bool:
    """Whether a text is a key id, a secret access key or a session token of this construction."""
    return is_phantom(text) or is_phantom_secret(text)


def is_phantom_secret(text: str) -> bool:
    """Whether a secret access key or a session token is one that this construction gives."""
    return len(text) > 2 * _CHECK and _check(text[:-_CHECK]) == text[-_CHECK:]


def _text(length: int, start: str = "") -> str:
    length = max(length, 32 + _CHECK)
    start = start if length > len(start) + 32 + _CHECK else ""
    wanted = length - len(start) - _CHECK
    body = start + b64encode(secrets.token_bytes(wanted))[:wanted].decode()
    return body + _check(body)


def _check(body: str) -> str:
    return b64encode(_digest(body))[:_CHECK].decode()


def _digest(body: str) -> bytes:
    return sha256(b"flowwarden phantom " + body.encode()).digest()
