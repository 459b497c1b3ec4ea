"""Tokens and principals that are no longer good, whatever their tokens say."""

from __future__ import annotations

from sqlite_utils import Database

from .state import StateDB


class Revocations:
    """Read from state.db once, then kept in memory beside it."""

    def __init__(self, db: StateDB) -> None:
        self._known: dict[tuple[str, str, str], tuple[float, str]] = {
            (row["issuer"], row["subject"], row["token_id"]): (row["since"], row["reason"] or "")
            for row in db.rows("SELECT * FROM revocations")
        }

    def add(self, db: Database, what: tuple[str, str, str], since: float, reason: str) -> None:
        """Within a transaction of `db`. `what` is issuer, subject, token id; no id: every token issued up to `since`."""
        self._known[what] = (since, reason)
        issuer, subject, token_id = what
        db.table("revocations").upsert(
            {"issuer": issuer, "subject": subject, "token_id": token_id, "since": since, "reason": reason},
            pk=("issuer", "subject", "token_id"),
        )

    def find(self, issuer: str, subject: str, token_id: str, issued: float) -> str | None:
        """Why a token is revoked; None if it is not."""
        alone = self._known.get((issuer, subject, token_id))
        if alone is not None:
            return alone[1]
        everything = self._known.get((issuer, subject, ""))
        return everything[1] if everything is not None and issued <= everything[0] else None
