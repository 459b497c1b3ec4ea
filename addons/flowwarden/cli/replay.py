"""flowwarden replay: a recorded session again, against a sandbox, from the recording alone, or under other rules."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..errors import ConfigError
from .common import console, json_option, print_json, recordings_option, table


@click.command()
@click.argument("session")
@click.option("--to", "url", metavar="URL", help="Send the recorded requests to this sandbox and compare the answers.")
@click.option(
    "--secrets", type=click.Path(dir_okay=False, path_type=Path), help="JSON: what masks in requests stand for."
)
@click.option("--allow-host", multiple=True, metavar="HOST", help="A target host other than loopback.")
@click.option("--diff", "with_diff", is_flag=True, help="Print every difference.")
@recordings_option
@json_option
def replay(
    session: str,
    url: str | None,
    secrets: Path | None,
    allow_host: tuple[str, ...],
    with_diff: bool,
    recordings: Path,
    as_json: bool,
) -> None:
    """A recorded session again. Exit 0: every answer was the same."""
    from ..replay.send import replay_to

    if not url:
        raise ConfigError("say where to: --to URL")
    known = json.loads(secrets.read_text(encoding="utf-8")) if secrets else None
    compared = replay_to(recordings, session, url, secrets=known, allow_host=allow_host)
    if as_json:
        print_json([{name: getattr(each, name) for name in each.__slots__} for each in compared])
    else:
        console().print(table(f"Replay of {session} against {url}", ("flow", "operation", "recorded", "answered", "verdict", "differences"), (
            (c.flow[:8], c.operation or f"{c.method} {c.path}"[:60], c.recorded, c.answered, c.verdict,
             "\n".join(c.diff) if with_diff else c.diff[0] if c.diff else "")
            for c in compared
        )))  # fmt: skip
    raise SystemExit(0 if all(c.verdict in ("same", "skipped") for c in compared) else 1)


COMMANDS = (replay,)
