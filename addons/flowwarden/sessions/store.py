"""Sessions: started, looked up on every request, renewed, ended. In memory for speed, in state.db for good."""

from __future__ import annotations

import dataclasses
import json
import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StoreError, TokenError
from ..identity.rules import SessionRules
from ..types import Phantom, Principal, Session
from . import ids
from .revocations import Revocations
from .schema import migrations
from .state import StateDB
from .vault import PhantomVault

if TYPE_CHECKING:
    from ..identity.tokens import VerifiedToken

MAX_SESSIONS = 1000  # live ones of one principal
KEEP_ENDED = 24 * 3600.0  # seconds that an ended session can still be named in an error
_log = logging.getLogger(__name__)

Listener = Callable[[Session, str], None]
Listeners = list[Listener]
Mint = Callable[[], Phantom]


class SessionStore:
    """All sessions. Look-ups are dictionary reads; changes are on disk before they return (StoreError if not).

    `rules` may be replaced while running: it counts for sessions started or renewed from then on.
    """

    def __init__(self, state: Path, rules: SessionRules, mint: Mint | None, clock: Callable[[], float]) -> None:
        self.rules = rules
        self._mint = mint
        self._clock = clock
        self._vault = PhantomVault(state)
        self._db = StateDB(state, migrations)
        self._revocations = Revocations(self._db)
        self._by_id: dict[str, Session] = {}
        self._by_handle: dict[str, str] = {}
        self._by_key: dict[str, str] = {}
        self._by_token: dict[str, str] = {}
        self._token_of: dict[str, str] = {}  # session id → hash of the token that is its handle
        self._reasons: dict[str, str] = {}
        self._used: dict[str, float] = {}
        self._on_started: Listeners = []
        self._on_ended: Listeners = []
        self._load()

    @classmethod
    def open(
        cls,
        state: Path,
        *,
        rules: SessionRules | None = None,
        mint: Mint | None = None,
        clock: Callable[[], float] = time.time,
    ) -> SessionStore:
        """Opens (or makes) state/state.db. `mint` makes phantom keys; `clock` gives POSIX seconds. StoreError."""
        return cls(state, rules or SessionRules(), mint, clock)

    # ── look-ups, on the path of every request ──

    def by_handle(self, handle: str) -> Session | None:
        """The session that a handle names, ended ones included: `check` says what is wrong with them."""
        return self._named(self._by_handle.get(ids.sha256(handle)))

    def by_key(self, access_key_id: str) -> Session | None:
        """The session that a phantom access key id belongs to."""
        return self._named(self._by_key.get(access_key_id))

    def by_token(self, token_hash: str) -> Session | None:
        """The session that an OIDC token started by being used as the proxy password."""
        return self._named(self._by_token.get(token_hash))

    def get(self, session_id: str) -> Session | None:
        return self._by_id.get(session_id)

    def is_live(self, session_id: str) -> bool:
        """Whether the session is known and nobody has heard of its end yet: what is kept for it will be cleared."""
        found = self._by_id.get(session_id)
        return found is not None and found.ended is None

    def list(self, *, all: bool = False) -> tuple[Session, ...]:
        """Live sessions, newest first; with `all` those that ended within a day too."""
        now = self._clock()
        found = [s for s in self._by_id.values() if all or (s.ended is None and now < s.expires)]
        return tuple(sorted(found, key=lambda s: s.start, reverse=True))

    def check(self, session: Session, now: float | None = None) -> Session:
        """The session as it is now; TokenError(ExpiredToken) if it expired, was ended, idled out or is unknown."""
        now = self._clock() if now is None else now
        current = self._by_id.get(session.id)
        if current is None:
            raise TokenError("the session is not known here", "ExpiredToken", "Start a new session.")
        if current.ended is not None:
            why = self._reasons.get(current.id) or "it was ended"
            raise TokenError(f"the session has ended: {why}", "ExpiredToken", "Start a new session.")
        if now >= current.expires:
            raise TokenError("the session has expired", "ExpiredToken", "Start a new session, and renew it in time.")
        idle = self.rules.idle
        if idle and now - self._used.get(current.id, current.start) >= idle:
            raise TokenError(f"the session was idle for {idle:.0f} s", "ExpiredToken", "Start a new session.")
        self._used[current.id] = now
        return current

    # ── changes ──

    def start(
        self, verified: VerifiedToken, rules: SessionRules | None = None, mint: Mint | None = None
    ) -> tuple[Session, str]:
        """A new session and its handle, which is told once and never stored. TokenError if the token is revoked."""
        handle = ids.handle()
        return self._start(verified, rules, mint, ids.sha256(handle)), handle

    def for_token(
        self, verified: VerifiedToken, token_hash: str, rules: SessionRules | None = None, mint: Mint | None = None
    ) -> Session:
        """The session of a token that is its own handle: started at its first use, ending with the token."""
        found = self.by_token(token_hash)
        if found is not None:
            return found
        return self._start(verified, rules, mint, ids.sha256(ids.handle()), token_hash)

    def _start(
        self, verified: VerifiedToken, rules: SessionRules | None, mint: Mint | None, handle_hash: str, token: str = ""
    ) -> Session:
        rules, mint, now = rules or self.rules, mint or self._mint, self._clock()
        if mint is None:
            raise StoreError("there is nothing here that makes phantom keys")
        self.refuse_revoked(verified)
        self._refuse_flood(verified)
        longest = min(now + rules.max, verified.expires) if token else now + rules.max
        expires = longest if token else min(now + rules.ttl, longest)
        session = Session(
            id=ids.uuid7(now),
            principal=verified.principal,
            start=now,
            expires=expires,
            max_expires=longest,
            handle_hash=handle_hash,
            phantom=mint(),
            token_id=verified.token_id,
        )
        with self._db.write() as db:
            db.table("sessions").insert(self._row(session, token))
            self._note_token(session, verified)
        self._keep(session, token)
        self._tell(self._on_started, session, "started")
        return session

    def _refuse_flood(self, verified: VerifiedToken) -> None:
        who = (verified.issuer, verified.subject)
        live = sum((s.principal.issuer, s.principal.subject) == who and s.ended is None for s in self._by_id.values())
        if live >= MAX_SESSIONS:
            raise TokenError(f"this principal has {live} sessions already", hint="End some of them.")

    def renew(self, session: Session, verified: VerifiedToken) -> Session:
        """The same handle and keys for longer, with the groups of a fresh token of the same principal. TokenError."""
        current = self.check(session)
        self.refuse_revoked(verified)
        old, new = current.principal, verified.principal
        if (old.issuer, old.subject, old.agent, old.owner) != (new.issuer, new.subject, new.agent, new.owner):
            raise TokenError("the token is another principal's: a session is renewed by its own principal only")
        if current.id in self._token_of:
            raise TokenError("a session whose handle is the token itself ends with it", hint="Use the new token.")
        if self._db.rows(
            "SELECT 1 FROM session_tokens WHERE session=? AND token_id=?", (current.id, verified.token_id)
        ):
            raise TokenError("this token was used for the session before", hint="Renew with a fresh token.")
        expires = min(self._clock() + self.rules.ttl, current.max_expires)
        renewed = dataclasses.replace(
            current, principal=new, expires=max(expires, current.expires), token_id=verified.token_id
        )
        with self._db.write() as db:
            db.table("sessions").update(renewed.id, self._row(renewed))
            self._note_token(renewed, verified)
        self._by_id[renewed.id] = renewed
        return renewed

    def end(self, session_id: str, reason: str = "ended by its owner") -> Session | None:
        """Ends a session at once and revokes every token that started or renewed it; None if there is none."""
        current = self._by_id.get(session_id)
        if current is None or current.ended is not None:
            return current
        now = self._clock()
        ended = dataclasses.replace(current, ended=now)
        self._by_id[session_id] = ended  # first in memory: whatever the disk says, the next call is refused
        self._reasons[session_id] = reason
        try:
            with self._db.write() as db:
                db.table("sessions").update(session_id, {"ended": now, "reason": reason})
                who = ended.principal
                for row in self._db.rows("SELECT token_id FROM session_tokens WHERE session=?", (session_id,)):
                    self._revocations.add(db, (who.issuer, who.subject, row["token_id"]), now, reason)
        finally:
            self._tell(self._on_ended, ended, reason)
        return ended

    def revoke_principal(self, issuer: str, subject: str, reason: str) -> tuple[Session, ...]:
        """Ends all of a principal's sessions and refuses every token issued to it up to now."""
        with self._db.write() as db:
            self._revocations.add(db, (issuer, subject, ""), self._clock(), reason)
        theirs = [s for s in self.list() if (s.principal.issuer, s.principal.subject) == (issuer, subject)]
        return tuple(ended for s in theirs if (ended := self.end(s.id, reason)) is not None)

    def refuse_revoked(self, verified: VerifiedToken) -> None:
        """TokenError if this token, or its principal after it was issued, has been revoked."""
        reason = self._revocations.find(verified.issuer, verified.subject, verified.token_id, verified.issued)
        if reason is not None:
            raise TokenError(f"the token has been revoked: {reason}", "ExpiredToken", "Get a new one from the issuer.")

    def expire(self, now: float | None = None) -> tuple[Session, ...]:
        """Ends what has expired or idled out, and forgets what ended a day ago. To be called every few seconds."""
        now = self._clock() if now is None else now
        ended = []
        for session in [*self._by_id.values()]:
            if session.ended is not None:
                if now - session.ended > KEEP_ENDED:
                    self._forget(session)
                continue
            idle = self.rules.idle and now - self._used.get(session.id, session.start) >= self.rules.idle
            if (now >= session.expires or idle) and (
                gone := self.end(session.id, "it expired" if now >= session.expires else "it was idle for too long")
            ):
                ended.append(gone)
        return tuple(ended)

    # ── listeners ──

    def on_started(self, listener: Listener) -> None:
        self._on_started.append(listener)

    def on_ended(self, listener: Listener) -> None:
        """Calls `listener(session, reason)` once for every session that ends; grants and leases end with it."""
        self._on_ended.append(listener)

    def token_ids(self, session_id: str) -> frozenset[str]:
        """The ids of every token that started or renewed the session."""
        rows = self._db.rows("SELECT token_id FROM session_tokens WHERE session=?", (session_id,))
        return frozenset(row["token_id"] for row in rows)

    def close(self) -> None:
        self._db.close()

    # ── inside ──

    def _named(self, session_id: str | None) -> Session | None:
        return None if session_id is None else self._by_id.get(session_id)

    def _tell(self, listeners: Listeners, session: Session, reason: str) -> None:
        for listener in listeners:
            try:
                listener(session, reason)
            except Exception:  # one listener's fault must not keep the others from hearing that a session ended
                _log.exception("a listener failed on session %s", session.id)

    def _note_token(self, session: Session, verified: VerifiedToken) -> None:
        self._db.rows(
            "INSERT OR IGNORE INTO session_tokens (session, token_id, expires) VALUES (?, ?, ?)",
            (session.id, verified.token_id, verified.expires),
        )

    def _row(self, session: Session, token_hash: str | None = None) -> dict[str, object]:
        row: dict[str, object] = {
            "id": session.id,
            "principal": json.dumps(principal_json(session.principal)),
            "start": session.start,
            "expires": session.expires,
            "max_expires": session.max_expires,
            "handle_hash": session.handle_hash,
            "token_id": session.token_id,
            "phantom": self._vault.seal(session.id, session.phantom),
            "ended": session.ended,
        }
        return row if token_hash is None else {**row, "token_hash": token_hash}

    def _keep(self, session: Session, token_hash: str) -> None:
        self._by_id[session.id] = session
        self._by_handle[session.handle_hash] = session.id
        self._by_key[session.phantom.access_key_id] = session.id
        self._used[session.id] = max(session.start, self._clock())
        if token_hash:
            self._by_token[token_hash] = session.id
            self._token_of[session.id] = token_hash

    def _forget(self, session: Session) -> None:
        with self._db.write():
            self._db.rows("DELETE FROM session_tokens WHERE session=?", (session.id,))
            self._db.rows("DELETE FROM sessions WHERE id=?", (session.id,))
        self._by_handle.pop(session.handle_hash, None)
        self._by_key.pop(session.phantom.access_key_id, None)
        self._by_token.pop(self._token_of.pop(session.id, ""), None)
        for kept in (self._by_id, self._used, self._reasons):
            kept.pop(session.id, None)

    def _load(self) -> None:
        for row in self._db.rows("SELECT * FROM sessions"):
            self._keep(self._session(row), row["token_hash"] or "")
            if row["reason"]:
                self._reasons[row["id"]] = row["reason"]

    def _session(self, row: sqlite3.Row) -> Session:
        return Session(
            id=row["id"],
            principal=principal_from(json.loads(row["principal"])),
            start=row["start"],
            expires=row["expires"],
            max_expires=row["max_expires"],
            handle_hash=row["handle_hash"],
            phantom=self._vault.open(row["id"], row["phantom"]),
            token_id=row["token_id"] or "",
            ended=row["ended"],
        )


def principal_json(principal: Principal) -> dict[str, object]:
    """All of a principal, for state.db."""
    return {**principal.as_json(), "aliases": sorted(principal.aliases)}


def principal_from(data: dict[str, Any]) -> Principal:
    """The principal that `principal_json` wrote."""
    sets = {name: frozenset(data.get(name, ())) for name in ("groups", "aliases")}
    return Principal(**{**data, **sets})
