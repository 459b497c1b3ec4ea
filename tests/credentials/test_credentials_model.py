"""The vault against a model: whatever the order of leases, time, failures, ends, and credentials out of answers."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowwarden.credentials import phantoms
from flowwarden.credentials.rules import CredentialRule, CredentialRules
from flowwarden.credentials.sts import Lent
from flowwarden.credentials.vault import MARGIN, Vault
from flowwarden.errors import Refusal
from flowwarden.signing import keys
from flowwarden.types import Credentials, Principal, Session

NAMES = st.sampled_from(["a", "b", "c"])


class FakeSource:
    """Gives credentials for 900 seconds of the model's time, or fails; remembers whose each was."""

    def __init__(self) -> None:
        self.now, self.down = 1000.0, False
        self.given: dict[str, str] = {}

    def obtain(self, _rule, session, _denies) -> Lent:
        if self.down:
            raise Refusal("down", status=503, code="ServiceUnavailable")
        real = Credentials(
            "ASIA" + secrets.token_hex(8).upper(), secrets.token_hex(20), secrets.token_hex(50), self.now + 900
        )
        self.given[real.secret_access_key] = session.id
        return Lent(real, "123456789012", "arn:aws:iam::123456789012:role/r")

    def secrets(self) -> list[str]:
        return []


class VaultModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.source = FakeSource()
        self.vault = Vault(
            CredentialRules((CredentialRule(accounts=("123456789012",)),)), clock=lambda: self.source.now
        )
        self.vault._source = self.source
        self.sessions: dict[str, Session] = {}
        self.ended: set[str] = set()
        self.derived: dict[str, tuple[str, Credentials]] = {}

    def session(self, name: str) -> Session:
        """The session that now goes by this name."""
        if name not in self.sessions:
            one = Session(f"{name}-{secrets.token_hex(4)}", Principal("i", name), 0, 1e12, 1e12, "", phantoms.mint())
            self.sessions[name] = one
        return self.sessions[name]

    @rule(name=NAMES)
    def lease(self, name: str) -> None:
        one = self.session(name)
        had = self.vault.current(one.id)
        refusal, found = None, None
        try:
            found = self.loop.run_until_complete(self.vault.lease(one))
        except Refusal as refused:
            refusal = refused
        if found is None:
            assert refusal.status == 503 and had is None
            return
        assert self.source.given[found.credentials.secret_access_key] == found.session_id == one.id
        assert found.expires > self.source.now + MARGIN

    @rule(name=NAMES)
    def ends(self, name: str) -> None:
        one = self.session(name)
        self.vault.forget(one.id)
        self.ended.add(one.id)
        del self.sessions[name]
        for call in (lambda: self.loop.run_until_complete(self.vault.lease(one)), lambda: self.mint(one)):
            with pytest.raises(Refusal) as refused:
                call()
            assert refused.value.code == "ExpiredToken"

    def mint(self, one: Session) -> None:
        real = Credentials("ASIA" + secrets.token_hex(8).upper(), secrets.token_hex(20), secrets.token_hex(50))
        phantom = self.vault.mint_for(one.id, real)
        assert phantom.secret_access_key != real.secret_access_key
        self.derived[phantom.access_key_id] = (one.id, real)

    @rule(name=NAMES)
    def derive(self, name: str) -> None:
        self.mint(self.session(name))

    @rule(seconds=st.sampled_from([1, 100, 400, 899, 5000]))
    def time_passes(self, seconds: float) -> None:
        self.source.now += seconds

    @rule()
    def sts_changes(self) -> None:
        self.source.down = not self.source.down

    @precondition(lambda self: self.sessions)
    @rule()
    def background(self) -> None:
        """Lets renewals that are under way come to their end."""
        tasks = [entry.task for entry in self.vault._entries.values() if entry.task is not None]
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))

    @invariant()
    def nothing_of_ended_sessions(self) -> None:
        held = {text for text in self.vault.secrets() if text in self.source.given}
        for secret in held | (set(self.source.given) & keys._keys.keys()):
            assert self.source.given[secret] not in self.ended

    @invariant()
    def each_has_its_own(self) -> None:
        for one in self.sessions.values():
            found = self.vault.current(one.id)
            assert found is None or self.source.given[found.credentials.secret_access_key] == one.id
        for key_id, (session_id, real) in self.derived.items():
            known = self.vault.by_key(key_id)
            if session_id in self.ended:
                assert known is None
            else:
                assert known is not None and (known[0], known[2].credentials) == (session_id, real)

    def teardown(self) -> None:
        self.vault.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


TestVaultModel = VaultModel.TestCase
TestVaultModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
