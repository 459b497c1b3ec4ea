"""The book of questions in state.db: reading it, hearing of changes, waiting for them, and changing a state."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import Refusal
from ..sessions.state import StateDB
from ..sessions.store import principal_from
from ..types import Approval, Principal
from . import records
from .schema import migrations
from .waiting import Waiters, first

_log = logging.getLogger(__name__)

Listener = Callable[[str, Approval, Mapping[str, Any]], None]
"""Called with what happened (asked, joined, reopened, stated, viewed, answered, approved, denied, used, allowed, expired, withdrawn,
revoked, unknown), the approval after it, and details: `who` (a principal as JSON), `reason`."""


class Book:
    """What questions there are. Every change is one transaction that is on disk when it returns; any thread may call."""

    def __init__(self, state: Path, clock: Callable[[], float]) -> None:
        self._db = StateDB(state, migrations)
        self._clock = clock
        self._waiters = Waiters()
        self._listeners: list[Listener] = []
        self._thread = ThreadPoolExecutor(1, "approvals")

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def aside[**P, T](self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs one of the methods here in the store's own thread, in order: a commit takes milliseconds on the disk.

        Listeners then hear of it in that thread.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *args, **kwargs))

    def later(self, function: Callable[[str], None], approval_id: str) -> None:
        """Like `aside`, without waiting."""
        self._thread.submit(function, approval_id)

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

    # ── for those who change it ──

    def _row(self, approval_id: str) -> sqlite3.Row:
        rows = self._db.rows("SELECT * FROM approvals WHERE id=?", (approval_id,))
        if not rows:
            raise refusal("there is no such approval", 404, "ResourceNotFoundException")
        return rows[0]

    def _approval(self, row: sqlite3.Row) -> Approval:
        answers: list[sqlite3.Row] = []
        if row["revision"]:  # nothing has happened to it otherwise
            answers = self._db.rows("SELECT * FROM approval_answers WHERE approval=? ORDER BY at", (row["id"],))
        return records.approval_from(row, answers)

    def _changed(
        self, event: str, approval: Approval, who: Principal | None = None, reason: str = "", flow: str = ""
    ) -> None:
        self._waiters.wake(approval.id)
        self._tell(event, approval, who, reason=reason, flow=flow)

    def _tell(self, event: str, approval: Approval, who: Principal | None, **details: Any) -> None:
        facts = {**details, "who": None if who is None else who.as_json()}
        for listener in self._listeners:
            try:
                listener(event, approval, facts)
            except Exception:  # a notification that fails must neither block nor grant
                _log.exception("a listener failed on approval %s", approval.id)

    def _move(
        self,
        approval_id: str,
        old: tuple[str, ...],
        new: str,
        reason: str,
        event: str = "",
        *,
        by: Principal | None = None,
        flow: str = "",
    ) -> bool:
        """One compare-and-swap of the state. `flow` is the call that this lets through, if it lets one through."""
        with self._db.write():
            moved = self._db.rows(
                "UPDATE approvals SET state=?, reason=?, revision=revision+1, flow=iif(?='', flow, ?),"
                " settled=iif(?='', settled, 0) WHERE id=? AND state IN (SELECT value FROM json_each(?)) RETURNING id",
                (new, reason, flow, flow, flow, approval_id, json.dumps(old)),
            )
        if moved:
            self._changed(event or new, self.get(approval_id), by, reason, flow)
        return bool(moved)

    def _close(self, change: str, which: str, arguments: tuple[object, ...], reason: str) -> tuple[Approval, ...]:
        """Closes what is open or granted, in one transaction."""
        with self._db.write():
            closed = self._db.rows(
                f"UPDATE approvals SET {change}, reason=?, revision=revision+1"  # noqa: S608 own text
                f" WHERE state IN ('open', 'approved') AND {which} RETURNING *",
                (reason, *arguments),
            )
        found = tuple(self._approval(row) for row in closed)
        for approval in found:
            self._changed(approval.state, approval, None, reason)
        return found


def refusal(message: str, status: int, code: str) -> Refusal:
    return Refusal(message, status=status, code=code, station="approve")
