"""Phantom keys at rest: encrypted in state.db under state/phantom.key, so that a copied database is worth nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import StoreError
from ..types import Phantom
from .state import private_file, private_folder


class PhantomVault:
    """AES-256-GCM, the session's id as associated data: a row cannot be moved to another session."""

    def __init__(self, state: Path) -> None:
        self.path = state / "phantom.key"
        try:
            private_folder(state)
            private_file(self.path, AESGCM.generate_key(256))
            key = self.path.read_bytes()
        except OSError as error:
            raise StoreError(f"{self.path} cannot be used: {error}") from None
        if len(key) != 32:
            raise StoreError(f"{self.path} is not a key of 32 bytes", "Restore it from a backup of the state folder.")
        self._cipher = AESGCM(key)

    def seal(self, session_id: str, phantom: Phantom) -> bytes:
        fields = [phantom.access_key_id, phantom.secret_access_key, phantom.session_token]
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, json.dumps(fields).encode(), session_id.encode())

    def open(self, session_id: str, sealed: bytes) -> Phantom:
        try:
            plain = self._cipher.decrypt(sealed[:12], sealed[12:], session_id.encode())
            return Phantom(*json.loads(plain))
        except (InvalidTag, ValueError, TypeError):
            raise StoreError(
                f"{self.path} does not fit the sessions in state.db",
                "Restore both from one backup, or move state.db away: all sessions then start anew.",
            ) from None
