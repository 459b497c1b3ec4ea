"""flowwarden verify, index: whether the recording is what was recorded."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import click
from rich.progress import Progress

from ..errors import ConfigError, StoreError
from ..recording.anchor import Outside, from_option
from ..recording.index import rebuild as rebuild_index
from ..recording.verify import verify as check
from .common import console, fail, json_option, moment, print_json, recordings_option
from .tables import table


@click.command()
@click.option(
    "--checkpoint", type=click.Path(dir_okay=False, path_type=Path), help="A checkpoint that was kept elsewhere."
)
@click.option("--key", "public_key", metavar="KEY", help="The evidence log's public key, if not the one in the log.")
@click.option("--require-anchor", is_flag=True, help="Exit 3 unless something outside vouches for the log.")
@click.option("--session", metavar="S", help="Prove this session's records, too: see --proof.")
@click.option(
    "--proof", "proof_file", type=click.Path(dir_okay=False, path_type=Path),
    help="With --session: the file for its inclusion proof, which docs/verify_proof.py checks alone.  [default: S.proof]",
)  # fmt: skip
@click.option("--anchor", metavar="WHERE", help="Fetch anchored checkpoints from here, as warden_anchor says it.")
@recordings_option
@json_option
def verify(
    checkpoint: Path | None,
    public_key: str | None,
    require_anchor: bool,
    anchor: str | None,
    recordings: Path,
    as_json: bool,
    session: str | None,
    proof_file: Path | None,
) -> None:
    """Checks log, frames, bodies and index. Exit 0 valid, 1 invalid (says where), 3 unproven."""
    if not recordings.is_dir():
        raise StoreError(f"there is no folder {recordings}", "Give --recordings")
    if proof_file and not session:
        raise ConfigError(
            "--proof is for a session's records", "Give --session too; `flowwarden export --proof` is for others"
        )
    asked = from_option(anchor or "")
    with Progress(
        console=console(stderr=True), transient=True, disable=as_json or not console(stderr=True).is_terminal
    ) as bar:
        task = bar.add_task("verifying", total=None)
        report = check(
            recordings,
            checkpoint=checkpoint,
            public_key=public_key,
            require_anchor=require_anchor,
            outside=Outside([asked]) if asked else None,
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
                "proven",
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
        word = " (by the recording's own word: give --anchor)" if report.anchors and not report.proven else ""
        click.echo(
            f"{report.verdict}: {report.records} records, {report.frames} frames, {report.bodies} bodies, "
            f"{report.checkpoints} checkpoints; unanchored tail{word}: {report.tail_records} records, "
            f"{report.tail_seconds:.0f} s"
        )
    if session:
        from ..recording.proof import proof

        file = proof_file or Path(f"{Path(session).name}.proof")
        file.write_text(json.dumps(proof(recordings, session=session)), encoding="utf-8")
        click.echo(f"proof: {file}", err=True)
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


@click.command()
@click.argument("session", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["mitm", "har", "jsonl"]),
    default="mitm",
    show_default=True,
    help="What is written.",
)
@click.option("--flow", "flows", multiple=True, metavar="ID", help="Only these flows.")
@click.option("--action", default="", metavar="GLOB", help="Only flows of these actions, such as 's3:Put*'.")
@click.option("--decision", type=click.Choice(["allow", "approve", "deny"]), help="Only what was decided so.")
@click.option(
    "--since", default="", metavar="T", help="Only from this time on: RFC 3339, its beginning, or an age such as 2h."
)
@click.option("--until", default="", metavar="T", help="Only before this time.")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Where to.  [default: standard output]"
)
@click.option(
    "--proof",
    "proof_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Writes the inclusion proof beside it.",
)
@recordings_option
def export(
    session: str | None,
    form: str,
    flows: tuple[str, ...],
    output: Path | None,
    proof_file: Path | None,
    recordings: Path,
    decision: str | None,
    **asked: str,
) -> None:
    """Flows out of the recording, of a session or of all; with a proof that docs/verify_proof.py checks alone."""
    from ..recording.export import export as write
    from ..recording.export import matching
    from ..recording.proof import proof

    asked |= {"since": moment(asked["since"], "--since"), "until": moment(asked["until"], "--until")}
    asked["decision"] = decision or ""
    chosen = set(flows) or None
    if any(asked.values()):
        found = matching(recordings, session=session, **asked)
        chosen = found if chosen is None else chosen & found
    with ExitStack() as stack:
        out = stack.enter_context(output.open("wb")) if output else sys.stdout.buffer
        count = write(recordings, out, format=form, session=session, flows=chosen, verbatim=proof_file is not None)  # type: ignore[arg-type]
    if not count and (session or chosen is not None):
        if output:
            output.unlink()
        fail("there are no such flows; `flowwarden flows` lists them")
    click.echo(f"{count} flows", err=True)
    if proof_file is not None:
        proof_file.write_text(json.dumps(proof(recordings, session=session, flows=chosen)), encoding="utf-8")
        click.echo(f"proof: {proof_file}", err=True)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--role", "roles", multiple=True, metavar="ARN", help="A role whose every call has to have passed the gateway."
)
@recordings_option
@json_option
def reconcile(files: tuple[Path, ...], roles: tuple[str, ...], recordings: Path, as_json: bool) -> None:
    """Compares with exported CloudTrail JSON: which calls did not pass the gateway, which of its calls are missing there."""
    from ..recording.reconcile import reconcile as compare

    result = compare(recordings, files, roles=roles)
    rows = [
        {"which": which, **{n: getattr(each, n) for n in each.__slots__}}
        for which in ("beside", "missing")
        for each in getattr(result, which)
    ]
    if as_json:
        print_json({"matched": result.matched, "events": result.events, "without_id": result.without_id, "calls": rows})
    else:
        names = ("which", "time", "action", "principal", "request_id")
        if rows:
            console().print(
                table("Calls that are in one of the two only", names, ([row[name] for name in names] for row in rows))
            )
        click.echo(
            f"{result.matched} in both, {len(result.beside)} did not pass the gateway, {len(result.missing)} are not in the trail"
        )
    raise SystemExit(result.exit_code)


COMMANDS = (verify, index, export, reconcile)
