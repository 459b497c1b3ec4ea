"""What the command groups share: consoles, JSON output, where tokens and recordings come from."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console

from ..errors import ConfigError
from ..yamlfile import seconds
from .tables import table

_WORD = re.compile(r"[\x21-\x7e]+")
_MOMENT = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?)?)?")
LOGIN_FILE = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "flowwarden" / "token"


def console(*, stderr: bool = False) -> Console:
    """A console for people. Without a terminal it is as wide as a table needs, and has no colour."""
    found = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = 160
    return found


def print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    return (
        value.decode("utf-8", "replace")
        if isinstance(value, bytes)
        else sorted(value)
        if isinstance(value, (set, frozenset))
        else str(value)
    )


def show(as_json: bool, data: Any, title: str, columns: Mapping[str, Callable[[Any], object]]) -> None:
    """Rows as a table for people, as JSON for programs."""
    if as_json:
        print_json(data)
        return
    if not data:
        click.echo(f"{title}: none")
        return
    console().print(table(title, columns, ([read(row) for read in columns.values()] for row in data)))


def token(file: str | None) -> str:
    """An OIDC token from a file, standard input (`-`), FLOWWARDEN_TOKEN or the last `flowwarden login`; never an argument."""
    if file == "-":
        found = sys.stdin.read()
    elif file:
        try:
            found = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the token file {file} cannot be read: {getattr(error, 'strerror', None) or error}"
            ) from None
    else:
        found = os.environ.get("FLOWWARDEN_TOKEN", "")
        if not found and LOGIN_FILE.is_file():
            found = LOGIN_FILE.read_text(encoding="utf-8")
    found = found.strip()
    if not found:
        raise ConfigError("there is no token", "Give --token-file, set FLOWWARDEN_TOKEN, or run `flowwarden login`")
    if not _WORD.fullmatch(found):  # it may be another secret: nothing of it is told
        raise ConfigError(
            f"what {file or 'FLOWWARDEN_TOKEN or the last login'} holds is no token", "A token is one word"
        )
    return found


def moment(text: str, option: str) -> str:
    """A time as records have it (RFC 3339 in UTC) or its beginning, from that or an age such as 2h. ConfigError."""
    if not text:
        return ""
    try:
        return _record_time(datetime.now(UTC) - timedelta(seconds=seconds(text)))
    except (ValueError, OverflowError):
        pass
    found = _MOMENT.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        whole = datetime.fromisoformat(text[:19] + "0000-01-01T00:00:00"[len(text[:19]) :])
        if found["zone"] not in (None, "Z"):
            whole = datetime.fromisoformat(text)
            return _record_time(whole.astimezone(UTC))
    except ValueError:
        raise ConfigError(
            f"{option} {text!r} is not a time", "Give 2026-11-20T18:00:00Z, its beginning, or 2h"
        ) from None
    return text.replace(" ", "T")


def _record_time(when: datetime) -> str:
    return when.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"  # strftime gives year 950 three digits


def fail(message: str) -> NoReturn:
    """Ends with exit code 1: the answer is no."""
    click.echo(message, err=True)
    raise SystemExit(1)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
token_option = click.option(
    "--token-file",
    metavar="F",
    help="File that holds an OIDC token; - for standard input. Without it: FLOWWARDEN_TOKEN, then the last login.",
)
recordings_option = click.option(
    "--recordings",
    metavar="DIR",
    default="recordings",
    show_default=True,
    envvar="FLOWWARDEN_RECORDINGS",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that the gateway records to.",
)
admin_option = click.option(
    "--url",
    "admin_url",
    metavar="URL",
    default="http://127.0.0.1:8082",
    show_default=True,
    envvar="FLOWWARDEN_URL",
    show_envvar=True,
    help="The operators' listener.",
)
