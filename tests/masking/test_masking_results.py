"""Results that a query leaves in S3: Athena's CSV files and what UNLOAD writes, read as objects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from masking_tools import call, headers, masker

from flowwarden.errors import Refusal
from flowwarden.masking.masker import Masker

QUERY = "0aaf3b9c-1111-4222-8333-444455556666"
FILE = b'"id","email"\n"7","ada@example.com"\n"8","bob@example.com"\n'


@pytest.fixture
def mask(tmp_path: Path) -> Masker:
    return masker(tmp_path, "masks: [{id: m, columns: [email]}]")


def _start(mask: Masker, sql: str, operation: str = "athena:StartQueryExecution") -> None:
    names = {"athena": ("QueryString", "QueryExecutionId"), "redshift-data": ("Sql", "Id")}[
        operation.split(":", maxsplit=1)[0]
    ]
    answer = json.dumps({names[1]: QUERY}).encode()
    mask.mask_answer(call(operation, params={names[0]: sql}), 200, headers(), answer)


def _read(mask: Masker, body: bytes = FILE, key: str = f"results/{QUERY}.csv") -> bytes:
    asked = call("s3:GetObject", "rest-xml", params={"Bucket": "b", "Key": key})
    whole = mask.mask_answer(asked, 200, headers("application/octet-stream"), body).body
    stream = mask.stream(asked, 200, headers("application/octet-stream"))
    assert stream is not None and stream.feed(body) + stream.finish() == whole
    assert len(whole) == len(body)
    return whole


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("select id, email from users", [b'"7"', b'"8"', b'"id","email"']),
        ("select id, lower(email) email from users", [b'"id","email"']),
        (None, [b'"id","email"']),
    ],
)
def test_masking_results_of_athena(mask: Masker, sql: str | None, shown: list[bytes]) -> None:
    """Columns by their names; all of them where the statement computes from one, or was never seen."""
    if sql is not None:
        _start(mask, sql)
    out = _read(mask)
    assert b"example.com" not in out and [text for text in (b'"7"', b'"8"', b'"id","email"') if text in out] == shown


def test_masking_results_of_a_computed_column(mask: Masker) -> None:
    """The column that shows the secret has another name."""
    _start(mask, "select id, reverse(email) from users")
    body = b'"id","_col1"\n"7","moc.elpmaxe@ada"\n'
    assert b"moc." not in _read(mask, body)


def test_masking_results_that_are_no_query(mask: Masker) -> None:
    """A file with such a name that Athena did not write is read by its names."""
    body = b"id,note\n7,hello there\n"
    assert _read(mask, body) == body
    assert _read(mask, b'"id","note"\n"7","x"\n', key="other.csv") == b'"id","note"\n"7","x"\n'


@pytest.mark.parametrize("operation", ["redshift-data:ExecuteStatement", "athena:StartQueryExecution"])
@pytest.mark.parametrize(
    ("select", "refused"),
    [("select id, email from u", True), ("select * from u", True), ("select id from u", False)],
)
def test_masking_results_of_unload(mask: Masker, operation: str, select: str, refused: bool) -> None:
    """Files of an UNLOAD do not name their columns: they are not read where one may be masked."""
    _start(mask, f"UNLOAD ('{select}')\n TO 's3://b/out/u_' iam_role default", operation)
    if not refused:
        assert _read(mask, b"7\n", key="out/u_0000_part_00") == b"7\n"
        return
    with pytest.raises(Refusal) as refusal:
        _read(mask, b"7|ada@example.com\n", key="out/u_0000_part_00")
    assert refusal.value.code == "UnreadableColumns"
    assert _read(mask, b"7\n", key="elsewhere") == b"7\n"
