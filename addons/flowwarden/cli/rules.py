"""flowwarden rules, explain, mask: what the rules say, before they have to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError, FlowwardenError
from .common import console, fail, json_option, print_json, show

rules_option = click.option(
    "--rules",
    "folder",
    default="rules",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of rule files.",
)


@click.group()
def rules() -> None:
    """The rule files: lint them, and run the examples written beside them."""


@rules.command()
@rules_option
@json_option
def check(folder: Path, as_json: bool) -> None:
    """File and line of every error, and what an author should know. Exit 1 if the gateway would not start on them."""
    found = _findings(folder)
    if as_json:
        print_json(found)
    for each in () if as_json else found:
        where = f"{each['file']}:{each['line']}" if each["line"] else each["file"]
        message = each["message"].removeprefix(f"{each['file']}: ")
        click.echo(f"{where}: {each['severity']}: {message}")
    errors = sum(each["severity"] == "error" for each in found)
    if not as_json:
        click.echo(f"{folder}: {errors} errors, {len(found) - errors} warnings")
    raise SystemExit(1 if errors else 0)


@rules.command()
@rules_option
@json_option
def test(folder: Path, as_json: bool) -> None:
    """Runs the examples beside the rules and masks. Exit 1 if one does not come out as written."""
    from ..masking import check as masks
    from ..policy import check as policy

    if any(each["severity"] == "error" for each in _findings(folder)):
        fail("there are mistakes in the rules: `flowwarden rules check` names them")
    rows = [
        {
            "file": r.example.file,
            "line": r.example.line,
            "what": r.example.title,
            "ok": r.passed,
            "message": "" if r.passed else r.message,
        }
        for r in policy.run_tests(folder)
    ]
    rows += [
        {"file": r.file, "line": r.line, "what": r.mask, "ok": r.ok, "message": r.message}
        for r in masks.run_tests(folder / "masks.yaml")
    ]
    failed = [row for row in rows if not row["ok"]]
    if as_json:
        print_json(rows)
    else:
        for row in failed:
            click.echo(f"{row['file']}:{row['line']}: {row['what']}: {row['message']}")
        click.echo(f"{len(rows) - len(failed)} examples passed, {len(failed)} failed")
    raise SystemExit(1 if failed else 0)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--group", "groups", multiple=True, metavar="G", help="A group of whoever asks, where the file names no principal."
)
@rules_option
@click.option("--reasons", is_flag=True, help="Every rule that matched, with what held.")
def explain(file: Path, groups: tuple[str, ...], folder: Path, reasons: bool) -> None:
    """Recognises and decides requests from JSON lines, HAR or .mitm; one JSON object a line, in the same order."""
    from ..explain import explained

    for line in explained(file, folder, groups=groups, reasons=reasons):
        click.echo(json.dumps(line, ensure_ascii=False))


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--content-type", required=True, metavar="T", help="The answer's Content-Type.")
@click.option("--operation", default="", metavar="SERVICE:OPERATION", help="What was asked: s3:GetObject ...")
@click.option("--group", "groups", multiple=True, metavar="G", help="A group of the session that would read it.")
@rules_option
@json_option
def mask(file: Path, content_type: str, operation: str, groups: tuple[str, ...], folder: Path, as_json: bool) -> None:
    """What the masks do to a body: the masked body on standard output, the masks that hit on standard error."""
    from ..masking.rules import load
    from ..types import Call, Operation

    service, _, name = operation.partition(":")
    call = Call(aws=bool(name), operation=Operation(service, name) if name else None, params={"Key": file.name})
    try:
        body = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    masker = load(folder / "masks.yaml").for_groups(frozenset(groups))
    done = masker.mask_answer(call, 200, ((b"content-type", content_type.encode("latin-1", "replace")),), body)
    if as_json:
        print_json(
            {
                "masks": dict(done.counts),
                "inspected": done.inspected,
                "notes": done.notes,
                "body": done.body.decode("utf-8", "replace"),
            }
        )
        return
    text = done.body.decode("utf-8", "replace")
    console().print(_highlighted(text), soft_wrap=True, end="" if text.endswith("\n") else "\n")
    for id, count in sorted(done.counts.items()):
        click.echo(f"{count} x {id}", err=True)
    for note in done.notes or (() if done.counts else ("nothing was masked",)):
        click.echo(note, err=True)


def _highlighted(text: str) -> Any:
    from rich.text import Text

    made = Text(text)
    made.highlight_regex(r"\[MASKED[^\]]*\]", "bold reverse")
    return made


def _findings(folder: Path) -> list[dict[str, Any]]:
    from ..credentials import rules as credentials
    from ..identity import rules as identity
    from ..masking import check as masks
    from ..policy import check as policy

    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}", "Give --rules")
    found = [
        {"file": f.file, "line": f.line, "severity": f.severity, "message": f.message} for f in policy.check(folder)
    ]
    found += [
        {"file": f.file, "line": f.line, "severity": f.level, "message": f.message}
        for f in masks.check(folder / "masks.yaml")
    ]
    for load in (identity.load, credentials.load):
        try:
            load(folder / "identity.yaml")
        except FlowwardenError as error:
            where = (str(getattr(error, "file", "")), int(getattr(error, "line", 0)))
            message = error.message.removeprefix(f"{where[0]}:{where[1]}: ")
            row = {"file": where[0], "line": where[1], "severity": "error", "message": message}
            found += [] if row in found else [row]
    return found


COMMANDS: tuple[click.Command, ...] = (rules, explain, mask)
__all__ = ["COMMANDS", "show"]
