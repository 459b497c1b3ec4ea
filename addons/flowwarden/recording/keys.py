"""The evidence key: an Ed25519 private key in a file that only the gateway may read, made on first run."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from ..errors import StoreError

FILE = "evidence.key"


def load_or_make(path: Path) -> tuple[Ed25519PrivateKey, bool]:
    """The key in a file, and whether it was made just now. StoreError if it cannot be read or is open to others."""
    try:
        return load(path), False
    except FileNotFoundError:
        return make(path), True


def load(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file. FileNotFoundError if there is none, StoreError if it is not usable."""
    try:
        if path.stat().st_mode & 0o077:
            raise StoreError(
                f"{path} can be read by others", f"Run `chmod 600 {path}`; if others may have read it, rotate it"
            )
        key = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StoreError(f"the evidence key {path} cannot be read: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"the evidence key {path} is not an Ed25519 key")
    return key


def make(path: Path) -> Ed25519PrivateKey:
    """A new key, written durably with mode 0600. StoreError if that fails or a file is there already."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, pem)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(f"the evidence key {path} cannot be written: {error.strerror}") from None
    return key
