"""flowwarden verify, index: whether the recording is what was recorded."""

from __future__ import annotations

from pathlib import Path

import click
from rich.progress import Progress

from ..errors import StoreError
from ..recording.index import rebuild as rebuild_index
from ..recording.verify import verify as check
from .common import console, json_option, print_json, recordings_option


@click.command()
@click.option(
    "--checkpoint", type=click.Path(dir_okay=False, path_type=Path), help="A checkpoint that was kept elsewhere."
)
@click.option("--key", "public_key", metavar="KEY", help="The evidence log's public key, if not the one in the log.")
@click.option("--require-anchor", is_flag=True, help="Exit 3 unless something outside vouches for the log.")
@recordings_option
@json_option
def verify(
    checkpoint: Path | None, public_key: str | None, require_anchor: bool, recordings: Path, as_json: bool
) -> None:
    """Checks log, frames, bodies and index. Exit 0 valid, 1 invalid (says where), 3 unproven."""
    if not recordings.is_dir():
        raise StoreError(f"there is no folder {recordings}", "Give --recordings")
    with Progress(
        console=console(stderr=True), transient=True, disable=as_json or not console(stderr=True).is_terminal
    ) as bar:
        task = bar.add_task("verifying", total=None)
        report = check(
            recordings,
            checkpoint=checkpoint,
            public_key=public_key,
            require_anchor=require_anchor,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        data = {
            name: getattr(report, name)
            for name in (
                "verdict",
                "records",
                "frames",
                "bodies",
                "bytes",
                "checkpoints",
                "tail_records",
                "tail_seconds",
                "key",
                "removed",
            )
        }
        data["findings"] = [
            {"severity": f.severity, "what": f.what, "file": f.file, "seq": f.seq, "offset": f.offset}
            for f in report.findings
        ]
        print_json(data)
    else:
        for finding in report.findings:
            click.echo(f"{finding.severity}: {finding}")
        click.echo(
            f"{report.verdict}: {report.records} records, {report.frames} frames, {report.bodies} bodies, "
            f"{report.checkpoints} checkpoints; unanchored tail: {report.tail_records} records, {report.tail_seconds:.0f} s"
        )
    raise SystemExit(report.exit_code)


@click.group()
def index() -> None:
    """The index, which is derived and never evidence."""


@index.command()
@recordings_option
def rebuild(recordings: Path) -> None:
    """The index anew, from log and frames."""
    if not recordings.is_dir():
        raise StoreError(f"there is no folder {recordings}", "Give --recordings")
    with Progress(console=console(stderr=True), transient=True, disable=not console(stderr=True).is_terminal) as bar:
        task = bar.add_task("indexing", total=None)
        count = rebuild_index(recordings, progress=lambda done: bar.update(task, completed=done))
    click.echo(f"{recordings / 'index.db'}: {count} records")


COMMANDS = (verify, index)
