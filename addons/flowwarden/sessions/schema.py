"""The tables of sessions in state.db, as an ordered list of migrations."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("sessions")


@migrations()
def m001_sessions(db: Database) -> None:
    db.table("sessions").create(
        {
            "id": str,
            "principal": str,  # JSON
            "start": float,
            "expires": float,
            "max_expires": float,
            "handle_hash": str,
            "token_id": str,
            "token_hash": str,  # of the token that is its own handle, else empty
            "phantom": bytes,  # sealed
            "ended": float,
            "reason": str,
        },
        pk="id",
        not_null={"principal", "start", "expires", "max_expires", "handle_hash", "phantom"},
    )
    db.table("sessions").create_index(["ended"])


@migrations()
def m002_revocations(db: Database) -> None:
    """`token_id` names one token; empty, it is every token of the subject issued up to `since`."""
    db.table("revocations").create(
        {"issuer": str, "subject": str, "token_id": str, "since": float, "reason": str},
        pk=("issuer", "subject", "token_id"),
    )


@migrations()
def m003_tokens_used(db: Database) -> None:
    """Every token that started or renewed a session, so that ending the session revokes them all."""
    db.table("session_tokens").create({"session": str, "token_id": str, "expires": float}, pk=("session", "token_id"))
