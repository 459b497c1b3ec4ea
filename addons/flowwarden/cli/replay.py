"""flowwarden replay: a recorded session again, against a sandbox, from the recording alone, or under other rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from ..errors import ConfigError
from .common import console, json_option, print_json, recordings_option, table


@click.command()
@click.argument("session", required=False)
@click.option("--to", "url", metavar="URL", help="Send the recorded requests to this sandbox and compare the answers.")
@click.option("--serve", "port", type=int, metavar="PORT", help="Answer an agent from the recording; nothing leaves.")
@click.option(
    "--rules", "folder", type=click.Path(file_okay=False, path_type=Path), help="Decide again under these rules."
)
@click.option("--since", default="", metavar="T", help="With --rules: from this time on (RFC 3339 or its beginning).")
@click.option("--until", default="", metavar="T", help="With --rules: before this time.")
@click.option(
    "--secrets", type=click.Path(dir_okay=False, path_type=Path), help="JSON: what masks in requests stand for."
)
@click.option("--allow-host", multiple=True, metavar="HOST", help="A target host other than loopback.")
@click.option("--diff", "with_diff", is_flag=True, help="Print every difference.")
@recordings_option
@json_option
def replay(
    session: str | None,
    url: str | None,
    port: int | None,
    folder: Path | None,
    recordings: Path,
    as_json: bool,
    **more: Any,
) -> None:
    """A recorded session again. Exit 0: every answer was the same, no call was missed, nothing that ran is refused now."""
    if sum(each is not None for each in (url, port, folder)) != 1:
        raise ConfigError("say one of --to URL, --serve PORT, --rules DIR")
    if folder is not None:
        raise SystemExit(_decide(recordings, session, folder, more["since"], more["until"], as_json))
    if not session:
        raise ConfigError("say which session", "`flowwarden flows` shows them")
    if port is not None:
        raise SystemExit(_serve(recordings, session, port, as_json))
    raise SystemExit(_send(recordings, session, url or "", as_json, **more))


def _send(recordings: Path, session: str, url: str, as_json: bool, **more: Any) -> int:
    from ..replay.send import replay_to

    compared = replay_to(recordings, session, url, secrets=_secrets(more["secrets"]), allow_host=more["allow_host"])
    if as_json:
        print_json([{name: getattr(each, name) for name in each.__slots__} for each in compared])
    else:
        columns = ("flow", "operation", "recorded", "answered", "verdict", "differences")
        rows = (
            (c.flow[:8], c.operation.strip(":") or f"{c.method} {c.path}"[:60], c.recorded, c.answered, c.verdict,
             "\n".join(c.diff) if more["with_diff"] else c.diff[0] if c.diff else "")
            for c in compared
        )  # fmt: skip
        console().print(table(f"Replay of {session} against {url}", columns, rows))
    return 0 if all(c.verdict in ("same", "skipped") for c in compared) else 1


def _secrets(file: Path | None) -> dict[str, str] | None:
    if file is None:
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--secrets {file}: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ConfigError(f"--secrets {file} has to be a JSON object of texts")
    return found


def _serve(recordings: Path, session: str, port: int, as_json: bool) -> int:
    from ..replay.answers import Answers
    from ..replay.serve import Server

    answers = Answers(recordings, session)
    server = Server(answers, port)
    click.echo(f"answering from {session} at {server.url} until Ctrl-C; set AWS_ENDPOINT_URL={server.url}", err=True)
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    misses = [{name: getattr(miss, name) for name in miss.__slots__} for miss in answers.misses]
    if as_json:
        print_json({"misses": misses})
    else:
        for miss in misses:
            click.echo(f"missed: {miss}")
    return 1 if misses else 0


def _decide(recordings: Path, session: str | None, folder: Path, since: str, until: str, as_json: bool) -> int:
    from ..replay.decide import redecide

    with Progress(
        console=console(stderr=True), transient=True, disable=as_json or not console(stderr=True).is_terminal
    ) as bar:
        task = bar.add_task("deciding", total=None)
        result = redecide(
            recordings,
            folder,
            session=session,
            since=since,
            until=until,
            progress=lambda n: bar.update(task, completed=n),
        )
    if as_json:
        print_json({
            "decided": result.decided,
            "undecided": result.undecided,
            "changed": [{name: getattr(each, name) for name in each.__slots__} for each in result.changed],
        })  # fmt: skip
    else:
        rows = (
            (c.flow[:8], c.subject, c.operation, f"{c.was} → {c.now}", ", ".join(c.rules_now), "ran" if c.ran else "")
            for c in result.changed
        )
        if result.changed:
            columns = ("flow", "who", "operation", "decision", "rules", "")
            console().print(table(f"What changes under {folder}", columns, rows))
        click.echo(
            f"{result.decided} decided, {len(result.changed)} change, {len(result.refused)} that ran would be refused"
        )
    return result.exit_code


COMMANDS = (replay,)
