"""What the operators' listener and flowwarden.internal work with, handed to them by whoever builds the gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..approval.store import Approvals
from ..identity.rules import Role
from ..identity.tokens import VerifiedToken, Verifier
from ..recording import records
from ..sessions.ids import rfc3339
from ..sessions.store import SessionStore
from ..types import Approval, Principal, Session


def _ready() -> Mapping[str, Any]:
    return {"ready": True}


def _no_metrics() -> str:
    return ""


def _no_record(kind: str, record: dict[str, Any]) -> None:
    return None


@dataclass
class Services:
    """`health` gives at least `ready`; `metrics` Prometheus text; `record` writes a note into the evidence log."""

    verifier: Verifier
    sessions: SessionStore
    approvals: Approvals
    roles: Mapping[str, Role] = field(default_factory=dict)
    ca_pem: Path = Path("state/ca/mitmproxy-ca-cert.pem")
    version: str = ""
    health: Callable[[], Mapping[str, Any]] = _ready
    metrics: Callable[[], str] = _no_metrics
    record: Callable[[str, dict[str, Any]], None] = _no_record
    proxy_url: str = "http://127.0.0.1:8080"
    public_url: str = ""  # where browsers reach the operators' listener; from the request where empty
    clock: Callable[[], float] = time.time
    mask: Callable[[str], str] = str  # over what an agent says of itself, before anybody reads it

    def has_role(self, role: str, principal: Principal) -> bool:
        found = self.roles.get(role)
        return found is not None and found.holds(principal)

    async def operator(self, token: str) -> VerifiedToken:
        """Whoever a bearer token speaks for; TokenError also if it has been revoked."""
        verified = await self.verifier.verify(token)
        self.sessions.refuse_revoked(verified)
        return verified

    def attach(self) -> None:
        """Joins the parts: sessions take their questions with them, and whatever happens is noted as evidence."""
        approver = self.roles.get("approver")
        self.approvals.default_groups = approver.groups if approver else ()
        self.approvals.tokens_of = self.sessions.token_ids
        self.sessions.on_ended(lambda session, reason: self.approvals.end_session(session.id, reason))
        self.sessions.on_started(lambda session, _: self.note_session("start", session))
        self.sessions.on_ended(lambda session, reason: self.note_session("end", session, reason))
        self.approvals.listen(self._note_approval)

    def note_session(self, event: Literal["start", "renew", "end"], session: Session, reason: str = "") -> None:
        self.record("session", records.session_event(event, session, reason))

    def _note_approval(self, event: str, approval: Approval, details: Mapping[str, Any]) -> None:
        """`by` is who answered or revoked; who asked stands in `principal`, who looked in `viewer`."""
        role = {**dict.fromkeys(("asked", "joined", "reopened", "stated"), "principal"), "viewed": "viewer"}.get(
            event, "by"
        )
        record = records.approval_event(
            event,
            approval.id,
            session=approval.session,
            flow=str(details.get("flow") or ""),
            state=approval.state,
            digest=approval.digest,
            reason=str(details.get("reason") or ""),
            summary=approval.summary if event == "asked" else None,
        )
        record[role] = details.get("who")
        if "digest" in details:
            record["request"] = details["digest"]  # what a standing grant let pass
        if "approve" in details:
            record["approve"] = bool(details["approve"])
        self.record("approval", record)


def session_json(session: Session) -> dict[str, Any]:
    """What may be told of a session: nothing that opens anything."""
    return {
        "session": session.id,
        "principal": session.principal.as_json(),
        "start": rfc3339(session.start),
        "expires": rfc3339(session.expires),
        "max_expires": rfc3339(session.max_expires),
        "ended": None if session.ended is None else rfc3339(session.ended),
        "access_key_id": session.phantom.access_key_id,
    }
