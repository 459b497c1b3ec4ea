"""Grants: what people approved, used once or for a time, whoever asks how often at the same moment."""

from __future__ import annotations

from collections.abc import Sequence

from ..types import Approval
from . import records
from .book import Book


class Grants(Book):
    """The part of the book that lets calls pass."""

    def consume(self, key: str, flow: str = "") -> bool:
        """Uses a grant for one request, by id or digest: true for one caller only, ever (one compare-and-swap).

        `flow` is the call that is let through; `settle` is due when it has ended.
        """
        now = self._clock()
        with self._db.write():
            spent = self._db.rows(
                "UPDATE approvals SET state='spent', flow=?, settled=(?=''), revision=revision+1 WHERE id=(SELECT id FROM approvals WHERE"
                " (id=? OR digest=?) AND state='approved' AND topic LIKE 'request:%' AND until>? ORDER BY asked LIMIT 1)"
                " AND state='approved' RETURNING id",
                (flow, flow, key, key, now),
            )
        if spent:
            self._changed("used", self.get(spent[0]["id"]), flow=flow)
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
        flow: str = "",
    ) -> Approval | None:
        """The standing grant (scope operation or session) that covers a call, noted as used; None if there is none.

        `rules` are those that ask for a human now: a grant given under other rules, or other wording, covers nothing.
        A session grant covers whatever its rules name.
        """
        now = self._clock() if now is None else now
        topics = [records.operation_topic(operation, resources, region, account, rules, rules_digest) or "-"]
        topics.append(records.rules_topic(rules, rules_digest) if rules else "-")
        rows = self._db.rows(
            "SELECT * FROM approvals WHERE session=? AND topic IN (?, ?) AND state='approved' AND until>? LIMIT 1",
            (session, *topics, now),
        )
        if not rows:
            return None
        approval = self._approval(rows[0])
        self._tell("used", approval, None, digest=digest, flow=flow)
        return approval

    def settle(self, approval_id: str) -> None:
        """The call that used the grant has ended, and its outcome is recorded."""
        with self._db.write():
            self._db.rows("UPDATE approvals SET settled=1 WHERE id=?", (approval_id,))

    def recover(self) -> tuple[Approval, ...]:
        """After a crash: tells of the grants that were used by calls of which the end is not known. They stay spent."""
        rows = self._db.rows("SELECT * FROM approvals WHERE settled=0")
        found = tuple(self._approval(row) for row in rows)
        for row, approval in zip(rows, found, strict=True):
            why = "OUTCOME_UNKNOWN: the gateway stopped after the grant was used and before the call had ended"
            self._tell("unknown", approval, None, reason=why, flow=row["flow"])
            self.settle(approval.id)
        return found

    def allow_on_timeout(self, approval_id: str, flow: str = "") -> bool:
        """Lets one request pass that nobody answered, if its rule says `on_timeout: allow`. True for one caller."""
        if self.get(approval_id).terms.on_timeout != "allow":
            return False
        reason = "nobody answered in time; the rule lets it pass"
        return self._move(approval_id, ("open",), "spent", reason, "allowed", flow=flow)
