"""Upload: a request's body on its way to AWS, counted, kept for the recording, checked and signed again where it has to be."""

from __future__ import annotations

from collections.abc import Callable

from .chunked import Transform


class Upload:
    """Feed it every part and then b"". Raises Refusal when the body is not what was signed; the wire then cuts."""

    def __init__(self, keep: Callable[[bytes], None]) -> None:
        self.transform: Transform | None = None  # set when the head is signed, which is before the first part
        self.size = 0
        self._keep = keep

    def __call__(self, data: bytes) -> bytes:
        if not data:
            return b"" if self.transform is None else self.transform.finish()
        self.size += len(data)
        self._keep(data)
        return data if self.transform is None else self.transform.feed(data)
