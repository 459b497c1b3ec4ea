"""state/state.db: what must survive a restart. One connection for each user of it, every commit on disk (FULL)."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from sqlite_utils import Database, Migrations

from ..errors import StoreError

BUSY = 2.0  # seconds to wait for a writer in another process


class StateDB:
    """A thread-safe pair of connections to state.db, with its migrations applied.

    Reads have a connection of their own: they never wait for another thread's commit to reach the disk.
    """

    def __init__(self, state: Path, migrations: Migrations) -> None:
        self.path = state / "state.db"
        self._writing = threading.RLock()
        self._reading = threading.Lock()
        self._writer = 0  # the thread whose transaction is open; it reads what it wrote
        try:
            private_folder(state)
            private_file(self.path)
            self._conn = self._connect()
            self._conn.execute("PRAGMA journal_mode=WAL")
            self._conn.execute("PRAGMA synchronous=FULL")  # survives power loss, also under WAL
            self._conn.execute("PRAGMA secure_delete=ON")
            self._db = Database(self._conn, execute_plugins=False)
            migrations.apply(self._db)
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only=ON")
        except (OSError, sqlite3.Error) as error:
            raise self._broken(error) from None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        return connection

    def _broken(self, error: Exception) -> StoreError:
        return StoreError(f"{self.path} cannot be used: {error}", "Check that the folder is writable and not full.")

    @contextlib.contextmanager
    def write(self) -> Iterator[Database]:
        """One transaction, begun as a writer: on disk when the block is left, undone if it raises."""
        with self._writing:
            try:
                self._conn.execute("BEGIN IMMEDIATE")
                self._writer = threading.get_ident()
                try:
                    yield self._db
                except BaseException:
                    self._conn.rollback()
                    raise
                self._conn.commit()
            except sqlite3.Error as error:
                if self._conn.in_transaction:
                    self._conn.rollback()
                raise self._broken(error) from None
            finally:
                self._writer = 0

    def rows(self, sql: str, arguments: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """The rows of a query; within `write()` of the same thread, of any statement."""
        try:
            if self._writer == threading.get_ident():
                return self._conn.execute(sql, arguments).fetchall()
            with self._reading:
                return self._reader.execute(sql, arguments).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from None

    def close(self) -> None:
        with self._writing, self._reading:
            self._reader.close()
            self._conn.close()


def private_folder(path: Path) -> None:
    """Makes a folder that nobody else can enter (0700)."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)


def private_file(path: Path, content: bytes = b"") -> None:
    """Makes a file that nobody else can read (0600), complete or not at all; one that exists keeps its content."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    path.chmod(0o600)
