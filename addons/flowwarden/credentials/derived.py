"""Credentials that AWS gave to an agent: the real ones stay here, under the phantoms that the agent got for them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from ..signing import keys
from ..types import Credentials, Phantom
from . import phantoms
from .lease import Lease

MOST = 256  # of one session at once; an agent asks for a few


class Derived:
    """Phantoms by key id, with the session they belong to and the lease behind them. Bounded per session."""

    def __init__(self) -> None:
        self._by_key: dict[str, tuple[str, Phantom, Lease]] = {}
        self._of_session: dict[str, OrderedDict[str, None]] = {}

    def mint(self, lease: Lease) -> Phantom:
        """The phantom for real credentials, the same again if they are the same again."""
        held = self._of_session.setdefault(lease.session_id, OrderedDict())
        for key_id in held:
            _, phantom, known = self._by_key[key_id]
            if known.credentials == lease.credentials:
                return phantom
        real = lease.credentials
        phantom = phantoms.mint(
            "ASIA" if real.session_token else "AKIA",
            secret_length=len(real.secret_access_key),
            token_length=len(real.session_token),
        )
        held[phantom.access_key_id] = None
        self._by_key[phantom.access_key_id] = (lease.session_id, phantom, lease)
        if len(held) > MOST:
            self._drop(held.popitem(last=False)[0])
        return phantom

    def find(self, key_id: str) -> tuple[str, Phantom, Lease] | None:
        return self._by_key.get(key_id)

    def forget(self, session_id: str) -> None:
        for key_id in self._of_session.pop(session_id, ()):
            self._drop(key_id)

    def credentials(self) -> list[Credentials]:
        return [lease.credentials for _, _, lease in self._by_key.values()]

    def _drop(self, key_id: str) -> None:
        _, _, lease = self._by_key.pop(key_id)
        keys.forget(lease.credentials.secret_access_key)


def derived_lease(session_id: str, credentials: Credentials, role_arn: str, parent: Lease | None) -> Lease:
    """The lease of credentials out of an answer: the role's account, else the parent's; the parent's accounts."""
    parts = role_arn.split(":")
    account = parts[4] if len(parts) > 5 else parent.account if parent is not None else ""
    base = parent or Lease(session_id, credentials, "", "", (), 0.0)
    return replace(base, credentials=credentials, account=account, role_arn=role_arn, expires=credentials.expires)
