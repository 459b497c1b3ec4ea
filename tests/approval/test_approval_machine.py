"""Approvals against a model: any order of questions, answers, uses, endings, time and restarts grants nothing extra."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from flowwarden.approval.store import Approvals
from flowwarden.errors import Refusal
from flowwarden.types import ApprovalTerms, Principal

PEOPLE = {
    name: Principal("https://idp", name, groups=frozenset(groups), aliases=frozenset({alias} if alias else ()))
    for name, groups, alias in (
        ("alice", ("sre",), ""),
        ("bob", ("sre",), "bob@x"),
        ("bob2", ("sre", "dba"), "bob@x"),
        ("carol", ("sre", "dba"), ""),
        ("owen", ("sre",), ""),
        ("eve", ("dba",), ""),
    )
}
MAY = {"bob", "bob2", "carol"}
SAME = {"bob2": "bob"}
REQUESTER = replace(PEOPLE["alice"], owner="owen")


@dataclass
class Asked:
    id: str
    digest: str
    session: str
    count: int
    expires: float
    state: str = "open"
    people: set[str] = field(default_factory=set)


class Machine(RuleBasedStateMachine):
    questions = Bundle("questions")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1_800_000_000.0
        self.known: dict[str, Asked] = {}
        self.uses = 0
        self.open()

    def open(self) -> None:
        self.store = Approvals.open(Path(self.folder.name), lambda: self.now)

    def settle(self) -> None:
        for asked in self.known.values():
            if asked.state in ("open", "approved") and self.now >= asked.expires:
                asked.state = "over"

    @rule(
        target=questions, digest=st.sampled_from("abc"), session=st.sampled_from(["s1", "s2"]), count=st.integers(1, 2)
    )
    def ask(self, digest: str, session: str, count: int) -> str:
        self.settle()
        alive = [
            a
            for a in self.known.values()
            if (a.digest, a.session, a.count) == (digest, session, count)
            and (a.state in ("open", "approved") or (a.state == "withdrawn" and self.now < a.expires))
        ]
        terms = ApprovalTerms(approver_groups=frozenset({"sre"}), count=count, expires=100)
        found = self.store.ask(digest, session, REQUESTER, {}, terms)
        assert (found.id in self.known) == bool(alive)
        if alive:
            assert found.id in {a.id for a in alive}
            if self.known[found.id].state == "withdrawn":
                assert all(a.state == "withdrawn" for a in alive)
                self.known[found.id].state = "open"
        else:
            self.known[found.id] = Asked(found.id, digest, session, count, self.now + 100)
        return found.id

    @rule(which=questions, who=st.sampled_from(sorted(PEOPLE)), approve=st.booleans())
    def answer(self, which: str, who: str, approve: bool) -> None:
        self.settle()
        asked = self.known[which]
        taken = who in MAY and asked.state == "open"
        try:
            self.store.answer(which, PEOPLE[who], approve)
        except Refusal:
            assert not taken
            return
        assert taken
        if not approve:
            asked.state = "denied"
            return
        asked.people.add(SAME.get(who, who))
        if len(asked.people) >= asked.count:
            asked.state = "approved"

    @rule(which=questions, by_digest=st.booleans())
    def use(self, which: str, by_digest: bool) -> None:
        self.settle()
        asked = self.known[which]
        if by_digest:
            ready = [a for a in self.known.values() if a.digest == asked.digest and a.state == "approved"]
            assert self.store.consume(asked.digest) == bool(ready)
            spent = [a for a in ready if self.store.get(a.id).state == "spent"]
            assert len(spent) == bool(ready)
            for one in spent:
                one.state = "spent"
        else:
            assert self.store.consume(which) == (asked.state == "approved")
            asked.state = "spent" if asked.state == "approved" else asked.state

    @rule(which=consumes(questions))
    def revoke(self, which: str) -> None:
        self.settle()
        asked = self.known[which]
        try:
            self.store.revoke(which)
            assert asked.state in ("open", "approved", "over")
            asked.state = "revoked"
        except Refusal:
            assert asked.state not in ("open", "approved")

    @rule(which=questions)
    def withdraw(self, which: str) -> None:
        self.settle()
        if self.store.withdraw(which):
            assert self.known[which].state in ("open", "over")
            self.known[which].state = "withdrawn"

    @rule(session=st.sampled_from(["s1", "s2"]))
    def end(self, session: str) -> None:
        self.settle()
        self.store.end_session(session)
        for asked in self.known.values():
            if asked.session == session and asked.state in ("open", "approved", "over"):
                asked.state = "ended"

    @rule(seconds=st.sampled_from([1, 49, 99, 100]), sweep=st.booleans())
    def later(self, seconds: int, sweep: bool) -> None:
        self.now += seconds
        if sweep:
            self.store.expire()

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.open()

    @invariant()
    def agree(self) -> None:
        """What the store calls approved, and would still take, is what the model does."""
        if not hasattr(self, "store"):
            return
        self.settle()
        for asked in self.known.values():
            found = self.store.get(asked.id)
            if asked.state in ("open", "approved", "denied", "spent", "revoked", "withdrawn"):
                assert found.state == asked.state
            if found.state == "approved" and self.now < asked.expires:
                assert asked.state == "approved"

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
