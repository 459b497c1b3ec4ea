"""Approvals: asked once, answered by people, granted, ended; whatever happens in between."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import Refusal
from ..sessions.ids import short_id
from ..sessions.store import principal_from, principal_json
from ..types import Approval, ApprovalTerms, Principal
from . import records
from .book import Listener, refusal
from .grants import Grants
from .who import refuse_approver, same_person

__all__ = ["Approvals", "Listener"]

MAX_OPEN = 1000  # open questions of one session
MAX_REASON = 2000  # characters
LEFT = "the client left"
KEEP = 30 * 24 * 3600.0  # seconds that a closed question stays here; the evidence log has it for good


class Approvals(Grants):
    """All questions and grants, in state.db.

    `tokens_of` gives the ids of the tokens that belong to a session, `default_groups` may be set to the groups that
    answer where a rule names none. Times are POSIX seconds of `clock`.
    """

    def __init__(self, state: Path, clock: Callable[[], float]) -> None:
        super().__init__(state, clock)
        self._pruned = 0.0
        self.tokens_of: Callable[[str], Collection[str]] = lambda _session: ()
        self.default_groups: Collection[str] = ()

    @classmethod
    def open(cls, state: Path, clock: Callable[[], float] = time.time) -> Approvals:
        """Opens (or makes) state/state.db; StoreError. Open questions stay open, and nothing is granted by it."""
        return cls(state, clock)

    def ask(
        self,
        digest: str,
        session: str,
        principal: Principal,
        summary: Mapping[str, Any],
        terms: ApprovalTerms,
        *,
        flow: str = "",
        resources: Sequence[str | None] | None = None,
    ) -> Approval:
        """The open question of this session on this matter, or an unused grant for it, or a new question.

        A question that was withdrawn because its client left is opened again, under its id and until its old time: an
        SDK that gave up on one attempt comes back with the next.

        It is joined only under the same terms: what one person could answer is not joined by what now needs two.
        `summary` is what approvers see (already masked); its operation, resources, region, account, rules and
        rules_digest say what a grant of scope `operation` or `session` covers; `resources` those, where a mask hides some of
        them from people. Refusal (429) at MAX_OPEN.
        """
        covered = summary if resources is None else {**summary, "resources": resources}
        topic, now = records.topic(digest, terms, covered), self._clock()
        if topic.startswith("request:"):  # also where an operation's resources are not known: that request, once
            terms = replace(terms, scope="request")
        wanted = json.dumps(records.terms_json(terms))
        with self._db.write() as db:
            found = self._db.rows(
                "SELECT id, state FROM approvals WHERE session=? AND topic=? AND terms=? AND ((state='open' AND expires>?)"
                " OR (state='approved' AND until>?) OR (state='withdrawn' AND reason=? AND expires>?))"
                " ORDER BY state='withdrawn', state, asked LIMIT 1",
                (session, topic, wanted, now, now, LEFT, now),
            )
            if not found or found[0]["state"] == "withdrawn":
                self._refuse_flood(session)
            if found and found[0]["state"] == "withdrawn":
                again = "UPDATE approvals SET state='open', reason='', revision=revision+1 WHERE id=?"
                self._db.rows(again, (found[0]["id"],))
            if not found:
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
                        "terms": wanted,
                        "asked": now,
                        "expires": now + terms.expires,
                        "reason": "",
                        "purpose": "",
                        "revision": 0,
                    }
                )
        approval = self.get(found[0]["id"] if found else approval_id)
        event = "asked" if not found else "reopened" if found[0]["state"] == "withdrawn" else "joined"
        self._tell(event, approval, principal, flow=flow)
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
            if approve and terms.purpose_required and not row["purpose"]:
                raise refusal(
                    "this question waits for its reason: the agent has not said yet why", 409, "ConflictException"
                )
            if terms.reason_required and not reason:
                raise refusal("this answer needs a reason (on the command line: --reason)", 400, "ValidationException")
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

    def give_reason(self, approval_id: str, session: str, purpose: str) -> Approval:
        """The requester says why, once: what an approver has read is not changed under its eyes.

        `purpose` is masked already. Refusal: 404 unless the question is this session's, 409 if it is over or has its reason, 400.
        """
        purpose, now = _plain(purpose), self._clock()
        if not purpose:
            raise refusal("the reason has to be a text", 400, "ValidationException")
        with self._db.write():
            row = self._row(approval_id)
            if row["session"] != session:
                raise refusal("there is no such approval", 404, "ResourceNotFoundException")
            if row["state"] != "withdrawn" or row["reason"] != LEFT:  # an SDK's next attempt opens that again
                self._refuse_closed(row, now)
            if row["purpose"]:
                raise refusal("this question has its reason already", 409, "ConflictException")
            self._db.rows("UPDATE approvals SET purpose=?, revision=revision+1 WHERE id=?", (purpose, approval_id))
            principal = principal_from(json.loads(row["principal"]))
        approval = self.get(approval_id)
        self._tell("stated", approval, principal, reason=purpose)
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
            raise refusal(f"this question is {row['state']} already", 409, "ConflictException")
        if now >= row["expires"]:
            raise refusal("this question has expired: the agent has to ask again", 409, "ConflictException")

    # ── endings ──

    def withdraw(self, approval_id: str, reason: str = LEFT) -> bool:
        """Takes a question back, unless another held call still waits for its answer. A retry opens it again."""
        return not self._waiters.count(approval_id) and self._move(approval_id, ("open",), "withdrawn", reason)

    def revoke(self, approval_id: str, by: Principal | None = None, reason: str = "") -> Approval:
        """Takes an open question or an unused grant back; Refusal (404, 409)."""
        if not self._move(approval_id, ("open", "approved"), "revoked", _plain(reason), by=by):
            raise refusal(f"this question is {self.get(approval_id).state} already", 409, "ConflictException")
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

    def _prune(self, now: float) -> None:
        self._pruned = now
        old = "SELECT id FROM approvals WHERE state NOT IN ('open', 'approved') AND asked<?"
        with self._db.write():
            self._db.rows(f"DELETE FROM approval_answers WHERE approval IN ({old})", (now - KEEP,))  # noqa: S608 own text
            self._db.rows(f"DELETE FROM approvals WHERE id IN ({old})", (now - KEEP,))  # noqa: S608 own text


def _until(terms: ApprovalTerms, now: float, expires: float) -> float:
    """When a grant ends: one for a request with its question, a standing one after `for`."""
    return expires if terms.scope == "request" else now + (terms.lasts or terms.expires)


def _plain(reason: str) -> str:
    """A reason as one line without control characters: it goes into headers, logs and terminals."""
    return " ".join("".join(c if c.isprintable() else " " for c in reason).split())[:MAX_REASON]
