"""Sessions: looked up, renewed, ended, revoked; all of it survives a restart, and nothing on disk opens anything."""

from __future__ import annotations

import itertools
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowwarden.errors import StoreError, TokenError
from flowwarden.identity.rules import SessionRules
from flowwarden.identity.tokens import VerifiedToken
from flowwarden.sessions import ids
from flowwarden.sessions.store import SessionStore
from flowwarden.types import Phantom, Principal, Session

START = 1_800_000_000.0
_numbers = itertools.count()


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def mint() -> Phantom:
    return Phantom(f"AKIATEST{next(_numbers):012d}", ids.handle(), ids.handle())


def token(
    clock: Clock, subject: str = "alice", *, groups: tuple[str, ...] = ("dev",), life: float = 600
) -> VerifiedToken:
    who = Principal("https://idp", subject, "agent", "owner", frozenset(groups), subject.title(), frozenset({"a@b"}))
    return VerifiedToken(who, who.issuer, subject, uuid.uuid4().hex, clock.now, clock.now + life)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[SessionStore]:
    opened = again(tmp_path, clock)
    yield opened
    opened.close()


def again(folder: Path, clock: Clock, **rules: float) -> SessionStore:
    return SessionStore.open(folder / "state", rules=SessionRules(**rules), mint=mint, clock=clock)  # type: ignore[arg-type]


def test_a_session_is_found_by_handle_and_key(store: SessionStore, clock: Clock) -> None:
    session, handle = store.start(token(clock))
    assert store.by_handle(handle) == store.by_key(session.phantom.access_key_id) == store.get(session.id) == session
    assert store.check(session) == session
    assert (session.expires, session.max_expires) == (START + 3600, START + 12 * 3600)
    assert store.by_handle(handle + "x") is None
    assert store.by_handle("") is None
    assert store.by_key("AKIA") is None
    other, other_handle = store.start(token(clock))
    assert other.id != session.id
    assert other_handle != handle
    assert store.list() == (session, other) or store.list() == (other, session)


def test_restart(tmp_path: Path, store: SessionStore, clock: Clock) -> None:
    """Everything comes back: principal, keys, expiry, what was ended, and why."""
    session, handle = store.start(token(clock))
    gone, gone_handle = store.start(token(clock, "bob"))
    own = store.for_token(token(clock, "carol"), "hash-of-token")
    store.end(gone.id, "enough")
    store.close()
    second = again(tmp_path, clock)
    assert second.by_handle(handle) == session
    assert second.by_key(session.phantom.access_key_id) == session
    assert second.by_token("hash-of-token") == own
    found = second.by_handle(gone_handle)
    assert found is not None
    with pytest.raises(TokenError, match="enough"):
        second.check(found)


def test_what_is_on_disk_opens_nothing(tmp_path: Path, store: SessionStore, clock: Clock) -> None:
    """No handle, no phantom secret in any file; nobody else may read them; a lost key is an error that says so."""
    session, handle = store.start(token(clock))
    store.for_token(token(clock), "0" * 64)
    store.close()
    state = tmp_path / "state"
    assert state.stat().st_mode & 0o777 == 0o700
    for file in state.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file
        content = file.read_bytes()
        for secret in (handle, session.phantom.secret_access_key, session.phantom.session_token):
            assert secret.encode() not in content, file
    (state / "phantom.key").unlink()
    with pytest.raises(StoreError, match="does not fit"):
        again(tmp_path, clock)


def test_a_row_moved_to_another_session_is_noticed(tmp_path: Path, store: SessionStore, clock: Clock) -> None:
    one, _ = store.start(token(clock))
    two, _ = store.start(token(clock))
    store.close()
    with sqlite3.connect(tmp_path / "state" / "state.db") as db:
        db.execute("UPDATE sessions SET phantom=(SELECT phantom FROM sessions WHERE id=?) WHERE id=?", (one.id, two.id))
    with pytest.raises(StoreError):
        again(tmp_path, clock)


def test_synchronous_full(store: SessionStore) -> None:
    """Only FULL survives power loss (2 in https://sqlite.org/pragma.html#pragma_synchronous)."""
    assert store._db._conn.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_expiry_to_the_second(store: SessionStore, clock: Clock) -> None:
    session, _ = store.start(token(clock))
    assert store.check(session, session.expires - 0.001)
    with pytest.raises(TokenError, match="expired") as found:
        store.check(session, session.expires)
    assert found.value.code == "ExpiredToken"


def test_renewal(store: SessionStore, clock: Clock) -> None:
    """Same id, handle and keys; new expiry and groups; never beyond max; only by its own principal, with a new token."""
    first = token(clock)
    session, handle = store.start(first)
    clock.now += 3000
    with pytest.raises(TokenError, match="fresh token"):
        store.renew(session, first)
    with pytest.raises(TokenError, match="another principal"):
        store.renew(session, token(clock, "bob"))
    renewed = store.renew(session, token(clock, groups=("sre",)))
    assert (renewed.id, renewed.phantom, renewed.handle_hash) == (session.id, session.phantom, session.handle_hash)
    assert renewed.expires == clock.now + 3600
    assert renewed.principal.groups == {"sre"}
    assert store.by_handle(handle) == store.check(session) == renewed
    for _ in range(20):
        clock.now = renewed.expires - 1
        renewed = store.renew(renewed, token(clock))
    assert renewed.expires == session.max_expires
    clock.now = renewed.expires
    with pytest.raises(TokenError, match="expired"):
        store.renew(renewed, token(clock))


def test_an_end_is_at_once_and_for_good(store: SessionStore, clock: Clock) -> None:
    """The next check refuses, every token of the session is revoked, listeners hear of it once; others go on."""
    heard: list[tuple[str, str]] = []
    store.on_ended(lambda session, reason: 1 / 0)  # type: ignore[arg-type,return-value]
    store.on_ended(lambda session, reason: heard.append((session.id, reason)))
    first, second = token(clock), token(clock)
    session, handle = store.start(first)
    bystander, _ = store.start(token(clock))
    store.renew(session, second)
    store.end(session.id, "lost laptop")
    store.end(session.id, "again")
    assert heard == [(session.id, "lost laptop")]
    found = store.by_handle(handle)
    assert found is not None
    assert found.ended == START
    with pytest.raises(TokenError, match="lost laptop"):
        store.check(session)
    for used in (first, second):
        with pytest.raises(TokenError, match="revoked"):
            store.start(used)
    assert store.check(bystander)
    assert store.start(token(clock))
    assert store.end("unknown") is None


def test_revocations_survive(tmp_path: Path, store: SessionStore, clock: Clock) -> None:
    used, spare, other = token(clock), token(clock), token(clock, "bob")
    session, _ = store.start(used)
    store.revoke_principal("https://idp", "alice", "left the company")
    store.close()
    second = again(tmp_path, clock)
    with pytest.raises(TokenError, match="left the company"):
        second.check(session)
    for stale in (used, spare):
        with pytest.raises(TokenError, match="left the company"):
            second.start(stale)
    assert second.start(other)
    clock.now += 1
    assert second.start(token(clock)), "a token that the issuer gave out afterwards is the issuer's word"


def test_a_token_as_its_own_handle(store: SessionStore, clock: Clock) -> None:
    """One session a token, ending with it, not renewed, and not started again once it was ended."""
    verified = token(clock, life=300)
    session = store.for_token(verified, "h")
    assert store.for_token(verified, "h") == session
    assert session.expires == START + 300
    with pytest.raises(TokenError, match="token itself"):
        store.renew(session, token(clock))
    store.end(session.id)
    with pytest.raises(TokenError):
        store.check(store.for_token(verified, "h"))
    with pytest.raises(TokenError, match="revoked"):
        store.for_token(verified, "another spelling of it")


def test_idle(tmp_path: Path, clock: Clock) -> None:
    store = again(tmp_path, clock, idle=60)
    session, _ = store.start(token(clock))
    for _ in range(5):
        clock.now += 59
        store.check(session)
    clock.now += 60
    with pytest.raises(TokenError, match="idle"):
        store.check(session)
    assert [ended.id for ended in store.expire()] == [session.id]


def test_expire_announces_and_forgets(store: SessionStore, clock: Clock) -> None:
    heard: list[str] = []
    store.on_ended(lambda session, reason: heard.append(reason))
    session, handle = store.start(token(clock))
    clock.now += 3599
    assert store.expire() == ()
    clock.now += 1
    assert [ended.id for ended in store.expire()] == [session.id]
    assert heard == ["it expired"]
    assert store.list() == ()
    assert [s.id for s in store.list(all=True)] == [session.id]
    clock.now += 24 * 3600 + 1
    store.expire()
    assert store.by_handle(handle) is None
    with pytest.raises(TokenError, match="not known"):
        store.check(session)


def test_a_flood_of_sessions(store: SessionStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """One principal cannot fill memory and disk, nor keep others out."""
    monkeypatch.setattr("flowwarden.sessions.store.MAX_SESSIONS", 3)
    made = [store.start(token(clock))[0] for _ in range(3)]
    with pytest.raises(TokenError, match="3 sessions already"):
        store.start(token(clock))
    assert store.start(token(clock, "bob"))
    store.end(made[0].id)
    assert store.start(token(clock))


def test_whoever_hears_of_an_end_finds_the_session_no_longer_live(store: SessionStore, clock: Clock) -> None:
    """Else what clears a session's things could run before something that still keeps more."""
    seen: list[bool] = []
    session, _ = store.start(token(clock))
    store.on_ended(lambda ended, _reason: seen.append(store.is_live(ended.id)))
    assert store.is_live(session.id) and not store.is_live("unknown")
    clock.now = session.expires
    assert store.is_live(session.id), "nobody has been told yet"
    store.expire()
    assert seen == [False]


def test_an_end_counts_even_when_the_disk_does_not_take_it(store: SessionStore, clock: Clock) -> None:
    """A full disk must not keep a session alive: it is ended in memory, listeners hear it, and the error is told."""
    heard: list[str] = []
    store.on_ended(lambda session, reason: heard.append(session.id))
    session, _ = store.start(token(clock))
    store._db._conn.execute("PRAGMA query_only=ON")
    with pytest.raises(StoreError):
        store.end(session.id)
    assert heard == [session.id]
    with pytest.raises(TokenError):
        store.check(session)
    with pytest.raises(StoreError):
        store.start(token(clock))
    assert len(store.list()) == 0


def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be used"):
        SessionStore.open(tmp_path / "state")


def test_uuid7() -> None:
    """RFC 9562 §5.7: version, variant, milliseconds in front, in order of time."""
    made = [uuid.UUID(ids.uuid7(START + n / 1000)) for n in range(50)]
    assert made == sorted(made)
    assert all(one.variant == uuid.RFC_4122 and one.int >> 76 & 0xF == 7 for one in made)
    assert made[7].int >> 80 == int(START * 1000) + 7


class Machine(RuleBasedStateMachine):
    """Against a model: a session is good until it was ended or its time is over, before and after any restart."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.store = again(Path(self.folder.name), self.clock)
        self.model: dict[str, tuple[Session, str, float]] = {}
        self.ended: set[str] = set()

    @rule(subject=st.sampled_from(["alice", "bob"]))
    def start(self, subject: str) -> None:
        session, handle = self.store.start(token(self.clock, subject))
        self.model[session.id] = (session, handle, self.clock.now + 3600)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        session, handle, expires = data.draw(st.sampled_from(list(self.model.values())))
        alive = session.id not in self.ended and self.clock.now < expires
        try:
            self.store.renew(session, token(self.clock, session.principal.subject))
            assert alive
            self.model[session.id] = (session, handle, min(self.clock.now + 3600, session.max_expires))
        except TokenError:
            assert not alive

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(list(self.model)))
        self.store.end(chosen)
        self.ended.add(chosen)

    @rule(seconds=st.sampled_from([1, 600, 3599, 3600]))
    def later(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = again(Path(self.folder.name), self.clock)

    @invariant()
    def agree(self) -> None:
        for session, handle, expires in self.model.values():
            found = self.store.by_handle(handle)
            assert found is not None and found.id == session.id
            try:
                self.store.check(found)
                good = True
            except TokenError:
                good = False
            assert good == (session.id not in self.ended and self.clock.now < expires)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
