"""Answers of any size, masked as they pass: bounded memory, and never a byte out that was not looked at."""

from __future__ import annotations

from collections import Counter

from ..errors import Refusal
from ..types import Headers
from . import heads
from .coders import Redo, Undo
from .model import Core, refuse
from .values import Run


class StreamMasker:
    """Masks one answer as it passes. After a Refusal it gives nothing more.

    `core` is set by whoever makes it. `headers` are to be sent: without checksums of a body that may change; with Content-Length only where the masks keep it.
    """

    core: Core

    def __init__(self, run: Run, headers: Headers, coding: str = "", same_length: bool = False) -> None:
        length = heads.first(headers, b"content-length")
        keeps_length = same_length and not coding and length.isdigit()
        self.headers = heads.for_changed(headers, int(length) if keeps_length else None)
        self._run = run
        self._undo = Undo(coding) if coding else None
        self._redo = Redo(coding) if coding else None
        self._failed: Refusal | None = None
        self._addressed = heads.content_addressed(headers)
        self.inspected = True

    @property
    def counts(self) -> Counter[str]:
        """How often each mask was used so far."""
        return self._run.counts

    def feed(self, data: bytes) -> bytes:
        """Takes bytes from the wire, gives the bytes that may leave (often none). Refusal: the stream has to be cut."""
        return self._guarded(self._feed, data)

    def finish(self) -> bytes:
        """The rest, once the answer is complete. Refusal as in `feed`."""
        return self._guarded(self._finish, b"")

    def _guarded(self, work: object, data: bytes) -> bytes:
        if self._failed is not None:
            raise self._failed
        try:
            made = work(data)  # type: ignore[operator]
            if self._addressed and self._run.counts:
                raise refuse("ContentAddressed", "the answer holds a secret, and clients check it against its digest")
            return bytes(made)
        except Refusal as refusal:
            self._failed = refusal
            raise
        except Exception as error:
            self._failed = refuse("MaskFailed", f"masking this answer failed: {type(error).__name__}")
            raise self._failed from None

    def _feed(self, data: bytes) -> bytes:
        if self._undo is None or self._redo is None:
            return self.core.feed(data)
        made = [self._redo.feed(self.core.feed(piece)) for piece in self._undo.feed(data)]
        return b"".join(made)

    def _finish(self, _data: bytes) -> bytes:
        if self._undo is None or self._redo is None:
            return self.core.finish()
        self._undo.finish()
        return self._redo.feed(self.core.finish()) + self._redo.finish()
