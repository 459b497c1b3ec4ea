"""Columns: hidden by name in every result form, and the whole result where a statement computes from them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from masking_tools import call, headers, masker

from flowwarden.masking import columns, lineage
from flowwarden.masking.masker import Masker

RULE = "masks:\n  - {id: pii, columns: [email, '*card*']}\n"
EMAIL, CARD = "ada@example.com", "4111 1111"


@pytest.fixture
def mask(tmp_path: Path) -> Masker:
    return masker(tmp_path, RULE)


def _out(mask: Masker, operation: str, body: object, params: dict[str, Any] | None) -> Any:
    out = mask.mask_answer(call(operation, params=params), 200, headers(), json.dumps(body).encode())
    return json.loads(out.body)


def _records() -> dict[str, Any]:
    return {
        "columnMetadata": [{"name": "id", "label": "id"}, {"name": "email", "label": "email"}, {"name": "card_no", "label": "c"}],
        "records": [[{"longValue": 7}, {"stringValue": EMAIL}, {"blobValue": "aGk="}], [{"longValue": 8}, {"isNull": True}, {"longValue": 5}]],
    }  # fmt: skip


def test_masking_columns_rds_records(mask: Masker) -> None:
    """Values of masked columns by metadata; types stay, null stays."""
    out = _out(mask, "rds-data:ExecuteStatement", _records(), {"sql": "select id, email, card_no from users"})
    masked = base64.b64encode(b"[MASKED:pii]").decode()
    assert out["records"] == [
        [{"longValue": 7}, {"stringValue": "[MASKED:pii]"}, {"blobValue": masked}],
        [{"longValue": 8}, {"isNull": True}, {"longValue": 0}],
    ]


def test_masking_columns_rds_without_names_hides_all(mask: Masker) -> None:
    """No metadata, no statement, or one that computes: every value is hidden."""
    body = _records()
    for answer, params in (
        ({"records": body["records"]}, {"sql": "select id, name from users"}),
        (body, None),
        (body, {"sql": "select id, reverse(email), card_no from users"}),
    ):
        assert EMAIL not in json.dumps(_out(mask, "rds-data:ExecuteStatement", answer, params))
        assert _out(mask, "rds-data:ExecuteStatement", answer, params)["records"][0][0] == {"longValue": 0}


def test_masking_columns_rds_formatted_records(mask: Masker) -> None:
    """formattedRecords is a JSON text in a string."""
    body = {"formattedRecords": json.dumps([{"id": 1, "email": EMAIL, "n": "x"}])}
    out = _out(mask, "rds-data:ExecuteStatement", body, {"sql": "select * from users"})
    assert json.loads(out["formattedRecords"]) == [{"id": 1, "email": "[MASKED:pii]", "n": "x"}]
    out = _out(mask, "rds-data:ExecuteStatement", body, {"sql": "select id, upper(email) n from users"})
    assert out["formattedRecords"] == "[MASKED:pii]"


ATHENA = {
    "ResultSet": {
        "ResultSetMetadata": {"ColumnInfo": [{"Name": "id"}, {"Name": "email"}]},
        "Rows": [{"Data": [{"VarCharValue": "id"}, {"VarCharValue": "email"}]}, {"Data": [{"VarCharValue": "7"}, {"VarCharValue": EMAIL}]}],
    }
}  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "cells"),
    [
        ("select id, email from u", ["7", "[MASKED:pii]"]),
        ("select id, lower(email) email from u", ["[MASKED:pii]"] * 2),
    ],
)
def test_masking_columns_athena(mask: Masker, sql: str, cells: list[str]) -> None:
    """The statement is remembered by its id; the header row keeps its names."""
    _out(mask, "athena:StartQueryExecution", {"QueryExecutionId": "q-1"}, {"QueryString": sql})
    rows = _out(mask, "athena:GetQueryResults", ATHENA, {"QueryExecutionId": "q-1"})["ResultSet"]["Rows"]
    assert [c["VarCharValue"] for c in rows[0]["Data"]] == ["id", "email"]
    assert [c["VarCharValue"] for c in rows[1]["Data"]] == cells


def test_masking_columns_unknown_query_hides_all(mask: Masker) -> None:
    """A query that this gateway did not see start."""
    rows = _out(mask, "athena:GetQueryResults", ATHENA, {"QueryExecutionId": "other"})["ResultSet"]["Rows"]
    assert [c["VarCharValue"] for c in rows[1]["Data"]] == ["[MASKED:pii]"] * 2


def test_masking_columns_redshift(mask: Masker) -> None:
    """Redshift Data names its members in capitals; ids of batches have a suffix."""
    _out(mask, "redshift-data:BatchExecuteStatement", {"Id": "r"}, {"Sqls": ["select 1", "select id, email from u"]})
    body = {
        "ColumnMetadata": [{"name": "id"}, {"name": "email"}],
        "Records": [[{"longValue": 1}, {"stringValue": EMAIL}]],
    }
    out = _out(mask, "redshift-data:GetStatementResult", body, {"Id": "r:2"})
    assert out["Records"] == [[{"longValue": 1}, {"stringValue": "[MASKED:pii]"}]]


def test_masking_columns_dynamodb(mask: Masker) -> None:
    """Attributes of every type, at any depth; numbers stay numbers, binary stays base64."""
    item = {
        "id": {"S": "1"}, "email": {"S": EMAIL}, "card_no": {"N": "4111"}, "more": {"M": {"email": {"L": [{"S": EMAIL}]}}},
        "card_bin": {"B": "aGk="}, "cards": {"SS": [CARD]},
    }  # fmt: skip
    out = _out(mask, "dynamodb:Query", {"Items": [item], "Count": 1}, {})
    blob = base64.b64encode(b"[MASKED:pii]").decode()
    assert out["Items"][0] == {
        "id": {"S": "1"}, "email": {"S": "[MASKED:pii]"}, "card_no": {"N": "0"},
        "more": {"M": {"email": {"L": [{"S": "[MASKED:pii]"}]}}}, "card_bin": {"B": blob}, "cards": {"SS": ["[MASKED:pii]"]},
    }  # fmt: skip


PLAIN = [
    "select id, email from users",
    "SELECT u.id, u.email FROM users u WHERE u.id = 3 ORDER BY u.id",
    "select * from users limit 3",
    "select count(*) from users",
    "select name from a join b on a.id = b.id",
    "select name from a union all select title from b",
    "select x from unnest(array[1, 2]) as t(x)",
    "with t(a) as (select 1) select a from t",
    "show tables",
    "DESCRIBE users;",
    "explain select email from users",
    "insert into users (email) values ('x')",
    "update users set email = 'a'",
]
COMPUTED = [
    "select reverse(email) from users",
    "select substr(email, 1, 3) from users",
    "select id from users where email like 'a%'",
    "select email as x from users",
    "select x from (select email as x from users) t",
    "with t as (select email e from users) select e from t",
    "select a.id from a join b on a.email = b.email",
    "select a.id from a join b using (email)",
    "select id from a natural join b",
    "select name from a union select email from b",
    "select * from a union select * from b",
    "with t(a, b) as (select * from users) select b from t",
    "explain (analyze) select 1",
    "show tables; select lower(email) from users",
    "select name from a order by email",
    "select id, count(*) from a group by email",
    "select row_to_json(u) from users u",
    "select row_to_json(users.*) from users",
    "select concat_ws(',', u.*) from users u",
    "select u from users u",
    "select t.b from users as t(a, b)",
    "select data->>'email' from users",
    "select query_to_xml('select email from users', true, true, '')",
    'select "email" || id from users',
    "select max(EMAIL) from users",
    "select case when email is null then 1 else 0 end from users",
    "delete from users returning email",
    "execute stmt",
    "declare c cursor for select email from users",
    "select id from users; select lower(email) from users",
    "select /*!50000 email */ from users",
    "this is no sql",
    "",
    "explain analyze select email from users",
]


@pytest.mark.parametrize("sql", PLAIN)
def test_masking_lineage_plain(sql: str) -> None:
    """Plain projections, stars and statements without the column leave masking to the names."""
    assert not lineage.hides_whole(sql, "rds-data", ["email"])


@pytest.mark.parametrize("sql", COMPUTED)
def test_masking_lineage_computed(sql: str) -> None:
    """Whatever is computed from the column, or cannot be understood, hides the whole result."""
    assert lineage.hides_whole(sql, "rds-data", ["email"])


def test_masking_columns_metadata_is_asked_for_and_taken_out() -> None:
    """The request asks for names where the client did not; the client's answer has none of it."""
    asked = columns.with_metadata(call("rds-data:ExecuteStatement"), b'{"sql": "select 1"}')
    assert asked is not None and json.loads(asked) == {"sql": "select 1", "includeResultMetadata": True}
    assert columns.with_metadata(call("rds-data:ExecuteStatement"), asked) is None
    assert columns.with_metadata(call("rds-data:BatchExecuteStatement"), b"{}") is None
    assert json.loads(columns.without_metadata(b'{"records": [], "columnMetadata": [1]}')) == {"records": []}
