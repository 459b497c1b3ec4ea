"""Changing the evidence key: a record that says so, signed by the old key and by the new one."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from ..errors import StoreError
from .canonical import canonical
from .note import Signer, VerifierKey


def _statement(origin: str, old: VerifierKey, new: VerifierKey, size: int) -> bytes:
    """What both keys sign: which log, which keys, from which record on."""
    return b"flowwarden key rotation\n" + canonical({"origin": origin, "old": str(old), "new": str(new), "size": size})


def rotation(origin: str, old: Signer, new: Signer, size: int) -> dict[str, Any]:
    """The `key` record that stands at seq `size`; checkpoints over more records than that bear the new key's signature."""
    statement = _statement(origin, old.verifier, new.verifier, size)
    return {
        "old": str(old.verifier),
        "new": str(new.verifier),
        "old_signature": base64.b64encode(old.private.sign(statement)).decode(),
        "new_signature": base64.b64encode(new.private.sign(statement)).decode(),
    }


def rotated(record: dict[str, Any], old: VerifierKey, origin: str) -> bool:
    """Whether a `key` record hands over from this old key, signed by both."""
    try:
        new = VerifierKey.parse(record["new"])
        statement = _statement(origin, old, new, record["seq"])
        return (
            record["old"] == str(old)
            and old.verifies(statement, base64.b64decode(record["old_signature"], validate=True))
            and new.verifies(statement, base64.b64decode(record["new_signature"], validate=True))
        )
    except (KeyError, TypeError, StoreError, binascii.Error):
        return False
