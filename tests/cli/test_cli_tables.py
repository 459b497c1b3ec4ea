"""Tables are for reading: no empty headings, lists as lines, nothing for what is not there."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from click.testing import CliRunner
from rich.console import Console

from flowwarden.cli import main
from flowwarden.cli.approvals import _text
from flowwarden.cli.tables import table


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


def narrow(width: int, *rows: tuple[object, ...]) -> list[str]:
    out = StringIO()
    names = ("flow", "who", "action", "resource", "rule", "status", "masked")
    Console(file=out, width=width).print(table("Flows", names, rows))
    return out.getvalue().splitlines()


ARN = "arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0"
ROW = ("3c63b777", "dev@example.com", "ec2:TerminateInstances", ARN, "needs-a-human\nand-another", 200, "")


def test_a_row_that_has_no_room_for_columns_is_written_in_lines_that_can_be_read_and_copied() -> None:
    assert narrow(80, ROW, ROW)[1:4] == [
        "3c63b777  who dev@example.com  action ec2:TerminateInstances",
        f"  resource {ARN}",
        "  rule needs-a-human, and-another  status 200",
    ]


def test_the_same_rows_are_columns_where_there_is_room() -> None:
    assert "┃" in narrow(160, ROW)[2]


def test_what_is_wider_than_the_terminal_is_folded_and_not_cut() -> None:
    lines = narrow(40, ("3c63b777", "", "", "[red]" + "x" * 90, "", "", ""))
    assert "".join("".join(lines).split()).endswith("resource[red]" + "x" * 90)
    assert max(map(len, lines)) <= 40


def test_a_masked_body_ends_as_the_body_did(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_text("plain\n")
    rules = str(Path(__file__).parents[2] / "rules")
    done = CliRunner().invoke(main, ["mask", str(body), "--content-type", "text/plain", "--rules", rules])
    assert done.stdout == "plain\n"
