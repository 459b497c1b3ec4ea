"""flowwarden approvals, login: a human answers held calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from ..errors import ConfigError, FlowwardenError
from ..operators.client import Client
from .common import LOGIN_FILE, admin_option, console, json_option, print_json, show, token, token_option
from .tables import table

_COLUMNS: dict[str, Callable[[Any], object]] = {
    "approval": lambda row: row["approval"] if "approval" in row else row.get("id"),
    "state": lambda row: "waits for its reason" if row.get("wants_purpose") else row["state"],
    "who": lambda row: (row.get("principal") or {}).get("subject", ""),
    "operation": lambda row: (row.get("summary") or {}).get("operation", ""),
    "resources": lambda row: "\n".join(str(each) for each in (row.get("summary") or {}).get("resources", [])),
    "rule": lambda row: ", ".join((row.get("summary") or {}).get("rules", [])),
    "expires": lambda row: row.get("expires", ""),
}


@click.group(invoke_without_command=True)
@click.pass_context
def approvals(ctx: click.Context) -> None:
    """Held calls: list, watch, show, approve, deny, revoke. Alone: the open ones."""
    if ctx.invoked_subcommand is None:
        with list_.make_context("list", [], parent=ctx) as alone:  # options from the environment count here too
            list_.invoke(alone)


@approvals.command("list")
@admin_option
@token_option
@click.option(
    "--state",
    type=click.Choice(["open", "approved", "denied", "expired", "withdrawn", "spent", "revoked", "all"]),
    default="open",
    show_default=True,
    help="Which questions.",
)
@json_option
def list_(admin_url: str, token_file: str | None, state: str, as_json: bool) -> None:
    """The questions that are open, or in another state."""
    show(
        as_json, Client(admin_url, token(token_file)).approvals("" if state == "all" else state), "Approvals", _COLUMNS
    )


@approvals.command()
@admin_option
@token_option
@json_option
def watch(admin_url: str, token_file: str | None, as_json: bool) -> None:
    """Questions as they come, with a bell. Ends with Ctrl-C; exit 2 when the gateway ends it."""
    client = Client(admin_url, token(token_file))
    for event in client.watch():
        if as_json:
            click.echo(json.dumps(event))
        elif event.get("event") != "hello":
            row = event.get("approval") or {}
            bell = (
                "\a" if event.get("event") in ("asked", "reopened", "stated") and not row.get("wants_purpose") else ""
            )
            summary = row.get("summary") or {}
            resources = " ".join(str(each) for each in summary.get("resources", []))
            click.echo(
                f"{bell}{event.get('event'):10} {_COLUMNS['approval'](row)} {summary.get('operation', '')} {resources}"
            )
    raise FlowwardenError(f"{client.url} has ended the watch", "Is the gateway running there, and the token good?")


@approvals.command("show")
@click.argument("id")
@admin_option
@token_option
@json_option
def show_(id: str, admin_url: str, token_file: str | None, as_json: bool) -> None:
    """The whole request: who asks, for what, which rule wants it approved."""
    found = Client(admin_url, token(token_file)).approval(id)
    if as_json:
        print_json(found)
        return
    out = console()
    out.print(table(f"Approval {id}", ("", ""), [row for row in _about(found) if row[1]]), markup=False)
    summary = found.get("summary") or {}
    if params := summary.get("params"):
        out.print(table("Parameters", ("parameter", "value"), ((k, _text(v)) for k, v in params.items())), markup=False)
    if answers := found.get("answers"):
        rows = ((a["at"], a["name"] or a["subject"], "yes" if a["approve"] else "no", a["reason"]) for a in answers)
        out.print(table("Answers", ("time", "who", "approves", "reason"), rows), markup=False)
    if body := summary.get("body"):
        click.echo(_visible(f"\n{summary.get('method')} {summary.get('host')}{summary.get('path')}\n\n{body}"))


def _about(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Who asks for what, which rule holds it, what cannot be undone about it, and how it stands."""
    who, summary, terms = found.get("principal") or {}, found.get("summary") or {}, found.get("terms") or {}
    groups = ", ".join(who.get("groups", []))
    covers = {"request": "this one request, once", "operation": "this operation on these resources, for a time"}
    needs = f"{terms.get('count', 1)} of {', '.join(terms.get('approver_groups') or terms.get('approver_principals') or ['the approvers'])}"
    size = f"{summary['body_bytes']} bytes, SHA-256 {summary['body_sha256']}" if "body_sha256" in summary else ""
    return [
        ("state", f"{found['state']}{': ' + found['reason'] if found.get('reason') else ''}"),
        (
            "who asks",
            f"{who.get('name') or who.get('subject', '')} ({who.get('agent') or 'no agent'}; groups {groups})",
        ),
        ("acts for", who.get("owner", "")),
        ("why", found.get("purpose") or ("not said yet: it cannot be approved" if found.get("wants_purpose") else "")),
        ("operation", summary.get("operation", "")),
        ("actions", _text(summary.get("actions") or [])),
        ("resources", "\n".join(each or "(not known)" for each in summary.get("resources") or [])),
        ("account", f"{summary.get('account', '')} {summary.get('region', '')}".strip()),
        ("request", f"{summary.get('method', '')} {summary.get('host', '')}{summary.get('path', '')}"),
        ("body", size),
        ("irreversible", summary.get("irreversible", "")),
        ("rule", ", ".join(summary.get("rules") or [])),
        ("the rule says", summary.get("reason", "")),
        ("covers", covers.get(terms.get("scope", ""), f"what the rule names, for {terms.get('lasts', 0):.0f} s")),
        ("needs", needs + ("; with a reason" if terms.get("reason_required") else "")),
        ("asked", found.get("asked", "")),
        ("open until", found.get("expires", "")),
        ("granted until", found.get("until") or ""),
        ("session", found.get("session", "")),
        ("digest", found.get("digest", "")),
        ("you cannot answer", found.get("why_not", "")),
    ]


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


@approvals.command()
@click.argument("id")
@admin_option
@token_option
@click.option("--reason", default="", help="Why, for the record.")
@json_option
def approve(id: str, admin_url: str, token_file: str | None, reason: str, as_json: bool) -> None:
    """Lets the held call pass, once."""
    _answer(Client(admin_url, token(token_file)), id, True, reason, as_json)


@approvals.command()
@click.argument("id")
@admin_option
@token_option
@click.option("--reason", required=True, help="Why; the agent reads it.")
@json_option
def deny(id: str, admin_url: str, token_file: str | None, reason: str, as_json: bool) -> None:
    """Refuses the held call; the agent gets the reason."""
    _answer(Client(admin_url, token(token_file)), id, False, reason, as_json)


@approvals.command()
@click.argument("id")
@admin_option
@token_option
@click.option("--reason", default="", help="Why, for the record.")
@json_option
def revoke(id: str, admin_url: str, token_file: str | None, reason: str, as_json: bool) -> None:
    """Takes back an open question or a grant that was not used up."""
    found = Client(admin_url, token(token_file)).revoke(id, reason)
    print_json(found) if as_json else click.echo(f"approval {id} is {found['state']}")


def _answer(client: Client, id: str, approved: bool, reason: str, as_json: bool) -> None:
    found = client.answer(id, approved, reason)
    print_json(found) if as_json else click.echo(f"approval {id} is {found['state']}")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


@click.command()
@click.option("--issuer", required=True, metavar="URL", help="The OIDC issuer to sign in at.")
@click.option("--client-id", default="flowwarden", show_default=True, help="This program's client id there.")
@click.option("--scope", default="openid profile email", show_default=True, help="Scopes to ask for.")
def login(issuer: str, client_id: str, scope: str) -> None:
    """An operator's or approver's sign-in (OAuth device code, RFC 8628); the token is kept for later commands."""
    from ..identity.rules import safe_url
    from ..operators.login import device_login

    if not safe_url(issuer):
        raise ConfigError(f"{issuer!r} is not an https:// URL", "--issuer takes the `iss` of your tokens")

    found = device_login(issuer, client_id, scope.split(), tell=click.echo)
    LOGIN_FILE.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    LOGIN_FILE.touch(mode=0o600, exist_ok=True)
    LOGIN_FILE.write_text(found, encoding="utf-8")
    click.echo(f"signed in; the token is in {LOGIN_FILE}")


COMMANDS = (approvals, login)
