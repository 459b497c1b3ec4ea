"""flowwarden flows, show: what went through the gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..errors import FlowwardenError, StoreError
from ..recording.approvals import events
from ..recording.index import FILE, Index, rebuild
from ..recording.read import frame_state, full_bodies, record_at
from .common import console, json_option, moment, print_json, recordings_option, show
from .tables import table

_WIDEST = 80  # characters of a resource


@click.command()
@click.option("--session", default="", metavar="S", help="Flows of one session.")
@click.option("--action", default="", metavar="A", help="An IAM action, * allowed: ec2:Terminate*")
@click.option("--decision", type=click.Choice(["allow", "approve", "deny"]), help="Only what was decided so.")
@click.option("--since", default="", metavar="T", help="RFC 3339, its beginning, or an age such as 2h.")
@click.option("--search", default="", metavar="Q", help="Words in actions, resources, host or path.")
@click.option("--request-id", default="", metavar="ID", help="The request id that AWS answered with.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many, newest first."
)
@recordings_option
@json_option
def flows(recordings: Path, as_json: bool, since: str, decision: str | None, **asked: Any) -> None:
    """The index: what was called, by whom, and how it ended."""
    since = moment(since, "--since")
    found = open_index(recordings).flows(since=since, decision=decision or "", **asked)
    show(as_json, found, "Flows", {
        "flow": lambda row: row["id"][:8],
        "time": lambda row: row["time"][:19].replace("T", " "),
        "who": lambda row: row.get("subject") or row.get("principal") or "",
        "action": lambda row: row["action"] or f"{row['method']} {row['host']}",
        "resource": lambda row: _cut(row.get("resource") or ""),
        "decision": lambda row: row["decision"],
        "rule": lambda row: row.get("rules") or row.get("rule") or "",
        "status": lambda row: row["status"] or "",
        "outcome": lambda row: row["outcome"] or "under way",
        "masked": lambda row: row.get("masked") or "",
    })  # fmt: skip


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


@click.command("show")
@click.argument("flow")
@recordings_option
@json_option
def show_(flow: str, recordings: Path, as_json: bool) -> None:
    """One flow: who, what, why, request and answer as the agent saw them. The beginning of its id is enough."""
    row = open_index(recordings).flow(flow)
    if row is None:
        raise FlowwardenError(f"there is no flow {flow}, or more than one", "`flowwarden flows` lists them")
    call, end, state = load(recordings, row)
    asked = events(recordings, row["approval"]) if row.get("approval") else []
    if as_json:
        print_json({"flow": row, "intent": call, "outcome": end, "frame": state, "approval": asked})
        return
    out = console()
    about = end.get("about") or call
    who = about.get("principal") or {}
    out.print(table(f"Flow {row['id']}", ("", ""), (
        ("who", f"{who.get('subject', 'nobody')} ({who.get('agent') or 'no agent'}; groups {', '.join(who.get('groups', []))})"),
        ("session", about.get("session")),
        ("operation", f"{about.get('service')}:{about.get('operation')}" if about.get("operation") else "none"),
        ("actions", ", ".join(about.get("actions", []))),
        ("resources", "\n".join(str(each) for each in about.get("resources", []))),
        ("decision", f"{about.get('decision')} by {', '.join(about.get('rules', [])) or 'nothing'}"),
        ("approval", about.get("approval")),
        ("outcome", f"{end.get('outcome')} {end.get('status') or ''} {end.get('code', '')} {end.get('reason', '')}"),
        ("masks", ", ".join(f"{count} x {name}" for name, count in (row.get("masks") or {}).items())),
        ("AWS request id", end.get("aws_request_id")),
    )), markup=False)  # fmt: skip
    if asked:
        out.print(_approval(asked), markup=False)
    if state:
        _print_messages(state)


def _approval(records: list[dict[str, Any]]) -> Any:
    """Who asked, looked, answered, used and revoked, when, and for which request."""

    def person(record: dict[str, Any]) -> str:
        who = record.get("by") or record.get("principal") or record.get("viewer") or {}
        return str(who.get("name") or who.get("subject") or "")

    columns = ("time", "event", "who", "request", "reason")
    return table(f"Approval {records[0]['approval']}", columns, (
        (r["time"][:19].replace("T", " "), r["event"], person(r), (r.get("request") or r["digest"])[:16], r.get("reason"))
        for r in records
    ))  # fmt: skip


def _print_messages(state: dict[str, Any]) -> None:
    request, response = state["request"], state.get("response")
    click.echo(f"\n{_text(request['method'])} {_text(request['scheme'])}://{request['host']}{_text(request['path'])}")
    _message(request)
    if response:
        click.echo(f"\n{response['status_code']} {_text(response['reason'])}")
        _message(response)


def _message(part: dict[str, Any]) -> None:
    for name, value in part["headers"]:
        click.echo(f"{_text(name)}: {_text(value)}")
    body = part.get("content")
    if body:
        click.echo()
        click.echo(_pretty(body))


def _pretty(body: bytes) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        text = body.decode("utf-8", "replace")
        return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def load(recordings: Path, row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Intent, outcome and frame of a flow in the index."""
    call = record_at(recordings, row["seq"])
    end = record_at(recordings, row["outcome_seq"]) if row.get("outcome_seq") is not None else {}
    state: dict[str, Any] = {}
    if end.get("frame"):
        state = full_bodies(recordings, frame_state(recordings, end["frame"]), end)
    return call, end, state


def open_index(recordings: Path) -> Index:
    """The index, brought up to date with the log first."""
    if not recordings.is_dir():
        raise StoreError(f"there is no folder {recordings}", "Give --recordings")
    if not (recordings / FILE).exists():
        rebuild(recordings)
    index = Index(recordings / FILE)
    while index.feed(recordings):
        pass
    return index


COMMANDS = (flows, show_)
