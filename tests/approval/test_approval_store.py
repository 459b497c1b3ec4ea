"""Questions and grants: who may answer, once, in time, and nothing that a restart or a race could add."""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowwarden.approval.store import MAX_OPEN, Approvals
from flowwarden.errors import Refusal
from flowwarden.types import Approval, ApprovalTerms, Principal

START = 1_800_000_000.0
IDP = "https://idp"
ALICE = Principal(IDP, "alice", "agent", "owen@example.com", frozenset({"developers", "sre", "platform"}), "Alice")
BOB = Principal(IDP, "bob", groups=frozenset({"sre"}), name="Bob")
CAROL = Principal(IDP, "carol", groups=frozenset({"sre", "platform"}), name="Carol")
TERMS = ApprovalTerms(approver_groups=frozenset({"sre"}), expires=900, hold=25)
SUMMARY = {
    "operation": "ec2:TerminateInstances",
    "resources": ["arn:i-1"],
    "region": "eu-west-1",
    "account": "1",
    "rules": ["r"],
}


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Approvals]:
    opened = Approvals.open(tmp_path / "state", clock)
    yield opened
    opened.close()


def ask(
    store: Approvals, digest: str = "d1", session: str = "s1", terms: ApprovalTerms = TERMS, **summary: Any
) -> Approval:
    return store.ask(digest, session, ALICE, {**SUMMARY, **summary}, terms)


def code(store: Approvals, approval: Approval, who: Principal, approve: bool = True, **more: Any) -> int:
    """The status that an answer is refused with; 0 if it is taken."""
    try:
        store.answer(approval.id, who, approve, **more)
    except Refusal as refusal:
        return refusal.status
    return 0


def test_asked_answered_used(store: Approvals) -> None:
    approval = ask(store)
    assert (approval.state, approval.expires, approval.summary) == ("open", START + 900, SUMMARY)
    assert not store.consume(approval.id)
    answered = store.answer(approval.id, BOB, True, "fine\n\x1b[31m by me")
    assert (answered.state, answered.reason) == ("approved", "fine [31m by me")
    assert answered.answers[0]["subject"] == "bob"
    assert ask(store).id == approval.id, "the retry is handed the grant"
    assert store.consume("d1")
    assert not store.consume(approval.id)
    assert not store.consume("d1")
    assert store.get(approval.id).state == "spent"
    assert ask(store).id != approval.id, "the next request is a new question"


def test_a_retry_joins_the_open_question(store: Approvals) -> None:
    first = ask(store)
    assert ask(store).id == first.id
    assert ask(store, "d2").id != first.id
    assert ask(store, session="s2").id != first.id, "another session's question is its own"


def test_stricter_terms_are_a_new_question(store: Approvals) -> None:
    """A rule that now wants two people is not met by the question, or the grant, from when it wanted one."""
    lax = ask(store)
    strict = ask(store, terms=replace(TERMS, count=2))
    assert strict.id != lax.id
    store.answer(lax.id, BOB, True)
    assert ask(store, terms=replace(TERMS, count=2)).id == strict.id
    assert ask(store, terms=replace(TERMS, approver_groups=frozenset({"dba"}))).state == "open"
    assert ask(store).state == "approved"


def test_denial(store: Approvals) -> None:
    """One denial ends the question, whatever was approved before; its reason is for the agent."""
    approval = ask(store, terms=replace(TERMS, count=2))
    assert store.answer(approval.id, BOB, True).state == "open"
    denied = store.answer(approval.id, CAROL, False, "not today")
    assert (denied.state, denied.reason) == ("denied", "not today")
    assert not store.consume(approval.id)
    assert code(store, approval, CAROL) == 409


@pytest.mark.parametrize(
    "who",
    [
        ALICE,
        replace(ALICE, agent="another", owner="", name="Someone Else"),
        replace(BOB, subject="owen", aliases=frozenset({"owen@example.com"})),
        replace(BOB, subject="OWEN@example.com"),
        replace(BOB, name="Owen@Example.com"),
        replace(BOB, owner="owen@example.com"),
        replace(BOB, owner="alice"),
        replace(BOB, groups=frozenset({"developers", "platform"})),
        replace(BOB, groups=frozenset()),
        Principal("", ""),
    ],
    ids=[
        "requester",
        "requester-bare",
        "owner-mail",
        "owner-sub",
        "owner-name",
        "owners-agent",
        "requesters-agent",
        "admin",
        "nobody",
        "empty",
    ],
)
@pytest.mark.parametrize("approve", [True, False])
def test_who_never_counts(store: Approvals, who: Principal, approve: bool) -> None:
    """Requester, owner, what acts for either, and people outside the rule's groups; administrators of any kind too."""
    approval = ask(store)
    assert code(store, approval, who, approve) == 403
    assert store.get(approval.id).state == "open"


def test_the_same_subject_of_another_issuer_is_another_person(store: Approvals) -> None:
    """A subject means something beside its issuer only; a shared e-mail is the same person nevertheless."""
    assert code(store, ask(store), replace(BOB, subject="alice", issuer="https://other")) == 0
    mailed = replace(ALICE, aliases=frozenset({"alice@example.com"}))
    approval = store.ask("x", "s", mailed, SUMMARY, TERMS)
    assert code(store, approval, replace(BOB, issuer="https://other", aliases=frozenset({"alice@example.com"}))) == 403


def test_a_token_of_the_session_never_counts(store: Approvals) -> None:
    store.tokens_of = lambda session: {"t1"} if session == "s1" else set()
    approval = ask(store)
    assert code(store, approval, BOB, token_id="t1") == 403
    assert code(store, approval, BOB, token_id="t2") == 0


def test_named_approvers_and_none(store: Approvals) -> None:
    """Principals by glob; where a rule names nobody the default groups answer; with neither, nobody can."""
    named = ApprovalTerms(approver_principals=frozenset({"https://idp#bo*", "dave"}))
    assert code(store, ask(store, "1", terms=named), BOB) == 0
    assert code(store, ask(store, "2", terms=named), CAROL) == 403
    assert code(store, ask(store, "3", terms=ApprovalTerms()), BOB) == 403
    store.default_groups = ("sre",)
    assert code(store, ask(store, "3", terms=ApprovalTerms()), BOB) == 0
    assert code(store, ask(store, "4", terms=named), CAROL) == 403, "default groups do not widen a rule"


def test_two_different_people(store: Approvals) -> None:
    """One person in two groups, twice, from another client, or under a second issuer with one e-mail, is one person."""
    terms = replace(TERMS, count=2, approver_groups=frozenset({"sre", "platform"}))
    approval = ask(store, terms=terms)
    carol = replace(CAROL, aliases=frozenset({"carol@example.com"}))
    for _ in range(3):
        assert store.answer(approval.id, carol, True).state == "open"
    assert (
        store.answer(approval.id, replace(carol, groups=frozenset({"platform"}), agent="phone"), True).state == "open"
    )
    assert store.answer(approval.id, replace(carol, issuer="https://second", subject="c"), True).state == "open"
    assert not store.consume(approval.id)
    assert store.answer(approval.id, BOB, True).state == "approved"
    assert len(store.get(approval.id).answers) == 2


def test_a_reason_can_be_required(store: Approvals) -> None:
    approval = ask(store, terms=replace(TERMS, reason_required=True))
    assert code(store, approval, BOB, reason=" \n ") == 400
    assert code(store, approval, BOB, False) == 400
    assert code(store, approval, BOB, reason="ticket 12") == 0


def test_expiry_to_the_second(store: Approvals, clock: Clock) -> None:
    """A question can be answered, and its grant used, until the second it expires, and not in it."""
    one, two, three = ask(store, "1"), ask(store, "2"), ask(store, "3")
    clock.now = START + 899
    assert code(store, one, BOB) == code(store, two, BOB) == 0
    assert store.consume(one.id)
    clock.now = START + 900
    assert not store.consume(two.id)
    assert code(store, three, BOB) == 409
    assert ask(store, "3").id != three.id
    clock.now = START + 901
    assert {gone.id for gone in store.expire()} == {two.id, three.id}
    assert store.expire() == ()
    assert store.get(two.id).state == store.get(three.id).state == "expired"
    assert not store.consume(two.id)


def test_fifty_at_once(tmp_path: Path, store: Approvals) -> None:
    """Fifty threads, over five connections of their own, and one grant: one of them gets it."""
    approval = ask(store)
    store.answer(approval.id, BOB, True)
    stores = [Approvals.open(tmp_path / "state", lambda: START) for _ in range(5)]
    barrier = threading.Barrier(50)

    def use(number: int) -> bool:
        barrier.wait()
        return stores[number % 5].consume("d1" if number % 2 else approval.id)

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(use, range(50))) == 1
    for opened in stores:
        opened.close()


def test_two_answers_at_once_count_two(store: Approvals) -> None:
    """Answers in the same moment are not lost, and not counted twice."""
    terms = replace(TERMS, count=10)
    approval = ask(store, terms=terms)
    people = [replace(BOB, subject=f"p{n % 9}") for n in range(36)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda who: code(store, approval, who), people))
    assert len(store.get(approval.id).answers) == 9
    assert store.get(approval.id).state == "open"


def test_restart(tmp_path: Path, store: Approvals, clock: Clock) -> None:
    """Open stays open, approved stays approved, spent stays spent, half answered stays half answered."""
    half = ask(store, "half", terms=replace(TERMS, count=2))
    store.answer(half.id, BOB, True)
    opened, ready, used, denied = (ask(store, name) for name in ("open", "ready", "used", "denied"))
    store.answer(ready.id, BOB, True)
    store.answer(used.id, BOB, True)
    assert store.consume(used.id)
    store.answer(denied.id, BOB, False)
    before = {approval.id: approval for approval in store.list()}
    store.close()
    second = Approvals.open(tmp_path / "state", clock)
    assert {approval.id: approval for approval in second.list()} == before
    assert not second.consume(opened.id)
    assert not second.consume(used.id)
    assert not second.consume(half.id)
    assert code(second, half, BOB) == 0 and second.get(half.id).state == "open"
    assert second.answer(half.id, CAROL, True).state == "approved"
    assert second.consume(ready.id)
    assert ask(second, "open").id == opened.id
    second.close()


def _use_and_die(folder: Path, key: str) -> None:
    import os

    Approvals.open(folder, lambda: START).consume(key)
    os._exit(9)


def test_a_crash_after_use(tmp_path: Path, store: Approvals) -> None:
    """A process that dies between using a grant and forwarding has used it: the next one finds it spent."""
    approval = ask(store)
    store.answer(approval.id, BOB, True)
    process = multiprocessing.get_context("fork").Process(target=_use_and_die, args=(tmp_path / "state", approval.id))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    assert store.get(approval.id).state == "spent"
    assert not store.consume(approval.id)


def test_revocation_and_withdrawal(store: Approvals) -> None:
    granted, opened = ask(store, "1"), ask(store, "2")
    store.answer(granted.id, BOB, True)
    assert store.revoke(granted.id, BOB, "wrong instance").state == "revoked"
    assert not store.consume(granted.id)
    assert store.withdraw(opened.id)
    assert not store.withdraw(opened.id)
    assert store.get(opened.id).state == "withdrawn"
    assert code(store, opened, BOB) == 409
    with pytest.raises(Refusal):
        store.revoke(granted.id)
    with pytest.raises(Refusal) as found:
        store.get("ap-nothing")
    assert found.value.status == 404


def test_the_end_of_a_session_ends_its_questions_and_grants(store: Approvals) -> None:
    mine, open_, others = ask(store, "1"), ask(store, "2"), ask(store, "3", session="s2")
    for approval in (mine, others):
        store.answer(approval.id, BOB, True)
    store.end_session("s1")
    assert [store.get(a.id).state for a in (mine, open_, others)] == ["revoked", "withdrawn", "approved"]
    assert not store.consume("1")
    assert store.consume("3")


OPERATION = replace(TERMS, scope="operation", expires=900.0)
SESSION = replace(TERMS, scope="session", lasts=1800.0)


def covers(store: Approvals, session: str = "s1", digest: str = "other", **changes: Any) -> bool:
    call: dict[str, Any] = {
        "operation": "ec2:TerminateInstances",
        "resources": ["arn:i-1"],
        "region": "eu-west-1",
        "account": "1",
        "rules": ["r"],
    }
    return store.granted(session, digest, **{**call, **changes}) is not None


def test_a_grant_for_an_operation(store: Approvals, clock: Clock) -> None:
    """The same operation on the same resources, in the same place and session, for its time; never by `consume`."""
    approval = ask(store, terms=OPERATION)
    assert not covers(store)
    clock.now += 10
    store.answer(approval.id, BOB, True)
    assert covers(store) and covers(store, digest="yet another")
    assert not store.consume(approval.id)
    assert not covers(store, session="s2")
    assert not covers(store, operation="ec2:StopInstances")
    assert not covers(store, resources=["arn:i-2"])
    assert not covers(store, resources=["arn:i-1", "arn:i-2"])
    assert not covers(store, resources=[])
    assert not covers(store, resources=[None])
    assert not covers(store, region="eu-central-1")
    assert not covers(store, account="2")
    assert not covers(store, rules=["r", "stricter"])
    assert not covers(store, rules_digest="changed")
    clock.now = START + 10 + 899
    assert covers(store)
    clock.now += 1
    assert not covers(store)


def test_unknown_resources_are_granted_one_request_at_a_time(store: Approvals) -> None:
    """Where the resources are not known, a grant for the operation would cover anything: it covers that request."""
    approval = ask(store, terms=OPERATION, resources=["arn:i-1", None])
    store.answer(approval.id, BOB, True)
    assert approval.terms.scope == store.get(approval.id).terms.scope == "request"
    assert not covers(store, resources=["arn:i-1", None])
    assert store.consume(approval.id)
    assert not store.consume(approval.id)


def test_a_grant_for_a_session(store: Approvals, clock: Clock) -> None:
    """What the asking rules name, for `for:`, in this session, under these rules; revocation stops it at once."""
    approval = ask(store, terms=SESSION, rules=["jit"], rules_digest="v1")
    assert (
        ask(store, "d9", terms=SESSION, rules=["jit"], rules_digest="v1", operation="ec2:StopInstances").id
        == approval.id
    )
    clock.now += 5
    store.answer(approval.id, BOB, True)
    jit: dict[str, Any] = {"rules": ["jit"], "rules_digest": "v1"}
    assert covers(store, **jit)
    assert covers(store, operation="ec2:StopInstances", resources=[None], **jit)
    assert not covers(store)
    assert not covers(store, rules=["jit", "other"], rules_digest="v1")
    assert not covers(store, rules=["jit"], rules_digest="v2")
    assert not covers(store, session="s2", **jit)
    assert not store.consume(approval.id)
    clock.now = START + 5 + 1799
    assert covers(store, **jit)
    clock.now += 1
    assert not covers(store, **jit)
    second = ask(store, terms=SESSION, rules=["jit"], rules_digest="v1")
    store.answer(second.id, BOB, True)
    assert covers(store, **jit)
    store.revoke(second.id, BOB)
    assert not covers(store, **jit)


def test_a_session_grant_under_no_rule_is_one_request(store: Approvals) -> None:
    """Where the summary names no rules, there is nothing that a session grant could cover."""
    approval = store.ask("d", "s1", ALICE, {"operation": "x"}, SESSION)
    assert approval.terms.scope == "request"
    store.answer(approval.id, BOB, True)
    assert not covers(store, rules=[], operation="x")
    assert [store.consume(approval.id) for _ in range(2)] == [True, False]


def test_lists(store: Approvals, clock: Clock) -> None:
    """Newest first, by state and by session."""
    made = []
    for digest, session in (("1", "s1"), ("2", "s2"), ("3", "s1")):
        made.append(ask(store, digest, session).id)
        clock.now += 1
    store.answer(made[0], BOB, False)
    assert [found.id for found in store.list()] == made[::-1]
    assert [found.id for found in store.list("open")] == [made[2], made[1]]
    assert [found.id for found in store.list(session="s1")] == [made[2], made[0]]
    assert [found.id for found in store.list("denied", session="s1")] == [made[0]]
    assert store.list("denied", session="s2") == ()


def test_on_timeout(store: Approvals) -> None:
    """`deny` never lets a call pass; `allow` lets one pass, once, and not after a denial."""
    assert not store.allow_on_timeout(ask(store).id)
    terms = replace(TERMS, on_timeout="allow")
    allowed = ask(store, "a", terms=terms)
    assert [store.allow_on_timeout(allowed.id) for _ in range(3)] == [True, False, False]
    assert store.get(allowed.id).state == "spent"
    denied = ask(store, "b", terms=terms)
    store.answer(denied.id, BOB, False)
    assert not store.allow_on_timeout(denied.id)


async def test_waiting(store: Approvals) -> None:
    """An answer wakes every call that waits for it at once, from whatever thread it came."""
    approval = ask(store)
    waiting = [asyncio.create_task(store.wait(approval.id, 600)) for _ in range(20)]
    await asyncio.sleep(0)
    assert not store.withdraw(approval.id), "others wait for it"
    await asyncio.to_thread(store.answer, approval.id, BOB, True)
    async with asyncio.timeout(5):
        assert {found.state for found in await asyncio.gather(*waiting)} == {"approved"}
        assert (await store.wait(approval.id, 600)).state == "approved"


async def test_waiting_ends(store: Approvals, clock: Clock) -> None:
    """By time, by the client leaving, by the question's own expiry; and leaves nobody waiting."""
    approval = ask(store)
    async with asyncio.timeout(5):
        assert (await store.wait(approval.id, 0.01)).state == "open"
        gone = asyncio.Event()
        waiting = asyncio.create_task(store.wait(approval.id, 600, gone))
        await asyncio.sleep(0)
        gone.set()
        assert (await waiting).state == "open"
        assert (await store.wait(approval.id, 600, gone)).state == "open"
        cancelled = asyncio.create_task(store.wait(approval.id, 600))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        clock.now = approval.expires
        assert (await store.wait(approval.id, 600)).state == "open"
    assert store._waiters.count(approval.id) == 0
    assert store.withdraw(approval.id)


async def test_five_hundred_held(store: Approvals) -> None:
    """Five hundred questions held at once; one answer wakes one."""
    asked = [ask(store, f"d{n}") for n in range(500)]
    waiting = [asyncio.create_task(store.wait(approval.id, 600)) for approval in asked]
    await asyncio.sleep(0)
    store.answer(asked[77].id, BOB, True)
    async with asyncio.timeout(10):
        assert (await waiting[77]).state == "approved"
    await asyncio.sleep(0)
    assert sum(task.done() for task in waiting) == 1
    store.end_session("s1")
    async with asyncio.timeout(10):
        states = [found.state for found in await asyncio.gather(*waiting)]
    assert states.count("withdrawn") == 499


async def test_commits_do_not_hold_up_the_loop(store: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a commit waits for the disk in the store's thread, the loop reads on: other calls pass undisturbed."""
    asked = ask(store)
    entered, release = threading.Event(), threading.Event()
    real = Approvals._refuse_flood

    def slow(self: Approvals, session: str) -> None:
        entered.set()
        assert release.wait(20)
        real(self, session)

    monkeypatch.setattr(Approvals, "_refuse_flood", slow)
    pending = asyncio.create_task(store.aside(store.ask, "slow", "s1", ALICE, SUMMARY, TERMS))
    assert await asyncio.to_thread(entered.wait, 10)
    assert not covers(store)
    assert store.get(asked.id).state == "open"
    assert [found.id for found in store.list()] == [asked.id]
    release.set()
    assert (await pending).digest == "slow"
    assert len(store.list()) == 2


def test_closed_questions_are_forgotten_after_a_month(store: Approvals, clock: Clock) -> None:
    closed, kept = ask(store, "1"), ask(store, "2", terms=replace(TERMS, expires=40 * 86400))
    store.answer(closed.id, BOB, False)
    clock.now += 30 * 86400 + 1
    store.expire()
    assert store.find(closed.id) is None
    assert store.find(kept.id) is not None
    assert store._db.rows("SELECT count(*) FROM approval_answers")[0][0] == 0


def test_a_flood_of_questions(store: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    """One session cannot fill the disk, nor keep another from asking."""
    monkeypatch.setattr("flowwarden.approval.store.MAX_OPEN", 3)
    assert MAX_OPEN >= 500
    for number in range(3):
        ask(store, f"d{number}")
    with pytest.raises(Refusal) as found:
        ask(store, "d3")
    assert found.value.status == 429
    assert ask(store, "d1")
    assert ask(store, "d3", session="s2")


def test_a_summary_of_anything(store: Approvals) -> None:
    """Bytes, NaN, dates, sets and depth become JSON that every reader takes."""
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    asked = ask(store, params={"b": b"\xff\x00", "n": float("nan"), "s": {1}, "d": deep, 5: None, "o": object()})
    found = json.loads(json.dumps(store.as_json(asked.id), allow_nan=False))["summary"]["params"]
    assert (found["b"], found["n"], found["s"], found["5"]) == ("\ufffd\x00", "nan", [1], None)
    assert len(json.dumps(found["d"])) < 100


def test_everything_is_told(store: Approvals, clock: Clock) -> None:
    """Each question, view, answer, use, expiry and revocation is told with who and which; a listener's fault is its own."""
    told: list[tuple[str, str, Any]] = []
    store.listen(lambda event, approval, details: 1 / 0)  # type: ignore[arg-type,return-value]
    store.listen(
        lambda event, approval, details: told.append((event, approval.state, (details["who"] or {}).get("subject")))
    )
    one = ask(store)
    ask(store)
    store.viewed(one.id, BOB)
    store.answer(one.id, BOB, True)
    store.consume(one.id)
    two = ask(store, "2")
    store.answer(two.id, CAROL, False)
    three, four = ask(store, "3"), ask(store, "4")
    store.revoke(three.id, CAROL)
    clock.now += 900
    store.expire()
    assert told == [
        ("asked", "open", "alice"),
        ("joined", "open", "alice"),
        ("viewed", "open", "bob"),
        ("answered", "approved", "bob"),
        ("approved", "approved", "bob"),
        ("used", "spent", None),
        ("asked", "open", "alice"),
        ("answered", "denied", "carol"),
        ("denied", "denied", "carol"),
        ("asked", "open", "alice"),
        ("asked", "open", "alice"),
        ("revoked", "revoked", "carol"),
        ("expired", "expired", None),
    ]
    assert store.get(four.id).state == "expired"
    assert store.requester(one.id) == ALICE
    assert [a.state for a in store.list("spent")] == ["spent"]
    assert list(itertools.islice((a.id for a in store.list(limit=1)), 2)) == [store.list()[0].id]
