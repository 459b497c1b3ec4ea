"""Whether the index says what the log says: every flow's row is derived from the log again and compared."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import rows
from .schema import FLOW_COLUMNS

_MOST = 20
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


def _unmade(db: sqlite3.Connection) -> bool:
    """Whether a crash left the index before it had its tables: it says no more than one that is not there."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return "position" not in tables and not ("flows" in tables and db.execute("SELECT 1 FROM flows").fetchone())


class Agreement:
    """Takes the records in order, as far as the index has read them; `finish` gives what differs as (what, seq)."""

    def __init__(self, folder: Path) -> None:
        self._problems: list[tuple[str, int]] = []
        self._flows: dict[int, rows.Row] = {}  # begun, not ended
        self._done: dict[int, rows.Row] = {}  # ended, not yet compared
        self._suspects: dict[int, tuple[tuple[Any, ...], tuple[Any, ...]]] = {}  # as found, as it should be
        self._masks: dict[int, dict[str, int]] = {}
        self._others = _Others()
        self._until = 0
        self._db: sqlite3.Connection | None = None
        path = folder / "index.db"
        if not path.exists():
            return
        try:
            # Without a write-ahead log nobody writes: then it can be read from a read-only copy as well.
            mode = "mode=ro" if path.with_name("index.db-wal").exists() else "mode=ro&immutable=1"
            self._db = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, isolation_level=None)
            self._db.execute("BEGIN")  # one view of position and rows, though the gateway goes on writing
            if _unmade(self._db):
                self._db.close()
                self._db = None
                return
            self._until = self._db.execute("SELECT seq FROM position").fetchone()[0]
            cursor = self._db.execute(f"SELECT {', '.join(FLOW_COLUMNS)} FROM flows ORDER BY seq")  # noqa: S608
            self._rows = iter(cursor)
            self._next: tuple[Any, ...] | None = next(self._rows, None)
        except (sqlite3.Error, TypeError) as error:
            self._unreadable(error)

    def take(self, record: dict[str, Any]) -> None:
        """The next record."""
        if self._db is None or record["seq"] >= self._until:
            return
        kind = record["type"]
        if kind == "intent":
            self._flows[record["seq"]] = rows.flow_row(record, record["seq"], record["time"])
        elif kind == "outcome":
            self._outcome(record)
        elif kind in rows.REFUSED:
            self._done[record["seq"]] = rows.refused_row(record)
        elif kind in ("session", "approval"):
            self._others.take(record)

    def _outcome(self, record: dict[str, Any]) -> None:
        seq = record.get("intent")
        if not isinstance(seq, int):
            seq = record["seq"]
            about = {"flow": record.get("flow"), "session": record.get("session"), **(record.get("about") or {})}
            self._flows[seq] = rows.flow_row(about, seq, record["time"])
        row = self._flows.pop(seq, None) or self._done.pop(seq, None)
        if row is None:
            self._again(seq, rows.end_row(record))
            return
        row.update(rows.end_row(record))
        self._done[seq] = row
        if record.get("masks"):
            self._masks[seq] = record["masks"]
        if len(self._done) > 1000:
            self._compare(min(self._flows, default=record["seq"]))

    def _again(self, seq: int, end: rows.Row) -> None:
        """A second outcome (the answer was recorded, and could then not be given): the index has to hold this one, not the one compared before."""
        suspect = self._suspects.pop(seq, None)
        if suspect is None:
            self._problem("the flow's row differs from the log: it does not know of a later outcome", seq)
            return
        found, row = suspect
        row = tuple(end.get(name, value) for name, value in zip(FLOW_COLUMNS, row, strict=True))
        if found != row:
            self._suspects[seq] = (found, row)

    def _compare(self, until: int) -> None:
        """Compares the rows below a seq, below which no flow is open any more."""
        expected = sorted(seq for seq in self._done if seq < until)
        for seq in expected:
            self._one(seq, tuple(self._done.pop(seq).values()))

    def _one(self, seq: int, row: tuple[Any, ...]) -> None:
        try:
            while self._next is not None and self._next[0] < seq:
                self._problem("a flow that the log does not know", self._next[0])
                self._next = next(self._rows, None)
            if self._next is None or self._next[0] != seq:
                self._problem("the flow is missing from the index", seq)
                return
            if self._next != row:
                self._suspects[seq] = (self._next, row)
            self._next = next(self._rows, None)
        except sqlite3.Error as error:
            self._unreadable(error)

    def finish(self) -> Iterator[tuple[str, int]]:
        """All differences; nothing if there is no index."""
        if self._db is not None:
            self._done.update(self._flows)
            self._compare(self._until + 1)
            try:
                while self._next is not None:
                    self._problem("a flow that the log does not know", self._next[0])
                    self._next = next(self._rows, None)
                for seq, (got, row) in self._suspects.items():
                    differing = [name for name, a, b in zip(FLOW_COLUMNS, got, row, strict=True) if a != b]
                    self._problem(f"the flow's row differs from the log in {', '.join(differing)}", seq)
                found: dict[int, dict[str, int]] = {}
                for flow, mask, count in self._db.execute("SELECT flow, mask, count FROM masks"):
                    found.setdefault(flow, {})[mask] = count
                for seq in sorted(found.keys() | self._masks.keys()):
                    if found.get(seq) != self._masks.get(seq):
                        self._problem("the flow's masks differ from the log", seq)
                if not _older(self._db):
                    for what in _structure(self._db):
                        self._problem(what, -1)
                    for table in self._others.differing(self._db):
                        self._problem(f"the table {table} differs from the log", -1)
            except sqlite3.Error as error:
                self._unreadable(error)
        if self._db is not None:
            self._db.close()
        yield from self._problems[:_MOST]
        if len(self._problems) > _MOST:
            yield f"{len(self._problems) - _MOST} more differences; `flowwarden index rebuild` makes it anew", -1

    def _problem(self, what: str, seq: int) -> None:
        self._problems.append((what, seq))

    def _unreadable(self, error: Exception) -> None:
        self._problem(f"the index cannot be read: {error}", -1)
        if self._db is not None:
            self._db.close()
        self._db = None


def _older(db: sqlite3.Connection) -> bool:
    """Whether not every migration has run: whoever opens it next makes its tables anew from the log."""
    from .index import Index

    asked = "SELECT count(*) FROM _sqlite_migrations WHERE migration_set = 'flowwarden_index'"
    fresh = Index(Path(":memory:"))
    try:
        return bool(db.execute(asked).fetchone()[0] < fresh.connection.execute(asked).fetchone()[0])
    finally:
        fresh.close()


def _structure(db: sqlite3.Connection) -> Iterator[str]:
    """Tables, views and triggers that are not the index's own, and a full-text index that does not hold the flows' words."""
    from .index import Index

    fresh = Index(Path(":memory:"))
    try:
        asked = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'"
        odd = {tuple(row) for row in fresh.connection.execute(asked)} ^ {tuple(row) for row in db.execute(asked)}
        if odd:
            yield f"the index is not built as it should be: {', '.join(sorted({name for _, name, _ in odd}))}"
            return
    finally:
        fresh.close()
    if not _words_agree(db):
        yield "the full-text index does not hold the words of the flows"


def _words_agree(db: sqlite3.Connection) -> bool:
    """FTS5's own check, on a copy: it is an INSERT, and an auditor only reads. True where there is no room for a copy."""
    try:
        with TemporaryDirectory(prefix="flowwarden-verify-") as folder:
            copy = sqlite3.connect(f"{folder}/index.db", isolation_level=None)
            try:
                copy.execute("PRAGMA synchronous = OFF")
                db.backup(copy)
                copy.execute("INSERT INTO flows_fts (flows_fts, rank) VALUES ('integrity-check', 1)")
            finally:
                copy.close()
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode & 0xFF in _NO_ROOM
    except OSError:
        pass
    return True


class _Others:
    """The small tables, built again in memory."""

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []

    def take(self, record: dict[str, Any]) -> None:
        self._records.append(record)

    def differing(self, db: sqlite3.Connection) -> list[str]:
        """The tables that are not what the log makes them."""
        from .index import Index

        fresh = Index(Path(":memory:"))
        try:
            fresh.take(self._records)
            return [
                name
                for name in ("sessions", "approvals", "leases")
                if _content(fresh.connection, name) != _content(db, name)
            ]
        finally:
            fresh.close()


def _content(db: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in db.execute(f"SELECT * FROM {table} ORDER BY 1")]  # noqa: S608
