"""The tables of questions, answers and grants in state.db, as an ordered list of migrations."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("approvals")


@migrations()
def m001_approvals(db: Database) -> None:
    """`topic` is what a second request joins by; `until` when the grant ends; `revision` counts changes."""
    db.table("approvals").create(
        {
            "id": str,
            "state": str,
            "digest": str,
            "topic": str,
            "session": str,
            "principal": str,  # JSON, as are the next two
            "summary": str,
            "terms": str,
            "asked": float,
            "expires": float,
            "until": float,
            "reason": str,
            "revision": int,
        },
        pk="id",
        not_null={"state", "digest", "topic", "session", "principal", "summary", "terms", "asked", "expires"},
        defaults={"revision": 0},
    )
    db.table("approvals").create_index(["session", "topic", "state"])
    db.table("approvals").create_index(["digest", "state"])
    db.table("approvals").create_index(["state", "expires"])


@migrations()
def m002_answers(db: Database) -> None:
    db.table("approval_answers").create(
        {
            "approval": str,
            "issuer": str,
            "subject": str,
            "name": str,
            "aliases": str,  # JSON
            "approve": int,
            "reason": str,
            "at": float,
        },
        pk=("approval", "issuer", "subject"),
        foreign_keys=[("approval", "approvals", "id")],
    )


@migrations()
def m003_purpose(db: Database) -> None:
    """Why the requester makes the call, in its own words (masked); which flow used the grant, and whether its end is known."""
    db.table("approvals").add_column("purpose", str, not_null_default="")
    db.table("approvals").add_column("flow", str, not_null_default="")
    db.table("approvals").add_column("settled", int, not_null_default=1)
