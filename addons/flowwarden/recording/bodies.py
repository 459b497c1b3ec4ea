"""Bodies too large for a frame, written as they stream into bodies/<sha256>."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from ..errors import StoreError
from .direct import Direct
from .disk import Disk

PART = ".part-"


class BodySink:
    """Takes one body, under a name of its own; `finish` gives it its hash as a second one.

    The first name goes when the outcome that speaks of the body is durable (`done` is told of both). So a start after a
    crash knows the bodies that no outcome speaks of, whole or half, by the names that are left.
    """

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        failed: Callable[[OSError, str], None],
        done: Callable[[str, Path], None] = lambda _digest, _part: None,
    ) -> None:
        self._done = done
        self._folder = folder
        self._disk = disk
        self._failed = failed
        self._part = folder / f"{PART}{uuid.uuid4().hex}"
        self._digest = sha256()
        self.size = 0
        self._result: tuple[str, int, Path] | None = None
        try:
            disk.folder(folder)
            handle = disk.open(self._part)
            try:
                self._file = Direct(disk, handle)
            except OSError:
                disk.close(handle)
                raise
            self._handle = handle
        except OSError as error:
            raise self._broken(error) from error

    def write(self, data: bytes) -> None:
        """Adds a part. StoreError if the disk refuses; the body must not go on then."""
        self.store(data)
        self._digest.update(data)

    def store(self, data: bytes) -> None:
        """As `write`, for one who hashes all parts himself and tells `finish` the hash."""
        if self._handle < 0:
            raise StoreError("this body is finished")
        self.size += len(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise self._broken(error) from error

    def finish(self, digest: str = "") -> tuple[str, int, Path]:
        """Makes the body durable: SHA-256, size, path. StoreError. It waits for the disk: not for the event loop.

        Asked again, it answers the same.
        """
        if self._result is not None:
            return self._result
        digest = digest or self._digest.hexdigest()
        path = self._folder / digest
        if self._handle < 0:
            raise StoreError("this body could not be recorded")
        try:
            self._file.flush()
            self._disk.sync(self._handle)
            try:
                os.link(self._part, path)
            except FileExistsError:  # the same body was recorded before
                pass
            self._disk.sync_folder(self._folder)
        except OSError as error:
            raise self._broken(error) from error
        self._close()
        self._done(digest, self._part)
        self._result = digest, self.size, path
        return self._result

    async def finished(self) -> tuple[str, int, Path]:
        """`finish`, in a thread."""
        return await asyncio.to_thread(self.finish)

    def discard(self) -> tuple[str, int]:
        """Gives up the file (a rule keeps the body out of the recording): SHA-256 and size of what passed."""
        self._close()
        self._part.unlink(missing_ok=True)
        return self._digest.hexdigest(), self.size

    def _broken(self, error: OSError) -> StoreError:
        self._close()
        try:
            self._part.unlink(missing_ok=True)
        except OSError:
            pass
        self._failed(error, "a body cannot be written")
        return StoreError(f"a body cannot be recorded: {error.strerror or error}")

    def _close(self) -> None:
        handle, self._handle = getattr(self, "_handle", -1), -1
        if handle >= 0:
            self._file.close()
            try:
                self._disk.close(handle)
            except OSError:
                pass


class HashSink:
    """Takes a body that a rule keeps out of the recording: only hash and length remain."""

    def __init__(self) -> None:
        self._digest = sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self.size += len(data)

    def finish(self) -> tuple[str, int, None]:
        return self._digest.hexdigest(), self.size, None
