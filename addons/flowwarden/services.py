"""Services: what the stations share, built once from options and rules. Pure: no mitmproxy here."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .approval.running import Running
from .approval.spool import Spools
from .connect.addresses import Network
from .errors import ConfigError
from .masking.copies import Copies
from .masking.writeback import MaskedObjects
from .recording.repeats import Repeats
from .signing.issued import IssuedUrls

if TYPE_CHECKING:
    from .approval.notify import Notifier
    from .approval.store import Approvals
    from .credentials.rules import CredentialRule
    from .credentials.vault import Vault
    from .identity.rules import IdentityRules
    from .identity.tokens import Verifier
    from .masking.masker import Masker
    from .masking.rules import MaskRules
    from .operators.services import Services as OperatorServices
    from .policy.watch import Rules
    from .recognition.recogniser import Recogniser
    from .recording.anchor import Anchors
    from .recording.indexer import Indexer
    from .recording.recorder import Recorder
    from .sessions.store import SessionStore
    from .types import Principal, Session
    from .wire.memory import Memory


@dataclass(frozen=True)
class Sandbox:
    """Where every AWS call goes in sandbox mode."""

    url: str
    address: tuple[str, int]
    tls: bool


def sandbox(url: str, named_host: str = "") -> Sandbox | None:
    """`warden_sandbox` as an address; ConfigError unless it is on loopback or `named_host` is its host."""
    if not url:
        return None
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ConfigError(f"warden_sandbox has to be a URL such as http://127.0.0.1:5000, not {url!r}")
    if parts.hostname not in ("127.0.0.1", "::1", "localhost") and parts.hostname != named_host:
        raise ConfigError(
            f"warden_sandbox is not on this machine: {parts.hostname}",
            "Name it with --sandbox-host if it is a sandbox all the same",
        )
    tls = parts.scheme == "https"
    return Sandbox(url.rstrip("/"), (parts.hostname, port or (443 if tls else 80)), tls)


@dataclass
class Services:
    """One gateway's parts. `dialled` maps a server connection's id to the name that its address was resolved from."""

    identity: IdentityRules
    verifier: Verifier
    sessions: SessionStore
    recogniser: Recogniser
    rules: Rules
    approvals: Approvals
    vault: Vault
    masks: MaskRules
    recorder: Recorder
    indexer: Indexer
    operators: OperatorServices
    sandbox: Sandbox | None = None
    private_networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset({443, 80})
    http2_hosts: tuple[str, ...] = ()
    body_limit: int = 32 << 20
    memory: Memory | None = None  # that bodies may take; None: the defaults
    running: Running = field(default_factory=Running)
    spools: Spools = field(default_factory=lambda: Spools(Path(), 0))
    is_aws_host: Callable[[str], bool] = lambda _host: False
    clock: Callable[[], float] = time.time
    issued: IssuedUrls = field(init=False)
    masked_objects: MaskedObjects = field(init=False)
    copies: Copies = field(init=False)
    anchors: Anchors | None = None
    notifier: Notifier | None = None
    dialled: dict[str, tuple[str, int]] = field(default_factory=dict)
    mask_key: bytes = b""
    repeats: Repeats = field(init=False)
    _maskers: dict[frozenset[str], Masker] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # calls by decision and outcome

    def __post_init__(self) -> None:
        self.issued = IssuedUrls(self.sessions.is_live)
        self.masked_objects = MaskedObjects(self.sessions.is_live)
        self.copies = Copies(self.sessions.is_live)
        self.repeats = Repeats(lambda record: self.note("tunnel", record))

    def lending(self, session: Session | None) -> CredentialRule | None:
        """Which real credentials a session gets; None: none."""
        return self.vault.rules.match(session.principal) if session is not None else None

    def acting(self, session: Session | None, key: str) -> tuple[str, str]:
        """Account and role of the real credentials behind a key of the session's: its lease's, or an assumed role's."""
        derived = self.vault.by_key(key) if key else None
        if derived is not None and session is not None and derived[0] == session.id and derived[2].account:
            return derived[2].account, derived[2].role_arn
        lending = self.lending(session)
        if lending is None:
            return "", ""
        return lending.account, lending.assume_role[-1] if lending.assume_role else ""

    def masker(self, principal: Principal | None) -> Masker:
        """The masker for a principal's groups."""
        groups = principal.groups if principal is not None else frozenset[str]()
        found = self._maskers.get(groups)
        if found is None:
            if len(self._maskers) > 1000:
                self._maskers.clear()
            found = self._maskers[groups] = self.masks.for_groups(groups)
        return found

    def note(self, kind: str, record: dict[str, Any]) -> None:
        """Puts a record into the evidence log without waiting."""
        self.recorder.note(kind, record)

    def session_key(self, session_id: str) -> bytes:
        """The key of a session's hash masks: stable within the session, told to nobody."""
        return hashlib.blake2b(session_id.encode(), key=self.mask_key[:64], digest_size=32).digest()
