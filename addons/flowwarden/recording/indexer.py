"""The thread that keeps the index up with the evidence log, off the way of every call."""

from __future__ import annotations

import threading
from pathlib import Path

from ..errors import StoreError
from .index import FILE, Index, rebuild


class Indexer:
    """The thread that keeps the index up with the log. `wake` may be called from any thread, at any rate."""

    def __init__(self, folder: Path, *, pause: float = 0.5) -> None:
        self.folder = folder
        self.problem = ""
        self._pause = pause
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
                return
            self._stopping.wait(self._pause)

    def _catch_up(self) -> bool:
        """One look at the log; False if the index could not be written. A corrupt or foreign index is made anew."""
        try:
            index = self._open()
            try:
                while index.feed(self.folder):
                    pass
            finally:
                index.close()
        except (StoreError, OSError) as error:
            self.problem = str(error)
            return False
        self.problem = ""
        return True

    def _open(self) -> Index:
        try:
            index = Index(self.folder / FILE)
            if index.fits(self.folder):
                return index
            index.close()
        except StoreError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise
        rebuild(self.folder)
        return Index(self.folder / FILE)
