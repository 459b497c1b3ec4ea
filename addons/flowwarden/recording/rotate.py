"""Changing the evidence key: a record that says so, signed by the old key and by the new one."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StoreError
from . import keys
from .canonical import canonical
from .note import Signer, VerifierKey

if TYPE_CHECKING:
    from .ledger import Ledger

NEW = ".new"


def _statement(origin: str, old: VerifierKey, new: VerifierKey, size: int, root: bytes) -> bytes:
    """What both keys sign: which log, which keys, and behind which records, so that it fits no other history."""
    about = {"origin": origin, "old": str(old), "new": str(new), "size": size, "root": root.hex()}
    return b"flowwarden key rotation\n" + canonical(about)


def rotation(origin: str, old: Signer, new: Signer, size: int, root: bytes) -> dict[str, Any]:
    """The `key` record that stands at seq `size`, behind records with this tree head; what is more the new key signs."""
    statement = _statement(origin, old.verifier, new.verifier, size, root)
    return {
        "old": str(old.verifier),
        "new": str(new.verifier),
        "old_signature": base64.b64encode(old.private.sign(statement)).decode(),
        "new_signature": base64.b64encode(new.private.sign(statement)).decode(),
    }


def rotated(record: dict[str, Any], old: VerifierKey, origin: str, root: bytes) -> bool:
    """Whether a `key` record hands over from this old key, signed by both over the records before it."""
    try:
        new = VerifierKey.parse(record["new"])
        statement = _statement(origin, old, new, record["seq"], root)
        return (
            record["old"] == str(old)
            and old.verifies(statement, base64.b64decode(record["old_signature"], validate=True))
            and new.verifies(statement, base64.b64decode(record["new_signature"], validate=True))
        )
    except (KeyError, TypeError, StoreError, binascii.Error):
        return False


def hand_over(ledger: Ledger, path: Path) -> str:
    """Makes a new key, records that it takes over, and signs from then on with it; gives its verifier key as text.

    The old key stays beside it as <name>.<hash of the key>. A crash on the way leaves the new key as <name>.new, which
    the next start puts in its place if the log names it. StoreError, DiskError.
    """
    from .ledger import Entry

    fresh = path.with_name(path.name + NEW)
    fresh.unlink(missing_ok=True)
    old = ledger.signers[0]
    new = Signer(ledger.origin, keys.make(fresh))
    entry = Entry("key", rotation(ledger.origin, old, new, ledger.head.seq, ledger.head.tree.root()))
    ledger.commit([entry])
    ledger.signers = [new, old]
    ledger.checkpoint()
    ledger.signers = [new]
    settle(path, str(new.verifier))
    return str(new.verifier)


def settle(path: Path, key: str) -> None:
    """Puts the new key of a rotation into its place, if it is the one that the log names."""
    fresh = path.with_name(path.name + NEW)
    try:
        name = VerifierKey.parse(key).name
        if not fresh.exists() or str(Signer(name, keys.load(fresh)).verifier) != key:
            return
        if path.exists():
            os.link(path, path.with_name(f"{path.name}.{Signer(name, keys.load(path)).verifier.id.hex()}"))
        os.replace(fresh, path)
    except OSError as error:
        raise StoreError(f"the new evidence key cannot be put in its place: {error}") from None
