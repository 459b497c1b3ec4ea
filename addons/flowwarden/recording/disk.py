"""The few calls by which evidence reaches the disk, in one class, so that tests can let each of them fail."""

from __future__ import annotations

import fcntl
import os
from mmap import mmap
from pathlib import Path

_DIRECT: int = getattr(os, "O_DIRECT", 0)
_DSYNC: int = getattr(os, "RWF_DSYNC", 0)


class Disk:
    """The real disk. Every method raises OSError."""

    def open(self, path: Path) -> int:
        """A handle for appending; the file is made if it is missing."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def write(self, handle: int, data: bytes | mmap) -> None:
        """Writes all of it; a short write is followed by another, which then says why."""
        written = os.write(handle, data)
        if written != len(data):
            self.past_cache(handle, False)  # the rest need not begin at a page
            with memoryview(data) as view:
                while written < len(data):
                    written += os.write(handle, view[written:])

    def past_cache(self, handle: int, on: bool) -> None:
        """Whether writes go to the disk itself: of whole pages, from where one begins. EINVAL where that cannot be."""
        flags = fcntl.fcntl(handle, fcntl.F_GETFL)
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | _DIRECT if on else flags & ~_DIRECT)

    def prepare(self, path: Path, size: int) -> int:
        """A handle for a file of fixed size whose blocks are all written, so that syncing it changes no metadata."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            missing = size - os.fstat(handle).st_size
            while missing > 0:
                missing -= os.pwrite(handle, bytes(min(missing, 1 << 20)), size - missing)
            os.fsync(handle)
        except OSError:
            os.close(handle)
            raise
        return handle

    def overwrite(self, handle: int, data: bytes, offset: int) -> None:
        """Writes within a prepared file, durably when it returns. Failures are those of a sync: never to be retried."""
        if _DSYNC and os.pwritev(handle, [data], offset, _DSYNC) == len(data):  # one call costs less than two
            return
        written = 0
        while written < len(data):
            written += os.pwrite(handle, data[written:], offset + written)
        os.fdatasync(handle)

    def sync(self, handle: int) -> None:
        os.fdatasync(handle)

    def cut(self, handle: int, length: int) -> None:
        os.ftruncate(handle, length)

    def close(self, handle: int) -> None:
        os.close(handle)

    def folder(self, path: Path) -> None:
        """Makes a folder and makes its entry durable."""
        if path.is_dir():
            return
        self.folder(path.parent)
        path.mkdir(mode=0o750, exist_ok=True)
        self.sync_folder(path.parent)

    def sync_folder(self, path: Path) -> None:
        """Makes the entries of a folder durable."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Appended:
    """A file that only grows, and that can be taken back to where a batch began."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self.disk = disk
        self.path = path
        fresh = not path.exists()
        self.handle = disk.open(path)
        self.end = self._kept = os.fstat(self.handle).st_size
        if fresh:
            disk.sync_folder(path.parent)

    def append(self, data: bytes) -> int:
        """Writes at the end; gives the offset where the data begins."""
        offset = self.end
        self.disk.write(self.handle, data)
        self.end += len(data)
        return offset

    def sync(self) -> None:
        self.disk.sync(self.handle)

    def keep(self) -> None:
        """What was written is part of the recording now."""
        self._kept = self.end

    def undo(self) -> None:
        """Cuts off what was written since the last `keep`. OSError if the disk does not even allow that."""
        self.disk.cut(self.handle, self._kept)
        self.end = self._kept

    def close(self) -> None:
        try:
            self.disk.close(self.handle)
        except OSError:
            pass
