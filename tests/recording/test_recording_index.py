"""The index: derived, found again from the log alone, never in the way of a record."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from recording_helpers import SESSION, intent, one_flow, recorded, until
from sqlite_utils.db import Database

from flowwarden.errors import StoreError
from flowwarden.recording import records
from flowwarden.recording.index import Index, rebuild
from flowwarden.recording.indexer import Indexer
from flowwarden.recording.read import records as read_records
from flowwarden.recording.recorder import Recorder
from flowwarden.recording.schema import migrations
from flowwarden.recording.verify import verify
from flowwarden.types import Phantom, Principal, Session

WHO = Principal("https://idp.example.com", "dev", agent="bot", groups=frozenset({"developers"}), name="Dev")


def dump(path: Path) -> list[str]:
    """Every row of every table, and every word of the full-text index with its place."""
    with sqlite3.connect(path) as db:
        lines = [line for line in db.iterdump() if "_sqlite_migrations" not in line and "flows_fts" not in line]
        db.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab('main', 'flows_fts', 'instance')")
        lines += [repr(row) for row in db.execute("SELECT * FROM words ORDER BY 1, 2, 3, 4")]
    db.close()
    return lines


async def busy_day(recorder: Recorder) -> None:
    """Sessions, approvals, leases, refused and allowed calls."""
    session = Session(SESSION, WHO, 1000.0, 2000.0, 3000.0, "h", Phantom("AKIDPHANTOM", "s"))
    await recorder.append("session", records.session_event("start", session))
    await recorder.append(
        "session", records.lease_event(SESSION, access_key_id="ASIAX", role="arn:r", account="1" * 12, expires=2000.0)
    )
    await recorder.append(
        "approval", records.approval_event("asked", "q1", session=SESSION, flow="f-asked", state="open")
    )
    await recorder.append(
        "approval", records.approval_event("answered", "q1", session=SESSION, by=WHO, state="approved", reason="fine")
    )
    await one_flow(
        recorder, actions=["s3:GetObject"], host="b.s3.amazonaws.com", path="/orders/2026.csv", decision="allow"
    )
    refused = records.outcome(
        "f-refused", "refused", intent=None, session=SESSION, status=403, code="AccessDenied",
        call=intent("f-refused", actions=["iam:DeleteUser", "iam:PassRole"], decision="deny", resources=[None]),  # type: ignore[arg-type]
    )  # fmt: skip
    await recorder.outcome(refused, None, session=SESSION)
    seq = await recorder.append("intent", intent("f-asked", approval="q1", decision="approve"))
    await recorder.outcome(
        records.outcome("f-asked", "ok", intent=seq, session=SESSION, status=200, aws_request_id="REQ-1"),
        None,
        session=SESSION,
    )
    await recorder.append("session", records.session_event("end", session, "done"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = recorded(tmp_path, 3, busy_day)
    rebuild(folder)
    return folder


@pytest.fixture
def index(folder: Path):
    index = Index(folder / "index.db")
    yield index
    index.close()


def test_searches(index):
    """Each way of asking finds what it has to, newest first."""
    assert [row["id"] for row in index.flows(decision="deny")] == ["f-refused"]
    assert [row["id"] for row in index.flows(request_id="REQ-1")] == ["f-asked"]
    assert [row["action"] for row in index.flows(search="orders csv")] == ["s3:GetObject"]
    assert [row["action"] for row in index.flows(search="passr")] == ["iam:DeleteUser"]
    assert len(index.flows(action="ec2:Describe*")) == 4
    assert [row["action"] for row in index.flows(action="s3:*")] == ["s3:GetObject"]
    assert [row["action"] for row in index.flows(action="iam:*")] == ["iam:DeleteUser"]
    assert len(index.flows(action="ec2:DescribeInstances", session=SESSION, limit=2)) == 2
    assert index.flows(session="nobody") == []
    assert index.flows(since="2999") == [] and len(index.flows(since="2020")) == 6
    assert index.flows(outcome="refused")[0]["resource"] == "?"
    seqs = [row["seq"] for row in index.flows()]
    assert seqs == sorted(seqs, reverse=True)


@pytest.mark.parametrize("search", ['"', "a OR", "NEAR(", "*", "x:y", "-", "'; DROP TABLE flows", "\x00"])
def test_search_words_are_words(index, search):
    """Nothing in a search is syntax."""
    index.flows(search=search)


def test_one_flow(index):
    row = index.flow("f-ask")
    assert row["approval"] == "q1" and row["masks"] == {}
    assert index.flow("f-") is None  # two begin so
    assert index.flow("nothing") is None
    newest = index.flows(action="s3:GetObject")[0]
    assert index.flow(newest["id"])["masks"] == {"secret-fields": 1}


def test_sessions_and_approvals(index):
    (session,) = index.sessions()
    assert (session["subject"], session["flows"], session["reason"]) == ("dev", 6, "done")
    (approval,) = index.approvals()
    assert (approval["state"], approval["answered_by"], approval["flow"]) == ("approved", "dev", "f-asked")


def test_rebuild_gives_the_same_rows(tmp_path):
    """The index fed a few records at a time is the index made anew, row for row; masks, leases and all."""
    folder = recorded(tmp_path, 4, busy_day)
    index = Index(folder / "index.db")
    while index.feed(folder, most=2):
        pass
    index.close()
    fed = dump(folder / "index.db")
    rebuild(folder)
    assert dump(folder / "index.db") == fed
    assert any("q1" in line for line in fed) and any("ASIAX" in line for line in fed)


@pytest.mark.parametrize("damage", ["delete", "garbage", "other", "empty"])
def test_a_lost_or_broken_index_is_made_anew(tmp_path, damage):
    """Deleted, overwritten, or the index of another recording: the indexer makes it again, identical."""
    folder = recorded(tmp_path, 3, busy_day)
    rebuild(folder)
    before = dump(folder / "index.db")
    path = folder / "index.db"
    if damage == "delete":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"not a database" * 500)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        other = recorded(tmp_path / "other", 3, busy_day)
        rebuild(other)
        path.write_bytes((other / "index.db").read_bytes())
    indexer = Indexer(folder, pause=0.01)
    indexer.start()
    indexer.stop()
    assert indexer.problem == ""
    assert dump(path) == before


def test_busy_database_does_not_stop_recording(tmp_path):
    """SQLite locked by somebody else: records go on, and the index catches up when it is free."""

    async def run() -> None:
        root = tmp_path
        recorder = Recorder.open(root / "recordings", root / "state", configuration={})
        folder = recorder.folder
        Index(folder / "index.db").close()
        lock = sqlite3.connect(folder / "index.db", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        indexer = Indexer(folder, pause=0.01)
        indexer.start()
        for _ in range(20):
            await one_flow(recorder)
        await until(lambda: bool(indexer.problem))
        assert recorder.ready
        lock.execute("ROLLBACK")
        lock.close()
        await until(lambda: not indexer.problem)
        await recorder.close()
        indexer.stop()
        index = Index(folder / "index.db")
        assert len(index.flows()) == 20
        index.close()
        assert verify(folder).verdict == "valid"

    asyncio.run(run())


def test_two_that_feed_at_once(tmp_path, monkeypatch):
    """A command feeds the index between the gateway's reading of the log and its writing: each record is taken in once."""
    folder = recorded(tmp_path, 10, busy_day)
    gateway, command = Index(folder / "index.db"), Index(folder / "index.db")
    inner = False

    def interrupted(*given, **more):
        nonlocal inner
        yield from read_records(*given, **more)
        if not inner:
            inner = True
            command.feed(folder, most=7)
            inner = False

    monkeypatch.setattr("flowwarden.recording.index.records", interrupted)
    while gateway.feed(folder):
        pass
    monkeypatch.undo()
    gateway.close()
    command.close()
    fed = dump(folder / "index.db")
    rebuild(folder)
    assert dump(folder / "index.db") == fed


async def test_index_deleted_while_the_gateway_runs(tmp_path):
    """The indexer notices that its file is gone, or is another one, and makes it again."""
    recorder = Recorder.open(tmp_path / "recordings", tmp_path / "state", configuration={})
    folder = recorder.folder
    indexer = Indexer(folder, pause=0.01)
    indexer.start()

    def count() -> int:
        if not (folder / "index.db").exists():
            return -1
        db = sqlite3.connect(f"file:{folder / 'index.db'}?mode=ro", uri=True)
        try:
            return int(db.execute("SELECT count(*) FROM flows").fetchone()[0])
        except sqlite3.Error:
            return -1
        finally:
            db.close()

    for expected in (1, 2, 3):
        await one_flow(recorder)
        indexer.wake()
        await until(lambda expected=expected: count() == expected)
        for path in folder.glob("index.db*"):
            path.unlink()
    await recorder.close()
    indexer.stop()
    assert count() == -1 or count() == 3


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StoreError):
        rebuild(tmp_path / "nothing")
    with pytest.raises(StoreError):
        Index(tmp_path / "no" / "where" / "index.db")


def test_a_browser_of_databases_finds_its_way(folder):
    """Rows have names, keys lead to rows, words are found through the table that FTS5 says it belongs to."""
    with sqlite3.connect(folder / "index.db") as db:
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        links = {
            (table, key[3], key[2])
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for key in db.execute(f"PRAGMA foreign_key_list({table})")
        }
        assert links == {
            ("flows", "session", "sessions"), ("flows", "approval", "approvals"), ("approvals", "session", "sessions"),
            ("leases", "session", "sessions"), ("masks", "flow", "flows"),
        }  # fmt: skip
        names = {table: db.execute(f"SELECT name FROM {table}").fetchall() for table in ("sessions", "leases")}  # noqa: S608
        assert names == {"sessions": [("Dev, 1970-01-01T00:16:40Z",)], "leases": [("arn:r",)]}
        assert all(name for (name,) in db.execute("SELECT name FROM flows"))
        (sql,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'flows_fts'").fetchone()
        assert 'content="flows"' in sql  # as Datasette and sqlite-utils look for it
        found = "SELECT action FROM flows WHERE seq IN (SELECT rowid FROM flows_fts WHERE flows_fts MATCH 'orders')"
        assert db.execute(found).fetchall() == [("s3:GetObject",)]
        db.execute("INSERT INTO flows_fts (flows_fts, rank) VALUES ('integrity-check', 1)")
        row = db.execute("SELECT subject, action, outcome FROM calls WHERE decision = 'deny'").fetchone()
        assert row == ("dev", "iam:DeleteUser", "refused")
    db.close()


def test_an_index_of_an_older_form_is_read_again(tmp_path):
    """Tables that change are filled anew from the log, by the gateway or by whoever asks first."""
    folder = recorded(tmp_path, 2, busy_day)
    with sqlite3.connect(folder / "index.db", isolation_level=None) as db:
        older = Database(db, execute_plugins=False)
        migrations.apply(older, stop_before="labels")
        db.execute("INSERT INTO sessions (id, name) VALUES ('s', 'from before')")
        db.execute("UPDATE position SET offset = 100, seq = 5, prev = 'x'")
    db.close()
    index = Index(folder / "index.db")
    while index.feed(folder):
        pass
    index.close()
    fed = dump(folder / "index.db")
    rebuild(folder)
    assert dump(folder / "index.db") == fed
