"""The thread that keeps the index up with the evidence log, off the way of every call."""

from __future__ import annotations

import threading
from pathlib import Path

from ..errors import StoreError
from .index import FILE, Index, rebuild

_BUSY = 500  # records of one look; behind so many the next may wait
_PATIENCE = 4  # times as long


class Indexer:
    """The thread that keeps the index up with the log. `wake` may be called from any thread, at any rate.

    `pause` are the seconds between two looks; the more there is to take in at once, the less each record costs.
    """

    def __init__(self, folder: Path, *, pause: float = 0.5) -> None:
        self.folder = folder
        self.problem = ""
        self._pause = pause
        self._taken = 0  # records at the last look
        self._index: Index | None = None
        self._file: tuple[int, int] | None = None
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flowwarden-index", daemon=True)

    def start(self) -> None:
        self._news.set()
        self._thread.start()

    def wake(self) -> None:
        """Says that the log has grown."""
        self._news.set()

    def stop(self) -> None:
        """Catches up once more and ends."""
        self._stopping.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            stopping = self._stopping.is_set()
            if not self._catch_up() and not stopping:
                self._news.set()  # try again after the pause
            if stopping:
                self._close()
                return
            self._stopping.wait(self._pause * (_PATIENCE if self._taken > _BUSY else 1))

    def _catch_up(self) -> bool:
        """One look at the log; False if the index could not be written. A corrupt or foreign index is made anew."""
        try:
            index = self._current()
            self._taken = 0
            while count := index.feed(self.folder):
                self._taken += count
        except (StoreError, OSError) as error:
            self._close()
            self.problem = str(error)
            return False
        self.problem = ""
        return True

    def _current(self) -> Index:
        """The index, opened again if its file is another one by now, and made anew if it is not this log's."""
        path = self.folder / FILE
        if self._index is not None and self._file == _identity(path) and self._index.fits(self.folder):
            return self._index
        self._close()
        try:
            index = Index(path)
            if not index.fits(self.folder):
                index.close()
                index = self._anew()
        except StoreError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise
            index = self._anew()
        self._index, self._file = index, _identity(path)
        return index

    def _anew(self) -> Index:
        rebuild(self.folder)
        return Index(self.folder / FILE)

    def _close(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another that took its name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
