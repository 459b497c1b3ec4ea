"""Attempts and what runs under a grant: bounded, forgotten in time, and only ever for the same request of the same session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowwarden.approval import attempts
from flowwarden.approval.attempts import KEEP, Attempts, key
from flowwarden.approval.running import Running
from flowwarden.types import Approval, ApprovalTerms

ONE = ("session", "digest", "invocation")


def test_an_answer_is_kept_for_a_minute() -> None:
    now = 0.0
    known: Attempts[str] = Attempts(lambda: now)
    attempt = known.begin(ONE, "flow", "ap-1")
    assert attempt is not None and known.find(ONE) is attempt and not attempt.over.is_set()
    known.end(attempt, "answer")
    assert attempt.over.is_set()
    now = KEEP
    assert known.find(ONE) is attempt and attempt.answer == "answer"
    now = KEEP + 1
    assert known.find(ONE) is None


def test_a_call_under_way_is_not_forgotten() -> None:
    now = 0.0
    known: Attempts[str] = Attempts(lambda: now)
    attempt = known.begin(ONE, "flow", "ap-1")
    now = 10 * KEEP
    assert known.find(ONE) is attempt


def test_what_may_be_tried_again_is_told_to_those_who_wait_only() -> None:
    known: Attempts[str] = Attempts()
    attempt = known.begin(ONE, "flow", "ap-1")
    assert attempt is not None
    known.end(attempt, "503", again=True)
    assert attempt.answer == "503" and known.find(ONE) is None


@pytest.mark.parametrize("other", [("s2", *ONE[1:]), (ONE[0], "d2", ONE[2]), (*ONE[:2], "i2")])
def test_another_session_request_or_invocation(other: tuple[str, str, str]) -> None:
    known: Attempts[str] = Attempts()
    known.begin(ONE, "flow", "ap-1")
    assert known.find(other) is None


@pytest.mark.parametrize("invocation", ["", "short", "x" * 65, "has space", "a\nb-c-d-e-f"])
def test_what_names_no_invocation(invocation: str) -> None:
    assert key("s", "d", invocation) is None
    assert Attempts[str]().begin(None, "flow", "ap-1") is None
    assert Attempts[str]().find(None) is None


def test_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MOST", 2)
    known: Attempts[str] = Attempts()
    made = [known.begin(("s", "d", str(number)), "flow", "ap-1") for number in range(3)]
    assert made[1] is not None and made[2] is None


APPROVAL = Approval("ap-1", "revoked", "d", "s", {}, ApprovalTerms(), 0.0, 1.0)


@pytest.mark.parametrize(("event", "told"), [("revoked", [True]), ("expired", [False]), ("used", []), ("denied", [])])
async def test_a_grant_that_ends_stops_what_runs_under_it(event: str, told: list[bool]) -> None:
    """Told from another thread, stopped in the loop; what is over already is left alone."""
    running, stopped = Running(), []

    def stop(why: str, revoked: bool) -> None:
        assert "ap-1" in why
        stopped.append(revoked)

    over = running.begin("ap-1", "under way", stop)
    running.begin("ap-1", "over", stop)(None)
    running.begin("ap-2", "another's", stop)
    details: dict[str, Any] = {}
    await asyncio.to_thread(running.tell, event, APPROVAL, details)
    await asyncio.sleep(0)
    assert stopped == told
    over(None)
    running.tell(event, APPROVAL, details)
    await asyncio.sleep(0)
    assert stopped == told
