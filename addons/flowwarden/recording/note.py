"""Signed tree heads in C2SP form: signed-note with Ed25519, over a tlog-checkpoint body.

https://github.com/C2SP/C2SP/blob/main/signed-note.md and tlog-checkpoint.md.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import StoreError

_ED25519 = b"\x01"
_DASH = "\u2014 "


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name that it signs under; as text `name+hash+key`."""

    name: str
    public: bytes  # 32 bytes

    @property
    def id(self) -> bytes:
        """The key hash of 4 bytes that each signature line starts with."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Reads the text form. StoreError for anything else."""
        parts = text.strip().split("+", 2)
        try:
            name, key_id, key = parts
            raw = base64.b64decode(key, validate=True)
        except (ValueError, binascii.Error):
            raise StoreError(
                "not a verifier key", "Expected name+hash+key, as the evidence log's `key` records give it"
            ) from None
        found = cls(name, raw[1:])
        if len(raw) != 33 or raw[:1] != _ED25519 or found.id.hex() != key_id:
            raise StoreError("not an Ed25519 verifier key, or its hash is wrong")
        return found

    def verifies(self, text: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key with the name that it signs under."""

    name: str
    private: Ed25519PrivateKey

    @property
    def verifier(self) -> VerifierKey:
        return VerifierKey(self.name, self.private.public_key().public_bytes_raw())

    def line(self, text: bytes) -> str:
        """The signature line for a note's text."""
        signature = base64.b64encode(self.verifier.id + self.private.sign(text)).decode()
        return f"{_DASH}{self.name} {signature}\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: `size` records whose Merkle root is `root`. `time` is RFC 3339, from an extension line."""

    origin: str
    size: int
    root: bytes
    time: str = ""
    signatures: tuple[tuple[str, bytes, bytes], ...] = ()  # name, key id, signature
    text: bytes = b""

    def signed_by(self, key: VerifierKey) -> bool:
        """Whether this key's signature is there and good."""
        return any(
            name == key.name and key_id == key.id and key.verifies(self.text, signature)
            for name, key_id, signature in self.signatures
        )


def signed(origin: str, size: int, root: bytes, time: str, signers: Sequence[Signer]) -> str:
    """A checkpoint as a signed note."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\ntime {time}\n"
    return text + "\n" + "".join(signer.line(text.encode()) for signer in signers)


def parse(note: str) -> Checkpoint:
    """Reads one signed note. StoreError if it is not a checkpoint; signatures are not judged here."""
    text, gap, tail = note.rpartition("\n\n")
    lines = text.split("\n")
    try:
        if not gap or len(lines) < 3:
            raise ValueError
        root = base64.b64decode(lines[2], validate=True)
        if len(root) != 32 or not lines[1].isdecimal() or not lines[0] or str(int(lines[1])) != lines[1]:
            raise ValueError
        signatures = tuple(_signature(line) for line in tail.splitlines())
    except (ValueError, binascii.Error):
        raise StoreError("not a checkpoint in signed-note form") from None
    time = next((line[5:] for line in lines[3:] if line.startswith("time ")), "")
    return Checkpoint(lines[0], int(lines[1]), root, time, signatures, (text + "\n").encode())


def _signature(line: str) -> tuple[str, bytes, bytes]:
    if not line.startswith(_DASH):
        raise ValueError
    name, _, encoded = line[len(_DASH) :].partition(" ")
    raw = base64.b64decode(encoded, validate=True)
    if len(raw) != 68:
        raise ValueError
    return name, raw[:4], raw[4:]


def split(lines: Iterable[str]) -> Iterator[str]:
    """Takes a file of notes apart: a note ends where its signature lines do. A torn last note is given too."""
    note: list[str] = []
    signing = False
    for line in lines:
        if signing and not line.startswith(_DASH):
            yield "".join(note)
            note, signing = [], False
        if not note and not line.strip():
            continue
        signing = signing or line.startswith(_DASH)
        note.append(line)
    if note:
        yield "".join(note)
