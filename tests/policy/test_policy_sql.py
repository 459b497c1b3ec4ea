"""`sql`: no spelling hides what a statement does, and what cannot be parsed is never allowed (fault 53)."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policykit import call, request, rules

from flowwarden.errors import RuleError
from flowwarden.types import Call

DENY = rules(
    'rules:\n  - {id: no, effect: deny, sql: [DROP, TRUNCATE, "DELETE without WHERE", "UPDATE without WHERE"]}'
)
READ = rules("rules:\n  - {id: yes, effect: allow, sql: [SELECT]}")
WRITE = rules(
    'rules:\n  - {id: yes, effect: allow, sql: [SELECT, INSERT, "UPDATE on shop.*", "DELETE on shop.orders"]}'
)


def sql(text: str | list[str], name: str = "rds-data:ExecuteStatement", member: str = "sql") -> Call:
    return call(name, params={member: text})


def denied(text: str, **more: str) -> bool:
    return DENY.decide(None, sql(text, **more), request(), None).rules == ("no",)


def read(text: str, **more: str) -> bool:
    return READ.decide(None, sql(text, **more), request(), None).effect == "allow"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "  select\n*\tfrom t where id = :id -- why\n",
        "SELECT a FROM t; SELECT b FROM u;",
        "SELECT `a` FROM `t` WHERE `b` = 'DROP TABLE x'",
        "SELECT a::int, 'it''s' FROM t",
        "WITH d AS (SELECT * FROM t) SELECT * FROM d",
        "(SELECT 1) UNION ALL SELECT 2",
        'SELECT "drop" FROM t /* a comment */ LIMIT 5',
        "SELECT count(*), max(x) FROM a JOIN b USING (id) GROUP BY y HAVING count(*) > 1",
        "SELECT replace(a, 'x', 'y') FROM t",
    ],
)
def test_a_statement_that_only_selects_is_a_read(text: str) -> None:
    assert read(text) and not denied(text)


DESTRUCTION = [
    "DROP TABLE x",
    "drop/**/table x",
    "DROP\n--x\nTABLE x",
    "SELECT 1; DROP TABLE x",
    "SELECT 1;;;DROP TABLE x;",
    "TRUNCATE x",
    "DELETE FROM x",
    "DELETE FROM x WHERE 1=1",
    "DELETE FROM x WHERE true OR id = 3",
    "DELETE FROM x WHERE id = id",
    "DELETE FROM x WHERE (id >= 3 OR (2 > 1))",
    "UPDATE x SET a = 1",
    "UPDATE x SET a = 1 WHERE 'a' = 'a'",
    "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
    "/*!50000 DROP TABLE x */",
    "SELECT 1 /*! ; DROP TABLE x */",
    "SELECT /*M! 1; DROP TABLE x */ 1",
    r"SELECT 'a\'; DROP TABLE x; --'",
    r"SELECT 'a\\'; DROP TABLE x; --'",
    r"""SELECT "a\"; DROP TABLE x; --" """,
    "SELECT 1 /* /* */ ; DROP TABLE x; -- */",
    "SELECT 5--1 ; DROP TABLE x",
    "SELECT 1 # ; DROP TABLE x",
    "SELECT 1 -- a\rDROP TABLE y",
    "SELECT $$a$$; DROP TABLE x",
    "SELECT $a$ ; $a$; DROP TABLE x; SELECT $a$ $a$",
    "EXPLAIN ANALYZE DELETE FROM t",
    "DO $$ BEGIN EXECUTE 'DROP TABLE x'; END $$",
    "PREPARE p FROM 'DROP TABLE x'",
    "EXECUTE p",
    "CALL wipe()",
    "CREATE FUNCTION f() RETURNS void AS 'DROP TABLE x' LANGUAGE sql",
    "REPLACE INTO t VALUES (1)",
    "ALTER TABLE x DROP COLUMN y",
    "RENAME TABLE a TO b",
    "LOAD DATA INFILE 'x' INTO TABLE t",
    "SELECT * FROM y INTO OUTFILE '/tmp/x'",
    "not sql at all; really",
    "",
    ";",
    "-- nothing",
    "SELECT \x00 1",
    "SELECT {# #} 1; DROP TABLE x",
    "SELECT " + "(" * 500 + "1" + ")" * 500,
    "SELECT 1 -- " + "x" * 70_000,
    "SELECT " + "a," * 4000 + "a FROM t",
]


@pytest.mark.parametrize("text", DESTRUCTION, ids=range(len(DESTRUCTION)))
def test_destruction_is_found_in_every_disguise_or_is_unparsable(text: str) -> None:
    assert denied(text) and not read(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * INTO copy FROM t",
        "SELECT dblink_exec('c', 'x')",
        "SELECT * FROM dblink('c', 'select 1') AS t(a int)",
        "SELECT pg_catalog.pg_read_file('/etc/passwd')",
        "SELECT aws_s3.query_export_to_s3('select 1', 'b', 'k')",
        "SELECT load_file('/etc/passwd')",
        "INSERT INTO t SELECT * FROM u",
        "SET ROLE admin",
        "GRANT ALL ON t TO bob",
        "CREATE TABLE a AS SELECT * FROM b",
        "COPY t FROM 's3://x'",
        "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE",
    ],
)
def test_what_does_more_than_select_is_no_read(text: str) -> None:
    assert not read(text)


def test_a_narrow_delete_and_update_are_not_without_where() -> None:
    assert not denied("DELETE FROM x WHERE id = 3")
    assert not denied("UPDATE x SET a = 1 WHERE id IN (SELECT id FROM y)")


def test_an_insert_that_may_update_is_an_update_too() -> None:
    only = rules("rules:\n  - {id: y, effect: allow, sql: [INSERT]}")
    for text, plain in (
        ("INSERT INTO t (a) VALUES (1)", True),
        ("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO NOTHING", True),
        ("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2", False),
        ("INSERT INTO t (a) VALUES (1) ON DUPLICATE KEY UPDATE a = 2", False),
    ):
        assert (only.decide(None, sql(text), request(), None).effect == "allow") is plain, text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CREATE TABLE `t` (id int auto_increment primary key) ENGINE=InnoDB", "CREATE"),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE"),
        ("SHOW TABLES", "SHOW"),
        ("ALTER TABLE t ADD COLUMN b int", "ALTER"),
        ("SELECT * FROM t WHERE a ILIKE '%x%' FOR UPDATE SKIP LOCKED", "SELECT"),
        ("SELECT data->>'x' FROM t WHERE data @> '{\"a\":1}'::jsonb", "SELECT"),
    ],
)
def test_what_only_one_engine_takes_is_read_as_that_engine_reads_it(text: str, kind: str) -> None:
    found = rules(f"rules:\n  - {{id: y, effect: allow, sql: [{kind}]}}")
    assert found.decide(None, sql(text), request(), None).effect == "allow"


def test_tables_narrow_a_pattern_and_an_unknown_schema_is_not_known() -> None:
    def written(text: str) -> bool:
        return WRITE.decide(None, sql(text), request(), None).effect == "allow"

    assert written("DELETE FROM shop.orders WHERE id = 1")
    assert written('UPDATE "Shop"."Items" SET a = 1 WHERE id = 1')
    assert not written("DELETE FROM orders WHERE id = 1"), "which schema that is depends on the search path"
    assert not written("DELETE FROM shop.users WHERE id = 1")
    assert not written("UPDATE other.items SET a = 1 WHERE id = 1")
    assert written("INSERT INTO anything SELECT * FROM other.t")
    hold = rules("rules:\n  - {id: h, effect: deny, sql: ['* on shop.users']}")
    for text, matches in (("SELECT * FROM a JOIN users u ON true", True), ("SELECT * FROM shop.orders", False)):
        assert (hold.decide(None, sql(text), request(), None).rules == ("h",)) is matches


def test_calls_that_carry_no_sql_are_not_spoken_of_and_unread_ones_are_unknown() -> None:
    assert DENY.decide(None, call("s3:PutObject"), request(), None).rules == ("default",)
    for params in (None, {}, {"sql": 3}):
        unread = call("rds-data:ExecuteStatement", params=params)
        assert DENY.decide(None, unread, request(), None).rules == ("no",)
        assert READ.decide(None, unread, request(), None).effect == "deny"


def test_every_statement_of_a_batch_counts() -> None:
    batch = {"name": "redshift-data:BatchExecuteStatement", "member": "Sqls"}
    both = call(batch["name"], params={"Sqls": ["SELECT 1", "DROP TABLE x"]})
    assert DENY.decide(None, both, request(), None).rules == ("no",)
    assert READ.decide(None, both, request(), None).effect == "deny"
    assert READ.decide(None, call(batch["name"], params={"Sqls": ["SELECT 1"]}), request(), None).effect == "allow"


def test_athena_is_read_as_trino_and_as_hive() -> None:
    more = {"name": "athena:StartQueryExecution", "member": "QueryString"}
    assert read('SELECT "a" FROM "db"."t" WHERE day = DATE \'2026-01-01\'', **more)
    assert denied("DROP TABLE `db`.`t`", **more)
    assert denied(r"SELECT 'a\'; DROP TABLE x; --'", **more)
    assert denied("EXECUTE stored", **more) and denied("MSCK REPAIR TABLE t", **more)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SELECT * FROM \"Music\".\"idx\" WHERE a = ?", "SELECT"),
        ("EXISTS(SELECT * FROM Music WHERE a = 1)", "SELECT"),
        ("INSERT INTO \"Music\" VALUE {'a': ?, 'b': [1, 2]}", "INSERT"),
        ("UPDATE \"Music\" SET a=1 REMOVE b WHERE id = 3 RETURNING ALL OLD *", "UPDATE"),
        ("DELETE FROM \"Music\" WHERE id = ';DROP'", "DELETE"),
        ("select * from Music;", "SELECT"),
    ],
)  # fmt: skip
def test_partiql_statements_are_read(text: str, kind: str) -> None:
    found = rules(f"rules:\n  - {{id: y, effect: allow, sql: ['{kind} on music']}}")
    what = call("dynamodb:ExecuteStatement", params={"Statement": text})
    assert found.decide(None, what, request(), None).effect == "allow"
    other = rules("rules:\n  - {id: y, effect: allow, sql: ['* on other', MERGE]}")
    assert other.decide(None, what, request(), None).effect == "deny"


@pytest.mark.parametrize(
    "text", ["SELECT 1; SELECT 2", "SELECT * FROM a -- x", "DROP TABLE x", "DELETE FROM t", "`x`", "'"]
)
def test_partiql_that_is_odd_or_bare_is_denied(text: str) -> None:
    batch = call("dynamodb:BatchExecuteStatement", params={"Statements": [{"Statement": text}]})
    assert DENY.decide(None, batch, request(), None).rules == ("no",)


def test_a_misspelt_kind_is_an_error() -> None:
    for text, said in (("DORP", "did you mean DROP"), ("DROP without WHERE", "only DELETE"), ("rm -rf", "not a kind")):
        with pytest.raises(RuleError, match=said):
            rules(f"rules:\n  - {{id: a, effect: deny, sql: ['{text}']}}")


_PIECES = st.sampled_from(
    ["SELECT 1", "SELECT", " DROP TABLE x ", "DELETE FROM x", " WHERE a = 1 ", ";", "--", "/*", "*/", "'", '"', "\\", "`", "#",
     "\n", "\r", " ", "1", "a", "E'", "FROM x", ",", "(", ")", "+", "AS", "UNION", "''", "OR", "1=1", "WITH q AS (", "x"]
)  # fmt: skip
_EXAMPLES = 20_000 if os.environ.get("FLOWWARDEN_SOAK") else 300
_WRITES = {sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DELETE}


def _sqlite_destroys(text: str) -> bool:
    """Whether SQLite, whose quotes and comments are PostgreSQL's, starts to delete or drop while it runs a text."""
    seen: set[str] = set()

    def judge(action: int, table: str | None, *_: object) -> int:
        if action in _WRITES and table == "x":
            seen.add(str(action))
        return sqlite3.SQLITE_OK

    with closing(sqlite3.connect(":memory:")) as base:
        base.executescript("CREATE TABLE x (a int)")
        base.set_authorizer(judge)
        try:
            base.executescript(text)
        except (sqlite3.Error, sqlite3.Warning, ValueError):
            pass  # what ran before the error has run
    return bool(seen)


def test_the_comparison_with_sqlite_notices_destruction() -> None:
    assert _sqlite_destroys("SELECT 1; DROP TABLE x") and _sqlite_destroys("DELETE FROM x; nonsense")
    assert not _sqlite_destroys("SELECT 'DROP TABLE x' -- DROP TABLE x")


@settings(max_examples=_EXAMPLES, deadline=None)
@given(st.lists(_PIECES, max_size=10).map("".join))
def test_whatever_sqlite_would_destroy_is_no_read_and_no_text_raises(text: str) -> None:
    allowed = read(text)
    assert not (allowed and denied(text))
    assert not (allowed and _sqlite_destroys(text))
