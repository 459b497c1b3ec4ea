"""From options to services: every part that the stations share, each made of what it needs and joined to the others."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mitmproxy import options as moptions

from . import __version__, health, options
from .approval import notify
from .approval.notify import Notifier
from .approval.spool import Spools
from .approval.store import Approvals
from .connect import addresses
from .credentials import denies, phantoms
from .credentials import rules as credential_rules
from .credentials.vault import Vault
from .errors import ConfigError
from .identity import rules as identity_rules
from .identity.tokens import Verifier
from .masking import rules as mask_rules
from .masking.rules import MaskRules
from .operators.services import Services as OperatorServices
from .policy.watch import Rules
from .recognition.recogniser import Recogniser
from .recording.anchor import Anchors, from_option
from .recording.indexer import Indexer
from .recording.recorder import Recorder
from .services import Services, sandbox
from .sessions.state import private_folder
from .sessions.store import SessionStore
from .types import Session
from .wire.memory import Memory

CA = "mitmproxy-ca-cert.pem"


def services(opts: moptions.Options) -> Services:
    """Every part that the stations share. Nothing is half-made: an error leaves no lock and no thread behind."""
    rules_folder, state = Path(opts.warden_rules), Path(opts.warden_state)
    options.address(opts.warden_admin_listen, "warden_admin_listen")
    box = sandbox(opts.warden_sandbox, opts.warden_sandbox_host)
    limit = options.size(opts.warden_body_limit, "warden_body_limit")
    memory = _memory(opts, limit)
    spool_limit = options.size(opts.warden_spool_limit, "warden_spool_limit")
    private = addresses.networks(opts.warden_private_networks)
    for name in ("warden_drain", "warden_retention"):
        options.duration(getattr(opts, name) or "0s", name)
    ports = _ports(opts.warden_ports)
    if opts.warden_signing_key and not Path(opts.warden_signing_key).parent.is_dir():
        raise ConfigError(f"warden_signing_key: there is no folder {Path(opts.warden_signing_key).parent}")
    rules = Rules(rules_folder)
    identity = identity_rules.load(rules_folder / "identity.yaml")
    lending = credential_rules.load(rules_folder / "identity.yaml")
    masks = mask_rules.load(rules_folder / "masks.yaml")
    _state_folder(state)
    recogniser = Recogniser()
    name_hosts(recogniser, rules)
    indexer = Indexer(Path(opts.warden_recordings))
    anchor = from_option(opts.warden_anchor)  # like all that may be wrong: before a run is recorded
    recorder = Recorder.open(
        Path(opts.warden_recordings),
        state,
        configuration={
            "version": __version__,
            "policy": rules.current.digest,
            "identity": identity.digest,
            "masks": masks.digest,
            "sandbox": box.url if box else "",
        },
        key=Path(opts.warden_signing_key) if opts.warden_signing_key else None,
        committed=indexer.wake,
    )
    try:
        sessions = SessionStore.open(state, rules=identity.sessions, mint=phantoms.mint)
        approvals = Approvals.open(state)
        verifier = Verifier(identity)
        operators = OperatorServices(
            verifier=verifier,
            sessions=sessions,
            approvals=approvals,
            roles=identity.roles,
            ca_pem=state / "ca" / CA,
            version=__version__,
            record=recorder.note,
            mask=_mask_of_all(masks),
        )
        operators.attach()
        vault = Vault(
            lending,
            sandbox_url=box.url if box else None,
            denies=lambda principal: denies.compiled(
                rules.current.rules, principal, closed=rules.current.default == "deny"
            ),
            note=lambda kind, record: _note_lease(recorder, kind, record),
        )
        notifying = notify.load(rules_folder / "identity.yaml")
        notifier = Notifier(notifying, mask=_mask_of_all(masks))
        approvals.listen(notifier.tell)
    except BaseException:
        recorder.close_now()
        raise
    made = Services(
        identity=identity,
        verifier=verifier,
        sessions=sessions,
        recogniser=recogniser,
        rules=rules,
        approvals=approvals,
        vault=vault,
        masks=masks,
        recorder=recorder,
        indexer=indexer,
        operators=operators,
        sandbox=box,
        private_networks=private,
        ports=ports,
        http2_hosts=tuple(opts.warden_http2_hosts),
        body_limit=limit,
        memory=memory,
        spools=Spools(state, spool_limit),
        is_aws_host=lambda host: recogniser.hosts.find(host) is not None,
        mask_key=secrets.token_bytes(32),
    )
    made.notifier = notifier
    approvals.listen(made.running.tell)
    for lost in approvals.recover():
        health.alarm(made, "approval", f"approval {lost.id} was used by a call whose outcome is unknown")
    made.anchors = Anchors(recorder, [anchor] if anchor else [])
    sessions.on_ended(lambda session, _reason: _forget(made, session))
    operators.public_url = notifying.link
    operators.health = lambda: health.health(made)
    operators.metrics = lambda: health.metrics(made)
    for alarm in rules.current.alarms:
        health.alarm(made, "rules", alarm)
    return made


def _note_lease(recorder: Recorder, kind: str, record: dict[str, Any]) -> None:
    expires = record.pop("expires", None)
    recorder.note("session", {"event": kind, **record, **({"expires": int(expires)} if expires else {})})


def name_hosts(recogniser: Recogniser, rules: Rules) -> None:
    """Endpoints of AWS that anybody can own (execute-api, Lambda URLs) count as AWS where a rule names them exactly."""
    named = rules.current.hosts_exact()
    recogniser.extra_hosts = frozenset(host for host in named if recogniser.hosts.find(host) is not None)


def _forget(made: Services, session: Session) -> None:
    """A session has ended: nothing of it stays in memory."""
    made.vault.forget(session.id)
    made.issued.forget(session.id)
    made.masked_objects.forget(session.id)
    made.copies.forget(session.id)


def _mask_of_all(masks: MaskRules) -> Callable[[str], str]:
    """Every mask that there is: a notification goes to people of whom the rules know nothing."""
    groups = frozenset(group for mask in masks.masks for group in mask.groups or ())
    return masks.for_groups(groups).mask_text


def _memory(opts: moptions.Options, body_limit: int) -> Memory:
    """How much of bodies is held at once; ConfigError for bounds under which a body that is allowed would never pass."""
    names = ("warden_session_memory", "warden_memory")
    session, whole = (options.size(getattr(opts, name), name) for name in names)
    if not body_limit <= session <= whole:
        raise ConfigError(
            "warden_body_limit, warden_session_memory and warden_memory have to rise",
            "One body of a session has to fit into its share, and that into the whole",
        )
    return Memory(session, whole)


def _ports(texts: Sequence[str]) -> frozenset[int]:
    if not texts or not all(text.isdigit() and 0 < int(text) < 65536 for text in texts):
        raise ConfigError(f"warden_ports has to be a list of port numbers, not {list(texts)!r}")
    return frozenset(int(text) for text in texts)


def _state_folder(path: Path) -> None:
    """A folder that nobody else can read; ConfigError."""
    try:
        private_folder(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be made: {error.strerror}", "warden_state has to name a folder of the gateway's own"
        ) from None
