"""A large file written past the page cache: nobody reads a body soon, and a cache full of bodies pushes out what is read."""

from __future__ import annotations

import errno
import mmap
from contextlib import suppress

from .disk import Disk

BLOCK = 256 << 10  # bytes of memory that each body takes while it is written


class Direct:
    """Appends to an empty file by blocks of whole pages, which go to the disk itself; less than a block goes by the cache.

    So does everything where a file system has no such writes. All methods raise OSError.
    """

    def __init__(self, disk: Disk, handle: int) -> None:
        self._disk = disk
        self._handle = handle
        self._block = mmap.mmap(-1, BLOCK)  # such writes want memory that begins at a page
        self._filled = 0
        self._past_cache: bool | None = None  # None: not tried yet

    def write(self, data: bytes) -> None:
        view, at = memoryview(data), 0
        while at < len(data):
            part = view[at : at + BLOCK - self._filled]
            self._block[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            at += len(part)
            if self._filled == BLOCK:
                self._full()

    def flush(self) -> None:
        """Hands over the rest. Nothing can be written after it."""
        if self._past_cache:
            self._disk.past_cache(self._handle, False)
        if self._filled:
            self._disk.write(self._handle, self._block[: self._filled])
        self.close()

    def _full(self) -> None:
        """Writes a block; by the cache from the first on that the file system does not take, which then gives the reason."""
        try:
            if self._past_cache is None:
                self._disk.past_cache(self._handle, True)
                self._past_cache = True
            self._disk.write(self._handle, self._block)
        except OSError as error:
            if error.errno != errno.EINVAL or self._past_cache is False:
                raise
            self._past_cache = False
            self._disk.past_cache(self._handle, False)
            self._disk.write(self._handle, self._block)
        self._filled = 0

    def close(self) -> None:
        """Gives the memory back, written or not; what still looks at it (a traceback) keeps it until that is gone."""
        with suppress(BufferError):
            self._block.close()
