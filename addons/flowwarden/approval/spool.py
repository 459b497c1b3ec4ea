"""Bodies too large to hold in memory wait on disk: hashed as they come, and checked again as they leave."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, cast

from ..errors import Refusal
from ..signing.payload import Payload

BLOCK = 256 << 10  # bytes that are written or read at once
AHEAD = 4  # blocks that may wait for the disk; then no more is read


class Spools:
    """What all bodies together may take on disk. A file has no name: it is gone with its call, and after a crash."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` in bytes, for one body and for all at the same time; 0: nothing is spooled."""
        self.folder = folder
        self.limit = limit
        self.used = 0

    def open(self, announced: int, payload: Payload | None = None) -> Spool:
        """A spool for a body of which `announced` bytes are known to come (0: not known). Refusal if there is no room."""
        self._refuse(announced, announced)
        try:
            file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115 0600, closed by the spool
        except OSError as error:
            raise _broken(error) from None
        self.used += announced
        return Spool(cast(BinaryIO, file), announced, self._more, self._less, payload)

    def _more(self, size: int, count: int) -> None:
        """A body that has `size` bytes by now takes `count` more than it had announced."""
        self._refuse(size, count)
        self.used += count

    def _less(self, count: int) -> None:
        self.used -= count

    def _refuse(self, size: int, more: int) -> None:
        if size > self.limit:
            why = f"the body is larger than the {self.limit} bytes that can wait for an approval (warden_spool_limit)"
            raise Refusal(why, status=413, code="RequestEntityTooLarge", station="approve")
        if self.used + more > self.limit:
            why = f"other calls that wait for an approval fill the {self.limit} bytes there are for it; try again later"
            raise Refusal(why, status=503, code="SlowDown", station="approve")


class Spool:
    """One body on disk. Only the event loop calls it; the file is touched by one thread of its own, in order.

    `sha256` (of the bytes on the wire, hexadecimal) is empty until `end`. `said` is what an approval is bound to: the hash,
    or that of the decoded payload where the body is in the aws-chunked form.
    """

    def __init__(
        self,
        file: BinaryIO,
        reserved: int,
        more: Callable[[int, int], None],
        less: Callable[[int], None],
        payload: Payload | None,
    ) -> None:
        self.size = 0
        self.sha256 = ""
        self.payload = payload
        self._file = file
        self._reserved, self._more, self._less = reserved, more, less
        self._came, self._left = sha256(), sha256()
        self._at = 0
        self._parts: list[bytes] = []
        self._collected = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flowwarden-spool")
        self._waiting: deque[Future[None]] = deque()
        self._closed = False

    @property
    def said(self) -> str:
        return self.sha256 if self.payload is None else said(self.payload)

    def write(self, data: bytes) -> None:
        """Takes the next bytes. Refusal beyond the limit, where the framing is wrong, or where the disk refuses."""
        self.size += len(data)
        if self.size > self._reserved:
            self._more(self.size, self.size - self._reserved)
            self._reserved = self.size
        self._parts.append(data)
        self._collected += len(data)
        if self._collected >= BLOCK:
            self._hand_over()

    @property
    def behind(self) -> Future[None] | None:
        """What to wait for before more is written; None while the disk keeps up."""
        return self._waiting[-AHEAD - 1] if len(self._waiting) > AHEAD else None

    async def end(self) -> None:
        """All bytes have come. Refusal as `write`; then `sha256` is known."""
        self._hand_over()
        while self._waiting:
            await asyncio.wrap_future(self._waiting.popleft())
        if self.payload is not None:
            self.payload.finish()
        self.sha256 = self._came.hexdigest()

    async def read(self) -> bytes:
        """The next block on its way out; b"" at the end.

        Refusal (502) unless what is read is what was hashed: the end is given only when all of it was.
        """
        return await asyncio.wrap_future(self._thread.submit(self._block))

    def close(self) -> None:
        """Gives the disk's room back; returns at once."""
        if self._closed:
            return
        self._closed = True
        self._less(self._reserved)
        self._parts.clear()
        self._thread.submit(self._file.close)
        self._thread.shutdown(wait=False)

    def _hand_over(self) -> None:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().result()
        data = b"".join(self._parts)
        self._parts, self._collected = [], 0
        self._waiting.append(self._thread.submit(self._store, data))

    def _store(self, data: bytes) -> None:
        self._came.update(data)
        if self.payload is not None:
            self.payload.feed(data)
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _broken(error) from None

    def _block(self) -> bytes:
        try:
            data = os.pread(self._file.fileno(), min(BLOCK, self.size - self._at), self._at)
        except OSError as error:
            raise _broken(error) from None
        self._at += len(data)
        self._left.update(data)
        if not data and (self._at != self.size or self._left.hexdigest() != self.sha256):
            why = "the body that waited on disk is not the one that was approved"
            raise Refusal(why, status=502, code="GatewayRefused", station="seal")
        return data


def said(payload: Payload) -> str:
    """What a body in the aws-chunked form means, for a digest: its data and trailer, whatever chunks and signatures."""
    return ";".join(["aws-chunked", payload.hexdigest(), *sorted(payload.trailer())])


def _broken(error: OSError) -> Refusal:
    why = f"a body that waits for an approval cannot be kept in the state folder: {error.strerror or error}"
    return Refusal(why, status=503, code="ServiceUnavailable", station="approve")
