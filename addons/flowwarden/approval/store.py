"""Questions and grants, in state.db: asked once, answered by people, used once, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import Refusal
from ..sessions.ids import short_id
from ..sessions.state import StateDB
from ..sessions.store import principal_from, principal_json
from ..types import Approval, ApprovalTerms, Principal
from . import records
from .schema import migrations
from .waiting import Waiters, first
from .who import refuse_approver, same_person

MAX_OPEN = 1000  # open questions of one session
MAX_REASON = 2000  # characters
KEEP = 30 * 24 * 3600.0  # seconds that a closed question stays here; the evidence log has it for good
_log = logging.getLogger(__name__)

Listener = Callable[[str, Approval, Mapping[str, Any]], None]
"""Called with what happened (asked, joined, viewed, answered, approved, denied, used, allowed, expired, withdrawn,
revoked), the approval after it, and details: `who` (a principal as JSON), `reason`."""


class Approvals:
    """All questions. Every change is one transaction that is on disk when it returns; calls may come from any thread.

    `tokens_of` gives the ids of the tokens that belong to a session, `default_groups` may be set to the groups that
    answer where a rule names none. Times are POSIX seconds of `clock`.
    """

    def __init__(self, state: Path, clock: Callable[[], float]) -> None:
        self._db = StateDB(state, migrations)
        self._clock = clock
        self._waiters = Waiters()
        self._listeners: list[Listener] = []
        self._thread = ThreadPoolExecutor(1, "approvals")
        self._pruned = 0.0
        self.tokens_of: Callable[[str], Collection[str]] = lambda _session: ()
        self.default_groups: Collection[str] = ()

    @classmethod
    def open(cls, state: Path, clock: Callable[[], float] = time.time) -> Approvals:
        """Opens (or makes) state/state.db; StoreError. Open questions stay open, and nothing is granted by it."""
        return cls(state, clock)

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def aside[**P, T](self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs one of the methods below in the store's own thread, in order: a commit takes milliseconds on the disk.

        Listeners then hear of it in that thread.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *args, **kwargs))

    # ── questions ──

    def ask(
        self, digest: str, session: str, principal: Principal, summary: Mapping[str, Any], terms: ApprovalTerms
    ) -> Approval:
        """The open question of this session on this matter, or an unused grant for it, or a new question.

        `summary` is what approvers see (already masked); its operation, resources, region, account, rules and
        rules_digest say what a grant of scope `operation` or `session` covers. Refusal (429) at MAX_OPEN.
        """
        topic, now = records.topic(digest, terms, summary), self._clock()
        if topic.startswith("request:"):  # also where an operation's resources are not known: that request, once
            terms = replace(terms, scope="request")
        with self._db.write() as db:
            found = self._db.rows(
                "SELECT id FROM approvals WHERE session=? AND topic=? AND ((state='open' AND expires>?)"
                " OR (state='approved' AND until>?)) ORDER BY state, asked LIMIT 1",
                (session, topic, now, now),
            )
            if not found:
                self._refuse_flood(session)
                approval_id = short_id("ap")
                db.table("approvals").insert(
                    {
                        "id": approval_id,
                        "state": "open",
                        "digest": digest,
                        "topic": topic,
                        "session": session,
                        "principal": json.dumps(principal_json(principal)),
                        "summary": json.dumps(records.plain(summary)),
                        "terms": json.dumps(records.terms_json(terms)),
                        "asked": now,
                        "expires": now + terms.expires,
                        "reason": "",
                        "revision": 0,
                    }
                )
        joined = bool(found)
        approval = self.get(found[0]["id"] if joined else approval_id)
        self._tell("joined" if joined else "asked", approval, principal)
        return approval

    def _refuse_flood(self, session: str) -> None:
        waiting = self._db.rows("SELECT count(*) FROM approvals WHERE session=? AND state='open'", (session,))[0][0]
        if waiting >= MAX_OPEN:
            raise Refusal(
                f"this session has {waiting} open questions: wait until some are answered",
                status=429,
                code="ThrottlingException",
                station="approve",
            )

    def get(self, approval_id: str) -> Approval:
        """Refusal (404) if there is none."""
        return self._approval(self._row(approval_id))

    def find(self, approval_id: str) -> Approval | None:
        try:
            return self.get(approval_id)
        except Refusal:
            return None

    def list(self, state: str | None = None, *, session: str = "", limit: int = 500) -> tuple[Approval, ...]:
        """The newest `limit` questions, newest first."""
        rows = self._db.rows(
            "SELECT * FROM approvals WHERE (?='' OR state=?) AND (?='' OR session=?) ORDER BY asked DESC, id LIMIT ?",
            (state or "", state or "", session, session, limit),
        )
        return tuple(self._approval(row) for row in rows)

    def requester(self, approval_id: str) -> Principal:
        return principal_from(json.loads(self._row(approval_id)["principal"]))

    def as_json(self, approval_id: str) -> dict[str, Any]:
        """All of a question, for those who may see it."""
        row = self._row(approval_id)
        requester = principal_from(json.loads(row["principal"]))
        return records.approval_json(self._approval(row), requester.as_json(), row["until"])

    def viewed(self, approval_id: str, viewer: Principal) -> None:
        """Notes that somebody looked at the whole question."""
        self._tell("viewed", self.get(approval_id), viewer)

    # ── answers ──

    def answer(
        self, approval_id: str, approver: Principal, approve: bool, reason: str = "", *, token_id: str = ""
    ) -> Approval:
        """One person's answer. A denial ends the question; `count` different people's approval grants it.

        Refusal: 403 if this person may not answer, 404, 409 if it is not open any more, 400 without a needed reason.
        """
        reason, now = _plain(reason), self._clock()
        with self._db.write() as db:
            row = self._row(approval_id)
            terms = records.terms_from(json.loads(row["terms"]))
            refuse_approver(
                principal_from(json.loads(row["principal"])),
                approver,
                terms,
                token_id=token_id,
                session_tokens=self.tokens_of(row["session"]),
                default_groups=self.default_groups,
            )
            self._refuse_closed(row, now)
            if terms.reason_required and not reason:
                raise _refusal("this answer needs a reason", 400, "ValidationException")
            if not approve or not self._answered_before(approval_id, approver):
                db.table("approval_answers").upsert(
                    {
                        "approval": approval_id,
                        "issuer": approver.issuer,
                        "subject": approver.subject,
                        "name": approver.name,
                        "aliases": json.dumps(sorted(approver.aliases)),
                        "approve": int(approve),
                        "reason": reason,
                        "at": now,
                    },
                    pk=("approval", "issuer", "subject"),
                )
            state = self._tally(approval_id, terms, approve)
            until = _until(terms, now, row["expires"]) if state == "approved" else None
            self._db.rows(
                "UPDATE approvals SET state=?, until=?, reason=?, revision=revision+1 WHERE id=? AND state='open'",
                (state, until, reason, approval_id),
            )
        approval = self.get(approval_id)
        self._tell("answered", approval, approver, approve=approve, reason=reason)
        if state != "open":
            self._changed(state, approval, approver, reason)
        return approval

    def _answered_before(self, approval_id: str, approver: Principal) -> bool:
        """One person counts once, in however many groups, and under however many names that can be told apart."""
        return any(same_person(approver, earlier) for earlier in self._approvers(approval_id))

    def _approvers(self, approval_id: str) -> Sequence[Principal]:
        rows = self._db.rows("SELECT * FROM approval_answers WHERE approval=? AND approve=1", (approval_id,))
        return [Principal(r["issuer"], r["subject"], aliases=frozenset(json.loads(r["aliases"]))) for r in rows]

    def _tally(self, approval_id: str, terms: ApprovalTerms, approve: bool) -> str:
        if not approve:
            return "denied"
        return "approved" if len(self._approvers(approval_id)) >= max(1, terms.count) else "open"

    def _refuse_closed(self, row: sqlite3.Row, now: float) -> None:
        if row["state"] != "open":
            raise _refusal(f"this question is {row['state']} already", 409, "ConflictException")
        if now >= row["expires"]:
            raise _refusal("this question has expired: the agent has to ask again", 409, "ConflictException")

    # ── grants ──

    def consume(self, key: str) -> bool:
        """Uses a grant for one request, by id or digest: true for one caller only, ever (one compare-and-swap)."""
        now = self._clock()
        with self._db.write():
            spent = self._db.rows(
                "UPDATE approvals SET state='spent', revision=revision+1 WHERE id=(SELECT id FROM approvals WHERE"
                " (id=? OR digest=?) AND state='approved' AND topic LIKE 'request:%' AND until>? ORDER BY asked LIMIT 1)"
                " AND state='approved' RETURNING id",
                (key, key, now),
            )
        if spent:
            self._changed("used", self.get(spent[0]["id"]))
        return bool(spent)

    def granted(
        self,
        session: str,
        digest: str,
        operation: str,
        resources: Sequence[str | None],
        now: float | None = None,
        *,
        region: str = "",
        account: str = "",
        rules: Sequence[str] = (),
        rules_digest: str = "",
    ) -> Approval | None:
        """The standing grant (scope operation or session) that covers a call, noted as used; None if there is none.

        `rules` are those that ask for a human now: a session grant covers what the rules it was given under name.
        """
        now = self._clock() if now is None else now
        topics = [records.operation_topic(operation, resources, region, account) or "-"]
        topics.append(records.rules_topic(rules, rules_digest) if rules else "-")
        rows = self._db.rows(
            "SELECT * FROM approvals WHERE session=? AND topic IN (?, ?) AND state='approved' AND until>? LIMIT 1",
            (session, *topics, now),
        )
        if not rows:
            return None
        approval = self._approval(rows[0])
        self._tell("used", approval, None, digest=digest)
        return approval

    def allow_on_timeout(self, approval_id: str) -> bool:
        """Lets one request pass that nobody answered, if its rule says `on_timeout: allow`. True for one caller."""
        if self.get(approval_id).terms.on_timeout != "allow":
            return False
        return self._move(approval_id, ("open",), "spent", "nobody answered in time; the rule lets it pass", "allowed")

    # ── endings ──

    def withdraw(self, approval_id: str, reason: str = "the client left") -> bool:
        """Takes a question back, unless another held call still waits for its answer."""
        return not self._waiters.count(approval_id) and self._move(approval_id, ("open",), "withdrawn", reason)

    def revoke(self, approval_id: str, by: Principal | None = None, reason: str = "") -> Approval:
        """Takes an open question or an unused grant back; Refusal (404, 409)."""
        if not self._move(approval_id, ("open", "approved"), "revoked", _plain(reason), by=by):
            raise _refusal(f"this question is {self.get(approval_id).state} already", 409, "ConflictException")
        return self.get(approval_id)

    def end_session(self, session: str, reason: str = "the session ended") -> None:
        """A session's questions and grants end with it."""
        self._close("state=CASE state WHEN 'open' THEN 'withdrawn' ELSE 'revoked' END", "session=?", (session,), reason)

    def expire(self, now: float | None = None) -> tuple[Approval, ...]:
        """Closes what has run out. To be called every second or so; grants end at their time whether it is or not."""
        now = self._clock() if now is None else now
        if now - self._pruned > 3600:
            self._prune(now)
        over = "((state='open' AND expires<=?) OR (state='approved' AND until<=?))"
        if not self._db.rows(f"SELECT 1 FROM approvals WHERE {over} LIMIT 1", (now, now)):  # noqa: S608 own text
            return ()
        return self._close("state='expired'", over, (now, now), "its time ran out")

    def _close(self, change: str, which: str, arguments: tuple[object, ...], reason: str) -> tuple[Approval, ...]:
        """Closes what is open or granted, in one transaction."""
        with self._db.write():
            closed = self._db.rows(
                f"UPDATE approvals SET {change}, reason=?, revision=revision+1"  # noqa: S608 own text
                f" WHERE state IN ('open', 'approved') AND {which} RETURNING id",
                (reason, *arguments),
            )
        found = tuple(self.get(row["id"]) for row in closed)
        for approval in found:
            self._changed(approval.state, approval, None, reason)
        return found

    def _prune(self, now: float) -> None:
        self._pruned = now
        old = "SELECT id FROM approvals WHERE state NOT IN ('open', 'approved') AND asked<?"
        with self._db.write():
            self._db.rows(f"DELETE FROM approval_answers WHERE approval IN ({old})", (now - KEEP,))  # noqa: S608 own text
            self._db.rows(f"DELETE FROM approvals WHERE id IN ({old})", (now - KEEP,))  # noqa: S608 own text

    def _move(
        self,
        approval_id: str,
        old: tuple[str, ...],
        new: str,
        reason: str,
        event: str = "",
        *,
        by: Principal | None = None,
    ) -> bool:
        """One compare-and-swap of the state."""
        with self._db.write():
            moved = self._db.rows(
                "UPDATE approvals SET state=?, reason=?, revision=revision+1"
                " WHERE id=? AND state IN (SELECT value FROM json_each(?)) RETURNING id",
                (new, reason, approval_id, json.dumps(old)),
            )
        if moved:
            self._changed(event or new, self.get(approval_id), by, reason)
        return bool(moved)

    # ── waiting ──

    async def wait(self, approval_id: str, timeout: float, gone: asyncio.Event | None = None) -> Approval:  # noqa: ASYNC109
        """The question as soon as it is not open any more, else as it is after `timeout` seconds or when `gone` is set.

        Returns at once on an answer, from whichever thread it came.
        """
        future = self._waiters.join(approval_id)
        try:
            approval = self.get(approval_id)
            if approval.state != "open" or (gone is not None and gone.is_set()):
                return approval
            await first(future, min(timeout, approval.expires - self._clock()), gone)
        finally:
            self._waiters.leave(approval_id, future)
        return self.get(approval_id)

    def close(self) -> None:
        self._thread.shutdown()
        self._db.close()

    # ── inside ──

    def _row(self, approval_id: str) -> sqlite3.Row:
        rows = self._db.rows("SELECT * FROM approvals WHERE id=?", (approval_id,))
        if not rows:
            raise _refusal("there is no such approval", 404, "ResourceNotFoundException")
        return rows[0]

    def _approval(self, row: sqlite3.Row) -> Approval:
        answers = self._db.rows("SELECT * FROM approval_answers WHERE approval=? ORDER BY at", (row["id"],))
        return records.approval_from(row, answers)

    def _changed(self, event: str, approval: Approval, who: Principal | None = None, reason: str = "") -> None:
        self._waiters.wake(approval.id)
        self._tell(event, approval, who, reason=reason)

    def _tell(self, event: str, approval: Approval, who: Principal | None, **details: Any) -> None:
        facts = {**details, "who": None if who is None else who.as_json()}
        for listener in self._listeners:
            try:
                listener(event, approval, facts)
            except Exception:  # a notification that fails must neither block nor grant
                _log.exception("a listener failed on approval %s", approval.id)


def _until(terms: ApprovalTerms, now: float, expires: float) -> float:
    """When a grant ends: one for a request with its question, a standing one after `for`."""
    return expires if terms.scope == "request" else now + (terms.lasts or terms.expires)


def _plain(reason: str) -> str:
    """A reason as one line without control characters: it goes into headers, logs and terminals."""
    return " ".join("".join(c if c.isprintable() else " " for c in reason).split())[:MAX_REASON]


def _refusal(message: str, status: int, code: str) -> Refusal:
    return Refusal(message, status=status, code=code, station="approve")
