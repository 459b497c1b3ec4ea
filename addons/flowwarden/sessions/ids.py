"""Names for things, and times as people read them: UUIDv7, opaque handles, short ids, RFC 3339."""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
from datetime import UTC, datetime

HANDLE_PREFIX = "fwh_"


def uuid7(now: float) -> str:
    """A UUIDv7 (RFC 9562 §5.7): 48 bits of POSIX milliseconds, then 74 random bits."""
    value = (int(now * 1000) & (1 << 48) - 1) << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    return str(uuid.UUID(int=value | 0b10 << 62 | secrets.randbits(62)))


def handle() -> str:
    """A new session handle: 256 random bits, safe in a URL's userinfo."""
    return HANDLE_PREFIX + secrets.token_urlsafe(32)


def short_id(prefix: str) -> str:
    """An id of 60 random bits that people can read out: `ap-k3xw2a5bq7dm`."""
    return f"{prefix}-{base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]}"


def sha256(secret: str) -> str:
    """What is kept of a secret that is only ever compared."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def rfc3339(when: float) -> str:
    """POSIX seconds as `2026-11-20T18:00:00Z`."""
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
