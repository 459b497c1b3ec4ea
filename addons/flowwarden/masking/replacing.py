r"""What stands in the place of a secret.

The form is `[MASKED:rule-id]`, with `replace: hash` `[MASKED:rule-id:1f3a5c7e9b2d]` (keyed, the same for the same value
within a session) and with `replace: partial` `[MASKED:rule-id:*1234]`. In S3 objects, whose length must not change, it is
filled up with asterisks before the bracket (`[MASKED:rule-id*****]`), loses the rule's name where that is too long, or does
not fit under a compression (`[MASKED**]`), and is asterisks alone below eight bytes. `writeback.py` recognises all of them but the last.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections import Counter

from .model import Mask

MARK = b"[MASKED"
MARKED = re.compile(rb"\[MASKED(?::[A-Za-z0-9][A-Za-z0-9._-]{0,79})?(?::[0-9a-f]{12}|:\*[^\s\[\]\"\\<>&]{4})?\**\]")
_HASH_ENTROPY_BITS = 60.0  # below it a keyed hash would let the agent guess the value from a short list
_PARTIAL_LENGTH = 16  # four shown characters may be a quarter of the secret at most


def entropy(value: bytes) -> float:
    """Shannon entropy in bits a byte."""
    size = len(value)
    if not size:
        return 0.0
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values())


def mask_for(mask: Mask, value: bytes, session_key: bytes) -> bytes:
    """The mask of a value, of any length."""
    name = mask.id.encode()
    if mask.replace == "hash" and session_key and entropy(value) * len(value) >= _HASH_ENTROPY_BITS:
        digest = hmac.new(session_key, value, hashlib.sha256).hexdigest()[:12]
        return b"[MASKED:%b:%b]" % (name, digest.encode())
    if mask.replace == "partial" and len(value) >= _PARTIAL_LENGTH and re.fullmatch(rb"[A-Za-z0-9]{4}", value[-4:]):
        return b"[MASKED:%b:*%b]" % (name, value[-4:])
    return b"[MASKED:%b]" % name


def mask_of_length(mask: Mask, length: int, *, terse: bool = False) -> bytes:
    """The mask for a value of `length` bytes in a body that must keep its size; `terse`: without the rule's name."""
    name = mask.id.encode()
    if length >= len(name) + 9 and not terse:
        return b"[MASKED:%b%b]" % (name, b"*" * (length - len(name) - 9))
    if length >= 8:
        return b"[MASKED%b]" % (b"*" * (length - 8))
    return b"*" * length
