"""flowwarden replay: a recorded session again, against a sandbox, from the recording alone, or under other rules."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from ..errors import ConfigError
from .common import console, json_option, moment, print_json, recordings_option
from .flows import open_index
from .session import environment, folder_option, save_bundle
from .tables import table

STATE_CA = Path("state/ca")


@click.command()
@click.argument("session", required=False)
@click.option("--to", "url", metavar="URL", help="Send the recorded requests to this sandbox and compare the answers.")
@click.option(
    "--serve",
    "port",
    type=int,
    metavar="PORT",
    help="Answer an agent from the recording as its HTTPS_PROXY; nothing leaves.",
)
@click.option("--rules", type=click.Path(file_okay=False, path_type=Path), help="Decide again under these rules.")
@click.option(
    "--since", default="", metavar="T", help="With --rules: from this time on (RFC 3339, its beginning, or 2h)."
)
@click.option("--until", default="", metavar="T", help="With --rules: before this time.")
@click.option(
    "--secrets", type=click.Path(dir_okay=False, path_type=Path), help="YAML or JSON: what masks in requests stand for."
)
@click.option("--allow-host", multiple=True, metavar="HOST", help="A target host other than loopback.")
@click.option("--diff", "with_diff", is_flag=True, help="Print every difference.")
@click.option(
    "--ca", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="With --serve: folder of the CA that answers. Without it the gateway's in state/ca, or one made for the purpose.",
)  # fmt: skip
@folder_option
@recordings_option
@json_option
def replay(
    session: str | None,
    url: str | None,
    port: int | None,
    rules: Path | None,
    recordings: Path,
    as_json: bool,
    **more: Any,
) -> None:
    """A recorded session again. Exit 0: every answer was the same, no call was missed, nothing that ran is refused now.

    --serve prints the environment for the agent, as `session start` does: proxy, CA bundle, keys that are worth nothing.
    """
    if sum(each is not None for each in (url, port, rules)) != 1:
        raise ConfigError("say one of --to URL, --serve PORT, --rules DIR")
    if rules is not None:
        since, until = moment(more["since"], "--since"), moment(more["until"], "--until")
        raise SystemExit(_decide(recordings, session, rules, since, until, as_json))
    if not session:
        raise ConfigError("say which session", _newest(recordings))
    if port is not None:
        raise SystemExit(_serve(recordings, session, port, as_json, **more))
    raise SystemExit(_send(recordings, session, url or "", as_json, **more))


def _newest(recordings: Path) -> str:
    """The sessions that one would mean."""
    found = [str(row["id"]) for row in open_index(recordings).sessions(limit=3)]
    return f"The newest: {', '.join(found)}" if found else f"There is none in {recordings} yet"


def _send(recordings: Path, session: str, url: str, as_json: bool, **more: Any) -> int:
    from ..replay.secrets import Secrets
    from ..replay.send import replay_to

    secrets = Secrets.load(more["secrets"]) if more["secrets"] else None
    compared = replay_to(recordings, session, url, secrets=secrets, allow_host=more["allow_host"])
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


def _serve(recordings: Path, session: str, port: int, as_json: bool, **more: Any) -> int:
    from ..replay.answers import Answers
    from ..replay.serve import Server

    found = Answers(recordings, session, missed=lambda miss: click.echo(f"missed: {miss}", err=True))
    server = Server(found, port, ca=more["ca"] or (STATE_CA if (STATE_CA / "mitmproxy-ca.pem").is_file() else None))
    try:
        _tell(server, session, more["folder"], as_json)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop is no reason to keep the misses
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
    if as_json:
        misses = [{name: getattr(miss, name) for name in miss.__slots__} for miss in found.misses]
        print_json({"answered": found.hits, "misses": misses, "left": found.left})
        return 1 if misses else 0
    told = f"{found.hits} answered, {len(found.misses)} missed, {len(found.left)} of the recording not asked for"
    click.echo(told, err=True)  # standard output holds the environment, for a shell
    if found.misses:
        rows = ((miss.operation, miss.method, miss.host, miss.path[:60], miss.why) for miss in found.misses)
        console(stderr=True).print(table("Missed", ("operation", "method", "host", "path", "why"), rows))
    return 1 if found.misses else 0


def _tell(server: Any, session: str, folder: Path, as_json: bool) -> None:
    """The environment of `session start`, for this proxy; on standard error where programs read the other."""
    bundle, fingerprint = save_bundle(
        server.ca.read_text(encoding="ascii"), folder / "replay"
    )  # beside `session start`'s
    told = {"session": session, "proxy": "http://flowwarden:replay@127.0.0.1", "credentials": server.keys}
    variables = environment(told, bundle, server.answers.region, server.url)
    click.echo(f"answering from {session} until Ctrl-C; CA fingerprint (SHA-256) {fingerprint}", err=True)
    click.echo(f"for a client without a proxy: AWS_ENDPOINT_URL={server.url}", err=True)
    click.echo(
        "".join(f"export {name}={shlex.quote(text)}\n" for name, text in variables.items()), nl=False, err=as_json
    )


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
