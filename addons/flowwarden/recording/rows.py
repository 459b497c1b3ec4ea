"""From evidence records to the index's rows: plain functions, so that live feeding and rebuilding cannot differ."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Row = dict[str, Any]
Record = Mapping[str, Any]


def _text(value: Any) -> str:
    return value if type(value) is str else "" if value is None else str(value)


def flow_row(call: Record, seq: int, time: str) -> Row:
    """A flow as its intent, or the `about` of a refused one, tells of it."""
    get = call.get
    principal = get("principal") or {}
    actions = [str(action) for action in get("actions") or ()]
    return {
        "seq": seq,
        "id": _text(get("flow")),
        "time": time,
        "ended": None,
        "session": _text(get("session")) or None,
        "subject": principal.get("subject", ""),
        "agent": principal.get("agent", ""),
        "service": _text(get("service")),
        "operation": _text(get("operation")),
        "action": actions[0] if actions else "",
        "actions": " ".join(actions),
        "resource": " ".join("?" if arn is None else str(arn) for arn in get("resources") or ()),
        "region": _text(get("region")),
        "account": _text(get("account")),
        "method": _text(get("method")),
        "host": _text(get("host")),
        "path": _text(get("path")),
        "decision": _text(get("decision")),
        "rules": " ".join(str(rule) for rule in get("rules") or ()),
        "approval": _text(get("approval")) or None,
        "lease": _text(get("lease")),
        "source_identity": _text(get("source_identity")),
        "status": None,
        "outcome": "",
        "code": "",
        "reason": "",
        "request_id": "",
        "masked": 0,
        "bytes": 0,
        "file": "",
        "offset": None,
        "length": None,
        "outcome_seq": None,
    }


def refused_row(record: Record) -> Row:
    """Something that was refused before it became a request (a tunnel, a token), as a flow of its own."""
    target = str(record.get("target") or record.get("host") or "")
    host, _, port = target.rpartition(":") if record.get("target") else (target, "", str(record.get("port") or ""))
    row = flow_row(record, record["seq"], record["time"])
    return row | {
        "host": host or target,
        "path": port and f":{port}",
        "method": "CONNECT",
        "decision": "deny",
        "outcome": "refused",
        "ended": record["time"],
        "code": str(record.get("code") or ""),
        "reason": _refused(record),
        "outcome_seq": record["seq"],
    }


def _refused(record: Record) -> str:
    why = str(record.get("reason") or record.get("refused") or "")
    if "count" in record:  # see repeats.py
        return f"{record['count']} times {why}, from {record.get('client', '')}; the last: {record.get('last', '')}"
    return why


REFUSED = frozenset({"tunnel", "decision"})  # record types that `refused_row` is for
LEASES = frozenset({"lease", "derived"})  # events of a session that are about a lease
SESSIONS = frozenset({"start", "renew", "end"})


def end_row(record: Record) -> Row:
    """What an outcome adds to its flow's row."""
    frame = record.get("frame") or {}
    return {
        "ended": record["time"],
        "status": record.get("status"),
        "outcome": record.get("outcome", ""),
        "code": record.get("code", ""),
        "reason": record.get("reason", ""),
        "request_id": record.get("aws_request_id", ""),
        "masked": sum((record.get("masks") or {}).values()),
        "bytes": record.get("bytes", 0),
        "file": frame.get("file", ""),
        "offset": frame.get("offset"),
        "length": frame.get("length"),
        "outcome_seq": record["seq"],
    }


def session_row(record: Record) -> Row:
    """What a session's record says of it; only the keys that it has something to say about."""
    if record.get("event") == "end":
        return {"id": record["session"], "ended": record["time"], "reason": record.get("reason", "")}
    principal = record.get("principal") or {}
    return {
        "id": record["session"],
        "issuer": principal.get("issuer", ""),
        "subject": principal.get("subject", ""),
        "agent": principal.get("agent", ""),
        "owner": principal.get("owner", ""),
        "groups": " ".join(principal.get("groups") or ()),
        "display_name": principal.get("name", ""),
        "started": moment(record.get("started")),
        "expires": moment(record.get("expires")),
        "phantom": record.get("phantom", ""),
    }


def lease_row(record: Record) -> Row:
    return {
        "seq": record["seq"],
        "session": record["session"],
        "access_key_id": record.get("access_key_id", ""),
        "role": record.get("role", ""),
        "account": record.get("account", ""),
        "expires": moment(record.get("expires")),
        "source_identity": record.get("source_identity", ""),
        "taken": record["time"],
    }


def approval_row(record: Record) -> Row:
    """What an approval's record says of it. `asked` stands only in the first."""
    row: Row = {"id": record["approval"], "state": record.get("state", ""), "changed": record["time"]}
    by = record.get("by") or {}
    for key, value in {
        "session": record.get("session"),
        "flow": record.get("flow"),
        "digest": record.get("digest"),
        "reason": record.get("reason"),
        "operation": (record.get("summary") or {}).get("operation"),
        "answered_by": by.get("subject") if record.get("event") != "viewed" else None,
        "asked": record["time"] if record.get("event") == "asked" else None,
    }.items():
        if value:
            row[key] = value
    return row


def moment(seconds: Any) -> str:
    """POSIX seconds as RFC 3339; empty for anything else."""
    if not isinstance(seconds, int | float):
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
