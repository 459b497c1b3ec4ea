"""Upload: a request's body on its way to AWS, hashed and counted, checked at its end, with chunk signatures renewed."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from .authentication import Authentication
from .chunked import Transform
from .sigv4 import check_payload


class Upload:
    """Feed it every part and then b"". Raises Refusal when the body is not what was signed; the wire then cuts."""

    def __init__(self, auth: Authentication | None, keep: Callable[[bytes], None] | None = None) -> None:
        self.auth = auth
        self.transform: Transform | None = None  # set when the head is signed, which is before the first part
        self.size = 0
        self.sha256 = ""
        self._digest = sha256()
        self._keep = keep

    def __call__(self, data: bytes) -> bytes:
        if not data:
            return self._finish()
        self._digest.update(data)
        self.size += len(data)
        if self._keep is not None:
            self._keep(data)
        return data if self.transform is None else self.transform.feed(data)

    def _finish(self) -> bytes:
        self.sha256 = self._digest.hexdigest()
        if self.auth is not None:
            check_payload(self.auth, self.sha256)
        return b"" if self.transform is None else self.transform.finish()
