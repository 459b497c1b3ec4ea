"""What an upload in the aws-chunked form says once its framing, signatures and dates are off: for hashing, not for sending."""

from __future__ import annotations

from hashlib import sha256
from typing import Protocol

from ..types import Headers, Phantom
from .authentication import Authentication, Kind
from .chunked import ChunkSigner, Resigner, TrailerReader
from .keys import signing_key


class Payload(Protocol):
    """Feed it the body at any split, then `finish`; both raise Refusal where framing or a signature is wrong."""

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...

    def hexdigest(self) -> str:
        """SHA-256 of the decoded data so far."""

    def trailer(self) -> list[str]:
        """The trailer's fields as `name:value`, without the signature, in order."""


def of(auth: Authentication | None, phantom: Phantom | None, headers: Headers) -> Payload | None:
    """The reader for a body of this request; None for one that is not in the aws-chunked form.

    `phantom` None: a key whose secret is not known; the signatures of chunks are then not checked.
    """
    if auth is None:
        return None
    if auth.kind is Kind.STREAMING_UNSIGNED_TRAILER:
        return _Unsigned(headers)
    if auth.kind in (Kind.STREAMING_SIGNED, Kind.STREAMING_SIGNED_TRAILER):
        return _Signed(headers, auth, phantom)
    return None


class _Unsigned(TrailerReader):
    def __init__(self, headers: Headers) -> None:
        super().__init__(headers, decoded_sha256=True)
        self._said: list[str] = []

    def _trailer_field(self, name: bytes, value: bytes, line: bytes) -> None:
        super()._trailer_field(name, value, line)
        self._said.append(f"{name.decode()}:{value.decode()}")

    def trailer(self) -> list[str]:
        return self._said


class _Signed(Resigner):
    """Checks every signature and passes nothing on: `feed` gives no bytes."""

    def __init__(self, headers: Headers, auth: Authentication, phantom: Phantom | None) -> None:
        secret = phantom.secret_access_key if phantom is not None else ""
        key = signing_key(secret, *auth.scope)
        checked, unused = (ChunkSigner(key, auth.date, auth.scope, auth.signature) for _ in range(2))
        trailer = auth.kind is Kind.STREAMING_SIGNED_TRAILER
        super().__init__(headers, checked if phantom is not None else None, unused, trailer=trailer)
        self._decoded = sha256()

    def _payload(self, data: bytes, start: int, end: int) -> None:
        piece = memoryview(data)[start:end]
        self._hash.update(piece)
        self._decoded.update(piece)

    def _passed(self, data: bytes) -> bytes:
        super()._passed(data)
        return b""

    def hexdigest(self) -> str:
        return self._decoded.hexdigest()

    def trailer(self) -> list[str]:
        lines = self._trailer_text.decode().splitlines()
        return [line for line in lines if line]
