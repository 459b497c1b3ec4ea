"""state.db itself: private, durable, one transaction or none, and errors that say what to do."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from flowwarden.errors import FlowwardenError, StoreError
from flowwarden.sessions import state
from flowwarden.sessions.state import StateDB, private_file
from flowwarden.sessions.vault import PhantomVault

migrations = Migrations("test")


@migrations()
def m001(db: Database) -> None:
    db.table("t").create({"id": int, "v": str}, pk="id")


def test_all_or_nothing(tmp_path: Path) -> None:
    """A transaction that raises leaves nothing, inside or outside of the thread that wrote."""
    db = StateDB(tmp_path, migrations)

    def write_and_stop() -> None:
        with db.write():
            db.rows("INSERT INTO t VALUES (1, 'a')")
            assert len(db.rows("SELECT * FROM t")) == 1, "the writer sees what it wrote"
            seen: list[int] = []
            other = threading.Thread(target=lambda: seen.append(len(db.rows("SELECT * FROM t"))))
            other.start()
            other.join()
            assert seen == [0], "nobody else does"
            raise FlowwardenError("stop")

    with pytest.raises(FlowwardenError, match="stop"):
        write_and_stop()
    assert db.rows("SELECT * FROM t") == []
    with db.write():
        db.rows("INSERT INTO t VALUES (1, 'a')")
    assert len(db.rows("SELECT * FROM t")) == 1
    db.close()


def test_nothing_is_written_outside_a_transaction(tmp_path: Path) -> None:
    db = StateDB(tmp_path, migrations)
    with pytest.raises(StoreError):
        db.rows("INSERT INTO t VALUES (1, 'a')")
    db.close()


def test_garbage_for_a_database(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match=r"state\.db cannot be used"):
        StateDB(tmp_path, migrations)


def test_a_writer_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waited for, for a bounded time; then an error and nothing half-written."""
    monkeypatch.setattr(state, "BUSY", 0.05)
    db = StateDB(tmp_path, migrations)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"), db.write():
        pass
    assert db.rows("SELECT * FROM t") == [], "reading goes on"
    other.execute("COMMIT")
    with db.write():
        db.rows("INSERT INTO t VALUES (1, 'a')")
    other.close()
    db.close()


def test_two_threads_take_turns(tmp_path: Path) -> None:
    db = StateDB(tmp_path, migrations)
    with db.write():
        db.rows("INSERT INTO t VALUES (1, '0')")

    def add() -> None:
        for _ in range(50):
            with db.write():
                (row,) = db.rows("SELECT v FROM t")
                db.rows("UPDATE t SET v=?", (str(int(row["v"]) + 1),))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.rows("SELECT v FROM t")[0]["v"] == "200"
    db.close()


def test_files_are_private_from_their_first_moment(tmp_path: Path) -> None:
    """Also where the folder was open to others before; what a file holds is kept."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    StateDB(folder, migrations).close()
    assert folder.stat().st_mode & 0o777 == 0o700
    private_file(tmp_path / "x", b"first")
    private_file(tmp_path / "x", b"second")
    assert (tmp_path / "x").read_bytes() == b"first"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir() if found.name.startswith(".")] == []


def test_a_key_of_a_wrong_length(tmp_path: Path) -> None:
    (tmp_path / "phantom.key").write_bytes(b"short")
    with pytest.raises(StoreError, match="32 bytes"):
        PhantomVault(tmp_path)
