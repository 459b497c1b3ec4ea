"""The .mitm files that frames are appended to, one a session and day; a bounded number of them is open."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path

from .disk import Appended, Disk

OPEN_FILES = 128
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
NOBODY = "unidentified"  # the file of calls that have no session


def frame_file(date: str, session: str) -> str:
    """The name of a frame file below recordings/. `date` as 2026-11-20."""
    return f"flows/{date}/{session if _SAFE.fullmatch(session) else NOBODY}.mitm"


class FrameFiles:
    """Open frame files by name, the least recently used closed first."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        self._open: OrderedDict[str, Appended] = OrderedDict()
        self._touched: dict[str, Appended] = {}
        self._dirty: set[str] = set()  # written, and durable in the journal only

    def get(self, name: str) -> Appended:
        """The file of this name, opened or made. OSError."""
        found = self._open.get(name)
        if found is not None:
            self._open.move_to_end(name)
            return found
        path = self._folder / name
        self._disk.folder(path.parent)
        found = self._open[name] = Appended(self._disk, path)
        return found

    def append(self, name: str, frame: bytes) -> int:
        """Writes a frame and gives its offset; it is durable after `sync`. OSError."""
        file = self._touched[name] = self.get(name)
        self._dirty.add(name)
        return file.append(frame)

    def sync(self) -> None:
        """Makes all frames durable in their files. OSError."""
        for name in tuple(self._dirty):
            self._open[name].sync()
            self._dirty.discard(name)

    def keep(self) -> None:
        """The frames written so far are part of the recording now. OSError: one could not be synced before closing."""
        for file in self._touched.values():
            file.keep()
        self._touched.clear()
        while len(self._open) > OPEN_FILES:
            name, file = self._open.popitem(last=False)
            if name in self._dirty:
                file.sync()
                self._dirty.discard(name)
            file.close()

    def undo(self) -> None:
        """Cuts off all frames written since the last `keep`. OSError."""
        for file in self._touched.values():
            file.undo()
        self._touched.clear()

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()
