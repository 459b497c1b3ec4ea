"""The evidence records: what each type holds, and helpers that build them. The recorder adds seq, prev, time and type.

All values are plain JSON: text, whole numbers, true, false, null, lists and mappings. Hashes are SHA-256 in hex.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NotRequired, TypedDict

from ..types import Call, Decision, Principal, Request, Session

Ending = Literal["ok", "refused", "error", "unknown", "cut"]
UNKNOWN: Ending = "unknown"
TYPES = frozenset(
    {
        "start", "stop", "gap", "key", "rules", "session", "intent", "decision", "approval", "outcome",
        "tunnel", "alarm", "anchor", "removal",
    }
)  # fmt: skip


def aftermath(record: Mapping[str, Any]) -> bool:
    """Whether a record is one that a start puts down together with itself: what a crash left."""
    return record["type"] == "gap" or (record["type"] == "outcome" and record.get("outcome") == UNKNOWN)


class About(TypedDict):
    """What a record says of the call itself: in an intent, or in the outcome of a call that was refused without one."""

    flow: str
    session: str
    principal: dict[str, Any] | None
    service: str
    signing_name: str  # of the credential scope, so that a replay can sign though no signature is recorded
    operation: str
    actions: list[str]
    resources: list[str | None]
    region: str
    account: str
    scheme: str
    host: str
    port: int
    method: str
    path: str
    request_sha256: str | None  # of the body's bytes on the wire; None while it streams
    request_bytes: int | None
    decision: str  # allow | deny | approve; empty where nothing was decided
    rules: list[str]
    rules_digest: str
    approval: str  # id of the approval that let it pass
    lease: str  # the real access key id that signs it, never more of the lease than that
    role: NotRequired[str]  # ARN of the role that the lease is of
    source_identity: str


class FrameAt(TypedDict):
    """Where a frame lies: file below recordings/, offset and length in bytes."""

    file: str
    offset: int
    length: int
    sha256: str


class BodyAt(TypedDict):
    """A body outside its frame: what its hash and size are, and whether it was kept in bodies/."""

    of: Literal["request", "response", "websocket"]
    sha256: str
    size: int
    kept: bool
    sent_sha256: NotRequired[str]  # of the bytes on the wire, where masks changed what is kept
    withheld: NotRequired[str]  # why a body is not kept that could not be masked


class Outcome(TypedDict):
    """How a flow ended. `intent` is the intent's seq, None where the call was refused before one."""

    flow: str
    session: str
    intent: int | None
    outcome: Ending
    status: int | None
    code: str  # AWS's error code, or the gateway's reason
    reason: str
    masks: dict[str, int]
    bytes: int
    aws_request_id: str
    bodies: list[BodyAt]
    about: NotRequired[About]
    frame: NotRequired[FrameAt]
    received: NotRequired[str]


def about(
    flow: str,
    request: Request,
    *,
    session: Session | None = None,
    principal: Principal | None = None,
    call: Call | None = None,
    decision: Decision | None = None,
    path: str | None = None,
    body_sha256: str | None = None,
    approval: str = "",
    lease: str = "",
    source_identity: str = "",
) -> About:
    """What a call is, in a record's words. `path` replaces the request's target where a mask changed it."""
    operation = call.operation if call else None
    who = principal or (session.principal if session else None)
    return {
        "flow": flow,
        "session": session.id if session else "",
        "principal": who.as_json() if who else None,
        "service": operation.service if operation else "",
        "signing_name": call.signing_name if call else "",
        "operation": operation.name if operation else "",
        "actions": [action.name for action in call.actions] if call else [],
        "resources": list(call.resources) if call else [],
        "region": call.region if call else "",
        "account": call.account if call else "",
        "scheme": request.scheme,
        "host": request.host,
        "port": request.port,
        "method": request.method,
        "path": request.target if path is None else path,
        "request_sha256": body_sha256,
        "request_bytes": None if request.body is None else len(request.body),
        "decision": decision.effect if decision else "",
        "rules": list(decision.rules) if decision else [],
        "rules_digest": decision.digest if decision else "",
        "approval": approval,
        "lease": lease,
        "source_identity": source_identity,
    }


def outcome(
    flow: str,
    ending: Ending,
    *,
    intent: int | None,
    session: str = "",
    status: int | None = None,
    code: str = "",
    reason: str = "",
    masks: Mapping[str, int] | None = None,
    size: int = 0,
    aws_request_id: str = "",
    bodies: Iterable[BodyAt] = (),
    call: About | None = None,
) -> dict[str, Any]:
    """How a flow ended. `call` is needed where there is no intent, so that a refused call is known as well as others."""
    record: dict[str, Any] = {
        "flow": flow,
        "session": session,
        "intent": intent,
        "outcome": ending,
        "status": status,
        "code": code,
        "reason": reason,
        "masks": dict(masks or {}),
        "bytes": size,
        "aws_request_id": aws_request_id,
        "bodies": list(bodies),
    }
    if call is not None:
        record["about"] = call
    return record


def session_event(event: Literal["start", "renew", "end"], session: Session, reason: str = "") -> dict[str, Any]:
    """A session began, was renewed or ended. Phantom secrets and the handle's hash stay out of it."""
    return {
        "event": event,
        "session": session.id,
        "principal": session.principal.as_json(),
        "started": _seconds(session.start),
        "expires": _seconds(session.expires),
        "phantom": session.phantom.access_key_id,
        "reason": reason,
    }


def lease_event(
    session: str,
    *,
    access_key_id: str,
    role: str,
    account: str,
    expires: float,
    source_identity: str = "",
    event: str = "lease",
) -> dict[str, Any]:
    """A lease was taken or renewed for a session (a record of type `session`). Only the key's id is written."""
    return {
        "event": event,
        "session": session,
        "access_key_id": access_key_id,
        "role": role,
        "account": account,
        "expires": _seconds(expires),
        "source_identity": source_identity,
    }


def approval_event(
    event: str, approval: str, *, session: str, flow: str = "", by: Principal | None = None, state: str = "", digest: str = "",
    reason: str = "", summary: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A question was asked, answered, revoked or spent. `by` is the human who answered."""
    return {
        "event": event,
        "approval": approval,
        "session": session,
        "flow": flow,
        "by": by.as_json() if by else None,
        "state": state or event,
        "digest": digest,
        "reason": reason,
        "summary": dict(summary or {}),
    }


def decision(
    refused: str, *, flow: str = "", session: str = "", host: str = "", port: int = 0, code: str = "", station: str = ""
) -> dict[str, Any]:
    """Something was refused before it became a request: a tunnel, a token, a protocol."""
    return {
        "decision": "deny",
        "flow": flow,
        "session": session,
        "host": host,
        "port": port,
        "code": code,
        "station": station,
        "reason": refused,
    }


def rules_event(
    digest: str, *, event: str = "loaded", files: Mapping[str, str] | None = None, problem: str = ""
) -> dict[str, Any]:
    """A rule set was loaded, or refused and the last good one kept. `files` are the digests by file name."""
    return {"event": event, "digest": digest, "files": dict(files or {}), "problem": problem}


def alarm(kind: str, message: str, **more: Any) -> dict[str, Any]:
    """Something that an operator has to hear of."""
    return {"kind": kind, "message": message, **more}


def _seconds(moment: float) -> int:
    return int(moment)
