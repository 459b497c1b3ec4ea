"""The index: a SQLite database for looking things up, derived from the evidence log and always behind it by a moment.

It reads the log's file by itself and remembers in the same transaction how far it came. So a busy or missing database
never holds a record up, and what was written while it was away is caught up by itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlite_utils.db import Database

from ..errors import StoreError
from . import rows
from .ledger import LOG
from .read import records
from .schema import FLOW_COLUMNS, migrations
from .search import Filter, find, prepare

FILE = "index.db"
BATCH = 2000
_INSERT = f"INSERT INTO flows ({', '.join(FLOW_COLUMNS)}) VALUES ({', '.join('?' * len(FLOW_COLUMNS))})"  # noqa: S608
_FTS = "INSERT INTO flows_fts (rowid, actions, resource, host, path) VALUES (?, ?, ?, ?, ?)"
_END = (
    "ended", "status", "outcome", "code", "reason", "request_id", "masked", "bytes", "file", "offset", "length", "outcome_seq",
)  # fmt: skip
_UPDATE = f"UPDATE flows SET {', '.join(f'{name} = ?' for name in _END)} WHERE seq = ?"  # noqa: S608


class Index:
    """The database of one recording. Its methods may be called from one thread at a time; StoreError leaves them."""

    def __init__(self, path: Path, *, busy: float = 1.0) -> None:
        self.path = path
        try:
            self.connection = sqlite3.connect(path, timeout=busy, check_same_thread=False, isolation_level=None)
            self.connection.row_factory = sqlite3.Row
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = NORMAL")  # derived: what a power cut takes is read again
            self.connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages: most are written more than once
            prepare(self.connection)
            migrations.apply(Database(self.connection, execute_plugins=False))
        except sqlite3.Error as error:
            raise StoreError(
                f"the index {path} cannot be opened: {error}", "`flowwarden index rebuild` makes it anew"
            ) from None

    def close(self) -> None:
        self.connection.close()

    def feed(self, folder: Path, *, most: int = BATCH, progress: Callable[[int], None] | None = None) -> int:
        """Takes in what the log has beyond what was read, up to `most` records in one transaction; how many it were."""
        try:
            offset = self.position()[0]
            batch: list[dict[str, Any]] = []
            end = offset
            for end, record in records(folder, offset=offset, torn=True):  # noqa: B007
                batch.append(record)
                if len(batch) >= most:
                    break
            if batch:
                self._store(batch, offset, end)
                if progress:
                    progress(end)
            return len(batch)
        except sqlite3.Error as error:
            raise StoreError(f"the index {self.path} cannot be written: {error}") from error

    def position(self) -> tuple[int, int]:
        """How far the log was read: offset in bytes, and the seq that comes next."""
        found = self.connection.execute("SELECT offset, seq FROM position").fetchone()
        return (found["offset"], found["seq"]) if found else (0, 0)

    def fits(self, folder: Path) -> bool:
        """Whether what was read is the beginning of this log: its last record is still where it was."""
        try:
            offset, seq = self.position()
            at = self.connection.execute("SELECT prev FROM position").fetchone()
            return seq == 0 or (
                offset <= (folder / LOG).stat().st_size and _line_before(folder / LOG, offset) == at["prev"]
            )
        except (sqlite3.Error, OSError, TypeError):
            return False

    def take(self, batch: list[dict[str, Any]]) -> None:
        """Takes records in without a log's file behind them."""
        _Batch(self.connection.cursor()).add(batch)

    def _store(self, batch: list[dict[str, Any]], start: int, end: int) -> None:
        """Writes a batch, unless another process has taken it in meanwhile."""
        cursor = self.connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            if self.position()[0] != start:
                cursor.execute("ROLLBACK")
                return
            _Batch(cursor).add(batch)
            cursor.execute(
                "UPDATE position SET offset = ?, seq = ?, prev = ?", (end, batch[-1]["seq"] + 1, batch[-1]["prev"])
            )
            cursor.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                cursor.execute("ROLLBACK")
            raise

    def flows(
        self,
        *,
        session: str = "",
        action: str = "",
        decision: str = "",
        since: str = "",
        search: str = "",
        request_id: str = "",
        until: str = "",
        outcome: str = "",
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """The newest flows that fit all that is asked, newest first.

        `action` may hold `*`; `since` and `until` are RFC 3339 or their beginnings; `search` is words that actions,
        resources, host or path have to hold (as beginnings where nothing holds them whole). Newest by time, then by seq.
        """
        asked = Filter(session, action, decision, since, until, search, request_id, outcome)
        try:
            return [dict(row) for row in find(self.connection, asked, limit)]
        except sqlite3.Error as error:
            raise self._unreadable(error) from None

    def flow(self, id: str) -> dict[str, Any] | None:
        """One flow by its id or the beginning of it, with its masks; None if there is none, or more than one."""
        found = self._rows("SELECT * FROM flows WHERE id >= ? AND id < ? ORDER BY seq LIMIT 2", [id, id + "\x7f"])
        exact = [row for row in found if row["id"] == id]
        if not exact and len(found) != 1:
            return None
        row = (exact or found)[-1]
        row["masks"] = {
            mask["mask"]: mask["count"]
            for mask in self._rows("SELECT mask, count FROM masks WHERE flow = ?", [row["seq"]])
        }
        return row

    def sessions(self, *, limit: int = 1000) -> list[dict[str, Any]]:
        """Sessions, newest first, with the number of their flows."""
        return self._rows(
            "SELECT sessions.*, (SELECT count(*) FROM flows WHERE flows.session = sessions.id) AS flows"
            " FROM sessions ORDER BY started DESC, id DESC LIMIT ?",
            [limit],
        )

    def approvals(self, *, limit: int = 1000) -> list[dict[str, Any]]:
        """Questions that were asked, newest first."""
        return self._rows("SELECT * FROM approvals ORDER BY asked DESC, id DESC LIMIT ?", [limit])

    def _rows(self, sql: str, values: Iterable[Any]) -> list[dict[str, Any]]:
        try:
            return [dict(row) for row in self.connection.execute(sql, list(values))]
        except sqlite3.Error as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"the index {self.path} cannot be read: {error}", "`flowwarden index rebuild` makes it anew")


class _Batch:
    """Puts a batch of records into the tables; a flow that begins and ends in it is written once."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._fresh: dict[int, rows.Row] = {}

    def add(self, batch: Iterable[Mapping[str, Any]]) -> None:
        ends: list[list[Any]] = []
        masks: list[tuple[Any, ...]] = []
        for record in batch:
            kind = record["type"]
            if kind == "intent":
                self._fresh[record["seq"]] = rows.flow_row(record, record["seq"], record["time"])
            elif kind == "outcome":
                seq = self._outcome(record, ends)
                masks += [(seq, mask, count) for mask, count in (record.get("masks") or {}).items()]
            elif kind in rows.REFUSED:
                self._fresh[record["seq"]] = rows.refused_row(record)
            elif kind == "session":
                self._session(record)
            elif kind == "approval":
                self._upsert("approvals", rows.approval_row(record))
        fresh = self._fresh.values()
        self._cursor.executemany(_INSERT, [list(row.values()) for row in fresh])
        self._cursor.executemany(
            _FTS, [(row["seq"], row["actions"], row["resource"], row["host"], row["path"]) for row in fresh]
        )
        self._cursor.executemany(_UPDATE, ends)
        self._cursor.executemany("INSERT OR REPLACE INTO masks VALUES (?, ?, ?)", masks)

    def _outcome(self, record: Mapping[str, Any], ends: list[list[Any]]) -> int:
        """Puts an outcome onto its flow; gives the flow's seq."""
        seq, end = record.get("intent"), rows.end_row(record)
        if not isinstance(seq, int):
            seq = record["seq"]
            about = {"flow": record.get("flow"), "session": record.get("session"), **(record.get("about") or {})}
            self._fresh[seq] = rows.flow_row(about, seq, record["time"])
        if seq in self._fresh:
            self._fresh[seq].update(end)
        else:
            ends.append([*end.values(), seq])
        return int(seq)

    def _session(self, record: Mapping[str, Any]) -> None:
        if record.get("event") in rows.LEASES:
            self._upsert("leases", rows.lease_row(record), key="seq")
        elif record.get("event") in rows.SESSIONS:
            self._upsert("sessions", rows.session_row(record))

    def _upsert(self, table: str, row: rows.Row, key: str = "id") -> None:
        names = list(row)
        changes = ", ".join(f"{name} = excluded.{name}" for name in names if name != key)
        self._cursor.execute(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
            f" ON CONFLICT ({key}) DO UPDATE SET {changes}",
            list(row.values()),
        )


def rebuild(folder: Path, *, progress: Callable[[int], None] | None = None) -> int:
    """Makes the index anew beside the old one and puts it in its place; how many records it took in. StoreError."""
    fresh = folder / "index.db.new"
    for suffix in ("", "-wal", "-shm"):
        Path(f"{fresh}{suffix}").unlink(missing_ok=True)
    index = Index(fresh)
    total = 0
    try:
        while count := index.feed(folder, most=50_000, progress=progress):
            total += count
        index.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        index.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{fresh}{suffix}").unlink(missing_ok=True)
        (folder / f"{FILE}{suffix}").unlink(missing_ok=True)
    fresh.replace(folder / FILE)
    return total


def _line_before(log: Path, offset: int) -> str:
    """The `prev` of the record that ends at an offset; empty if none does."""
    with log.open("rb") as file:
        for reach in (1 << 14, 1 << 20, 1 << 26):
            start = max(0, offset - reach)
            file.seek(start)
            lines = file.read(offset - start).split(b"\n")
            if lines[-1] == b"" and (len(lines) > 2 or start == 0):
                try:
                    return str(json.loads(lines[-2])["prev"])
                except (ValueError, KeyError, TypeError, IndexError):
                    return ""
    return ""
