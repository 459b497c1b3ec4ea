"""The index's tables, as ordered migrations of sqlite-utils. Add to the end; never change one that was released."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlite_utils.migrations import Migrations

if TYPE_CHECKING:
    from sqlite_utils.db import Database

migrations = Migrations("flowwarden_index")

FLOW_COLUMNS = (
    "seq", "id", "time", "ended", "session", "subject", "agent", "service", "operation", "action", "actions", "resource",
    "region", "account", "method", "host", "path", "decision", "rules", "approval", "lease", "source_identity", "status",
    "outcome", "code", "reason", "request_id", "masked", "bytes", "file", "offset", "length", "outcome_seq",
)  # fmt: skip


@migrations()
def tables(db: Database) -> None:
    """Sessions, flows, approvals, masks, leases, and how far the log was read."""
    db.executescript("""
        CREATE TABLE position (id INTEGER PRIMARY KEY CHECK (id = 0), offset INTEGER NOT NULL, seq INTEGER NOT NULL,
            prev TEXT NOT NULL);
        CREATE TABLE sessions (id TEXT PRIMARY KEY, issuer TEXT, subject TEXT, agent TEXT, owner TEXT, groups TEXT,
            name TEXT, started TEXT, expires TEXT, ended TEXT, reason TEXT, phantom TEXT);
        CREATE TABLE flows (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, time TEXT, ended TEXT,
            session TEXT REFERENCES sessions(id), subject TEXT, agent TEXT, service TEXT, operation TEXT, action TEXT,
            actions TEXT, resource TEXT, region TEXT, account TEXT, method TEXT, host TEXT, path TEXT, decision TEXT,
            rules TEXT, approval TEXT REFERENCES approvals(id), lease TEXT, source_identity TEXT, status INTEGER,
            outcome TEXT, code TEXT, reason TEXT, request_id TEXT, masked INTEGER, bytes INTEGER, file TEXT,
            offset INTEGER, length INTEGER, outcome_seq INTEGER);
        CREATE INDEX flows_id ON flows (id);
        CREATE INDEX flows_session ON flows (session, time);
        CREATE INDEX flows_action ON flows (action, time);
        CREATE INDEX flows_decision ON flows (decision, time);
        CREATE INDEX flows_outcome ON flows (outcome, time);
        CREATE INDEX flows_time ON flows (time);
        CREATE INDEX flows_request_id ON flows (request_id) WHERE request_id != '';
        CREATE TABLE approvals (id TEXT PRIMARY KEY, session TEXT REFERENCES sessions(id), flow TEXT, state TEXT,
            asked TEXT, changed TEXT, answered_by TEXT, reason TEXT, digest TEXT);
        CREATE TABLE masks (flow INTEGER REFERENCES flows(seq), mask TEXT, count INTEGER, PRIMARY KEY (flow, mask))
            WITHOUT ROWID;
        CREATE TABLE leases (seq INTEGER PRIMARY KEY, session TEXT REFERENCES sessions(id), access_key_id TEXT,
            role TEXT, account TEXT, expires TEXT, source_identity TEXT, taken TEXT);
        CREATE VIRTUAL TABLE flows_fts USING fts5(actions, resource, host, path, content='flows', content_rowid='seq',
            tokenize="unicode61 remove_diacritics 0", columnsize=0, detail=full);
        INSERT INTO position VALUES (0, 0, 0, '');
    """)


@migrations()
def labels(db: Database) -> None:
    """What a person reads: a name for each row, which browsers of databases show in links, and a view of calls.

    Tables whose columns change are made anew and the log is read again from its beginning: nothing here is evidence.
    """
    db.executescript("""
        DROP TABLE flows_fts;
        CREATE VIRTUAL TABLE flows_fts USING fts5(actions, resource, host, path, content="flows", content_rowid="seq",
            tokenize="unicode61 remove_diacritics 0", columnsize=0, detail=full);
        DROP TABLE sessions;
        CREATE TABLE sessions (id TEXT PRIMARY KEY, issuer TEXT, subject TEXT, agent TEXT, owner TEXT, groups TEXT,
            display_name TEXT, started TEXT, expires TEXT, ended TEXT, reason TEXT, phantom TEXT,
            name TEXT GENERATED ALWAYS AS (coalesce(nullif(display_name, ''), subject) || ', ' || started) VIRTUAL);
        DROP TABLE approvals;
        CREATE TABLE approvals (id TEXT PRIMARY KEY, session TEXT REFERENCES sessions(id), flow TEXT, operation TEXT,
            state TEXT, asked TEXT, changed TEXT, answered_by TEXT, reason TEXT, digest TEXT,
            name TEXT GENERATED ALWAYS AS (coalesce(operation || ', ', '') || state) VIRTUAL);
        DELETE FROM flows;
        ALTER TABLE flows ADD COLUMN name TEXT GENERATED ALWAYS AS
            (coalesce(nullif(action, ''), method || ' ' || host) || ', ' || time) VIRTUAL;
        DELETE FROM masks;
        DELETE FROM leases;
        ALTER TABLE leases ADD COLUMN name TEXT GENERATED ALWAYS AS (coalesce(nullif(role, ''), access_key_id)) VIRTUAL;
        CREATE VIEW calls AS SELECT time, subject, agent, coalesce(nullif(action, ''), method || ' ' || host) AS action,
            resource, decision, rules, outcome, status, code, reason, masked, request_id, session, approval, seq
            FROM flows;
        UPDATE position SET offset = 0, seq = 0, prev = '';
    """)
