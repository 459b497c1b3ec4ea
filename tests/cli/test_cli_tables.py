"""Tables are for reading: no empty headings, lists as lines, nothing for what is not there."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from flowwarden.cli.approvals import _text
from flowwarden.cli.common import table


def drawn(*columns: str) -> str:
    out = StringIO()
    Console(file=out, width=60).print(table("Title", columns, (("name", "[red]value"),)))
    return out.getvalue()


def test_a_table_without_headings_has_no_empty_line_for_them() -> None:
    assert len(drawn("", "").splitlines()) == len(drawn("a", "b").splitlines()) - 2


def test_cells_are_no_markup() -> None:
    assert "[red]value" in drawn("a", "b")


def test_what_an_approval_holds_is_told_in_lines() -> None:
    assert _text(["a", "b"]) == "a\nb"
    assert _text(None) == _text([]) == ""
    assert _text({"count": 1}) == '{\n  "count": 1\n}'
