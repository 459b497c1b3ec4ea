"""The vault: the one place in memory where real credentials are. A lease per session, renewed before it ends."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..errors import Refusal
from ..signing import keys
from ..types import Credentials, Operation, Phantom, Principal, Session
from . import swap
from .bounds import refuse
from .denies import Denies
from .derived import Derived, derived_lease
from .lease import Lease
from .rules import CredentialRule, CredentialRules
from .sts import ClientFactory, SandboxSource, Source

__all__ = ["Lease", "Vault"]

MARGIN = 20.0  # seconds before its end from which a lease is not used any more: the call has to reach AWS
WAIT = 12.0  # seconds that a call waits for STS
RETRY = 15.0  # seconds between attempts to renew
AGAIN = 2.0  # seconds for which a refusal is remembered, so that an SDK's retries do not all ask STS
_ENDED = 10_000


@dataclass(slots=True, eq=False)
class _Entry:
    session: Session
    rule: CredentialRule
    lease: Lease | None = None
    used: bool = False  # since the lease was obtained
    task: asyncio.Task[Lease] | None = None
    refusal: Refusal | None = None
    retry_at: float = 0.0
    timers: tuple[asyncio.TimerHandle, ...] = ()


class Vault:
    """Leases by session, derived phantoms by key id. Used from one event loop; STS is asked in threads."""

    def __init__(
        self,
        rules: CredentialRules,
        *,
        sandbox_url: str | None = None,
        client_factory: ClientFactory | None = None,
        denies: Callable[[Principal], Denies] = lambda _principal: Denies(),
        note: Callable[[str, dict[str, Any]], None] = lambda _kind, _record: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`denies` gives what the session policy should deny (asked in a thread); `note` takes events without secrets.

        With `sandbox_url` the keys are random, STS is the sandbox's own, and real sources are never touched.
        """
        self.rules = rules
        self.refuse = ""  # a reason for which nobody gets real credentials; never applies to a sandbox
        self._sandbox = sandbox_url is not None
        self._source = SandboxSource(sandbox_url, client_factory) if sandbox_url is not None else Source(client_factory)
        self._denies = denies
        self._note = note
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._derived = Derived()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="flowwarden-sts")

    def current(self, session_id: str) -> Lease | None:
        """The lease of a session if it is good for a call now; starts its renewal when its end is near."""
        entry = self._entries.get(session_id)
        if entry is None or entry.lease is None:
            return None
        now = self._clock()
        left = entry.lease.expires - now
        if left <= MARGIN:
            return None
        entry.used = True
        if left < renew_before(entry.rule) and entry.task is None and now >= entry.retry_at:
            self._renew(entry)
        return entry.lease

    async def lease(self, session: Session) -> Lease:
        """The lease of a session, from STS if there is none. One request at a time per session.

        Raises Refusal: 403 if no entry is for this principal or STS refuses for good, 503 if STS cannot be asked or does
        not answer within WAIT seconds.
        """
        if session.ended is not None or session.id in self._ended:
            raise refuse("the session has ended", "ExpiredToken")
        found = self.current(session.id)
        if found is not None:
            return found
        entry = self._entry(session)
        if entry.refusal is not None and self._clock() < entry.retry_at:
            raise _again(entry.refusal)
        task = entry.task or self._start(entry)
        done, _ = await asyncio.wait({task}, timeout=WAIT)
        if not done:
            raise refuse("STS has not answered yet: try again", "ServiceUnavailable", 503)
        if task.cancelled():
            raise refuse("the session has ended", "ExpiredToken")
        failure = task.exception()
        if isinstance(failure, Refusal):
            raise _again(failure)
        if failure is not None:
            raise refuse("the lease could not be obtained", "ServiceUnavailable", 503)
        lease = task.result()
        if lease.expires - self._clock() <= MARGIN:  # the machine slept, or its clock was set, while it was fetched
            raise refuse("the lease ran out before it could be used: try again", "ServiceUnavailable", 503)
        entry.used = True
        return lease

    def take_up(self, rules: CredentialRules) -> None:
        """Goes on under changed rules: a lease whose entry is no longer its session's is dropped at once."""
        self.rules = rules
        for session_id, entry in list(self._entries.items()):
            if rules.match(entry.session.principal) != entry.rule:
                if entry.task is not None:
                    entry.task.cancel()
                self._drop(self._entries.pop(session_id))
                self._derived.forget(session_id)

    def forget(self, session_id: str) -> None:
        """Drops everything of a session that has ended; what STS still answers for it is thrown away."""
        self._ended[session_id] = None
        if len(self._ended) > _ENDED:
            self._ended.popitem(last=False)
        entry = self._entries.pop(session_id, None)
        if entry is not None:
            if entry.task is not None:
                entry.task.cancel()
            self._drop(entry)
        self._derived.forget(session_id)

    def mint_for(self, session_id: str, credentials: Credentials, *, role_arn: str = "") -> Phantom:
        """Keeps credentials out of an answer, and gives the phantom of the same shape that stands for them here.

        `role_arn`: the role they are of, where the answer says so. Raises Refusal if the session has ended.
        """
        if session_id in self._ended:
            raise refuse("the session has ended", "ExpiredToken")
        entry = self._entries.get(session_id)
        lease = derived_lease(session_id, credentials, role_arn, entry.lease if entry is not None else None)
        if entry is not None:
            lease = Lease(
                session_id,
                credentials,
                lease.account or entry.rule.account,
                role_arn,
                entry.rule.accounts,
                lease.expires,
            )
        phantom = self._derived.mint(lease)
        self._note("derived", _record(lease))
        return phantom

    def swap(self, session_id: str, operation: Operation, content_type: str, body: bytes) -> tuple[bytes, int]:
        """An answer with phantoms for the credentials in it, which stay here; see `swap.swap`."""
        role_arn = swap.role_of(body) if swap.vends(operation) else ""
        return swap.swap(operation, content_type, body, lambda real: self.mint_for(session_id, real, role_arn=role_arn))

    def by_key(self, access_key_id: str) -> tuple[str, Phantom, Lease] | None:
        """Session id, phantom and lease behind a derived phantom's key id."""
        return self._derived.find(access_key_id)

    def secrets(self) -> list[str]:
        """Every real secret string in memory. For tests that look for leaks, and for nothing else."""
        held = [entry.lease.credentials for entry in self._entries.values() if entry.lease is not None]
        held += self._derived.credentials()
        found = {text for one in held for text in (one.secret_access_key, one.session_token) if text}
        return sorted(found | set(self._source.secrets()))

    def close(self) -> None:
        """Forgets everything and stops the threads."""
        for session_id in list(self._entries):
            self.forget(session_id)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _entry(self, session: Session) -> _Entry:
        rule = self.rules.match(session.principal)
        if self.refuse and not self._sandbox:
            raise refuse(self.refuse)
        if rule is None:
            groups = ", ".join(sorted(session.principal.groups)) or "none"
            raise refuse(f"no entry of `credentials` in identity.yaml is for this session (groups: {groups})")
        entry = self._entries.get(session.id)
        if entry is None:
            entry = self._entries[session.id] = _Entry(session, rule)
        entry.session, entry.rule = session, rule
        return entry

    def _renew(self, entry: _Entry) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # asked from outside the loop: the next call renews
            return
        self._start(entry)

    def _start(self, entry: _Entry) -> asyncio.Task[Lease]:
        entry.task = asyncio.create_task(self._obtain(entry), name=f"lease {entry.session.id}")
        entry.task.add_done_callback(_looked_at)
        return entry.task

    async def _obtain(self, entry: _Entry) -> Lease:
        loop = asyncio.get_running_loop()
        session, rule = entry.session, entry.rule
        try:
            lent = await loop.run_in_executor(
                self._threads, self._source.obtain, rule, session, lambda: self._denies(session.principal)
            )
        except Refusal as refusal:
            entry.refusal = refusal
            now = self._clock()
            entry.retry_at = now + (RETRY if entry.lease is not None and entry.lease.expires > now + MARGIN else AGAIN)
            self._note("failed", {"session": session.id, "reason": refusal.message})
            raise
        finally:
            entry.task = None
        lease = Lease(
            session.id, lent.credentials, lent.account, lent.role_arn, rule.accounts, lent.credentials.expires
        )
        if self._entries.get(session.id) is not entry:
            raise refuse("the session has ended", "ExpiredToken")
        self._keep(entry, lease)
        self._note("lease", {**_record(lease), "denies_left_out": lent.denies_left_out})
        return lease

    def _keep(self, entry: _Entry, lease: Lease) -> None:
        self._drop(entry)
        entry.lease, entry.used, entry.refusal, entry.retry_at = lease, False, None, 0.0
        left = max(0.0, lease.expires - self._clock())
        loop = asyncio.get_running_loop()
        entry.timers = (
            loop.call_later(max(0.0, left - renew_before(entry.rule)), self._due, entry, lease),
            loop.call_later(left, self._over, entry, lease),
        )

    def _due(self, entry: _Entry, lease: Lease) -> None:
        """Renews a lease in use; one that nobody used is left to end."""
        if entry.lease is lease and entry.used and entry.task is None:
            self._start(entry)

    def _over(self, entry: _Entry, lease: Lease) -> None:
        if entry.lease is lease:
            self._drop(entry)

    def _drop(self, entry: _Entry) -> None:
        for timer in entry.timers:
            timer.cancel()
        entry.timers = ()
        if entry.lease is not None:
            keys.forget(entry.lease.credentials.secret_access_key)
            entry.lease = None


def renew_before(rule: CredentialRule) -> float:
    """Seconds before its end at which a lease is renewed: a third of its life, at most five minutes."""
    return min(300.0, rule.duration / 3)


def _again(refusal: Refusal) -> Refusal:
    """A refusal to raise once more: the remembered one must not gather tracebacks."""
    return refuse(refusal.message, refusal.code, refusal.status)


def _looked_at(task: asyncio.Task[Lease]) -> None:
    """A background renewal that failed has been noted already."""
    if not task.cancelled():
        task.exception()


def _record(lease: Lease) -> dict[str, Any]:
    return {
        "session": lease.session_id,
        "account": lease.account,
        "role": lease.role_arn,
        "access_key_id": lease.credentials.access_key_id,
        "expires": lease.expires,
    }
