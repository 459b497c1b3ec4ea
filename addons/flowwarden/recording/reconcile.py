"""The recording beside CloudTrail: which calls of the gateway's roles did not pass it, which of its calls are not there."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .clock import posix
from .read import outcomes, records

SLACK = (
    900.0  # seconds at both ends of the trail's span in which a missing call says nothing: delivery takes up to 15 min
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One call, as CloudTrail (event) or the gateway (flow) knows it."""

    request_id: str
    time: str
    action: str
    principal: str
    source_identity: str
    where: str  # CloudTrail's event id, or the flow's id


@dataclass
class Reconciled:
    """`matched` calls are in both. `beside` did not pass the gateway, `missing` are not in the trail."""

    matched: int = 0
    beside: list[Seen] = field(default_factory=list)
    missing: list[Seen] = field(default_factory=list)
    without_id: int = 0  # the gateway's calls whose answer had no request id
    events: int = 0

    @property
    def exit_code(self) -> int:
        """1 if a call did not pass the gateway."""
        return 1 if self.beside else 0


def reconcile(folder: Path, files: Iterable[Path], *, roles: Iterable[str] = ()) -> Reconciled:
    """Compares a recording with exported CloudTrail files (JSON, JSON lines, or either in gzip).

    An event is one of ours if it was signed with a lease's key, bears a lease's source identity, or was made by a role
    that a lease was taken from or that `roles` names. Calls without data events in the trail show up as missing.
    """
    keys, identities, known = _ours(folder)
    known |= set(roles)
    known |= {_sessions_of(role) for role in known}
    calls = list(_flows(folder))
    result = Reconciled(without_id=sum(not request_id for request_id, _ in calls))
    flows = dict(calls)
    flows.pop("", None)
    first, last = float("inf"), float("-inf")
    found: set[str] = set()
    for event in _events(files):
        moment = posix(str(event.get("eventTime", "")))
        first, last = min(first, moment), max(last, moment)
        seen = _event(event)
        result.events += 1
        if seen.request_id in flows:
            found.add(seen.request_id)
        elif _is_ours(event, keys, identities, known):
            result.beside.append(seen)
    result.matched = len(found)
    result.missing = [
        seen
        for request_id, seen in flows.items()
        if request_id not in found and first - SLACK <= posix(seen.time) <= last - SLACK
    ]
    return result


def _ours(folder: Path) -> tuple[set[str], set[str], set[str]]:
    """Key ids, source identities and roles of the leases."""
    leases = [record for _, record in records(folder) if record["type"] == "session" and record.get("event") == "lease"]
    return (
        {str(lease["access_key_id"]) for lease in leases if lease.get("access_key_id")},
        {str(lease["source_identity"]) for lease in leases if lease.get("source_identity")},
        {str(lease["role"]) for lease in leases if lease.get("role")},
    )


def _flows(folder: Path) -> Iterator[tuple[str, Seen]]:
    """The gateway's calls that AWS answered, by request id."""
    for call, end in outcomes(folder):
        if end["outcome"] == "refused" or not call.get("service"):
            continue
        principal = call.get("principal") or {}
        request_id = str(end.get("aws_request_id", ""))
        yield (
            request_id,
            Seen(
                request_id,
                str(call.get("time", "")),
                f"{call.get('service', '')}:{call.get('operation', '')}",
                str(principal.get("subject", "")),
                str(call.get("source_identity", "")),
                str(call.get("flow", "")),
            ),
        )


def _events(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for path in files:
        try:
            data = path.read_bytes()
            if data[:2] == b"\x1f\x8b":
                data = gzip.decompress(data)
            yield from _parsed(data)
        except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
            raise StoreError(
                f"{path} is not a CloudTrail file: {error}", "Expected the JSON that CloudTrail delivers to S3"
            ) from None


def _parsed(data: bytes) -> list[dict[str, Any]]:
    try:
        found = json.loads(data)
    except ValueError:
        found = [json.loads(line) for line in data.splitlines() if line.strip()]
    if isinstance(found, dict):
        found = found.get("Records", [found])
    return [_checked(event) for event in found]


def _checked(event: Any) -> dict[str, Any]:
    """An event; what `aws cloudtrail lookup-events` prints has it as text inside. ValueError for anything else."""
    if isinstance(event, dict) and "CloudTrailEvent" in event:
        event = json.loads(event["CloudTrailEvent"])
    if not isinstance(event, dict) or "eventTime" not in event or "eventName" not in event:
        raise ValueError("an entry that is not an event")
    posix(str(event["eventTime"]))
    return event


def _event(event: dict[str, Any]) -> Seen:
    identity = event.get("userIdentity") or {}
    source = str(event.get("eventSource", "")).partition(".")[0]
    return Seen(
        str(event.get("requestID") or ""),
        str(event["eventTime"]),
        f"{source}:{event['eventName']}",
        str(identity.get("arn", "")),
        str((identity.get("sessionContext") or {}).get("sourceIdentity", "")),
        str(event.get("eventID", "")),
    )


def _is_ours(event: dict[str, Any], keys: set[str], identities: set[str], roles: set[str]) -> bool:
    identity = event.get("userIdentity") or {}
    context = identity.get("sessionContext") or {}
    return (
        identity.get("accessKeyId") in keys
        or context.get("sourceIdentity") in identities
        or (context.get("sessionIssuer") or {}).get("arn") in roles
        or str(identity.get("arn") or "").rpartition("/")[0] in roles  # not every event has a sessionIssuer
    )


def _sessions_of(role: str) -> str:
    """What the ARNs of a role's sessions begin with: its account and its name, without the role's path."""
    owner, _, name = role.partition(":role/")
    return f"{owner.replace(':iam:', ':sts:')}:assumed-role/{name.rpartition('/')[2]}"
