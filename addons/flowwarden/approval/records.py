"""How a question lies in state.db, and what of it is told to whom."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..sessions.ids import rfc3339
from ..types import Approval, ApprovalTerms

_SETS = ("approver_groups", "approver_principals")


def terms_json(terms: ApprovalTerms) -> dict[str, Any]:
    return {**asdict(terms), **{name: sorted(getattr(terms, name)) for name in _SETS}}


def terms_from(data: Mapping[str, Any]) -> ApprovalTerms:
    return ApprovalTerms(**{**data, **{name: frozenset(data[name]) for name in _SETS}})


def approval_from(row: sqlite3.Row, answers: Sequence[sqlite3.Row]) -> Approval:
    return Approval(
        id=row["id"],
        state=row["state"],
        digest=row["digest"],
        session=row["session"],
        summary=json.loads(row["summary"]),
        terms=terms_from(json.loads(row["terms"])),
        asked=row["asked"],
        expires=row["expires"],
        answers=tuple(
            {
                "issuer": answer["issuer"],
                "subject": answer["subject"],
                "name": answer["name"],
                "approve": bool(answer["approve"]),
                "reason": answer["reason"],
                "at": answer["at"],
            }
            for answer in answers
        ),
        reason=row["reason"] or "",
        purpose=row["purpose"] or "",
    )


def approval_json(approval: Approval, requester: Mapping[str, Any], until: float | None) -> dict[str, Any]:
    """All of a question, for approvers; times are RFC 3339. `until` is when its grant ends, None while there is none."""
    return {
        "id": approval.id,
        "state": approval.state,
        "digest": approval.digest,
        "session": approval.session,
        "principal": dict(requester),
        "summary": dict(approval.summary),
        "terms": terms_json(approval.terms),
        "asked": rfc3339(approval.asked),
        "expires": rfc3339(approval.expires),
        "until": None if until is None else rfc3339(until),
        "answers": [{**answer, "at": rfc3339(answer["at"])} for answer in approval.answers],
        "reason": approval.reason,
        "purpose": approval.purpose,
    }


def plain(value: Any, depth: int = 0) -> Any:
    """A summary as JSON that every reader takes: no bytes, no NaN, nothing deeper than it could be shown."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth > 20:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each, depth + 1) for each in value]
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)


def topic(digest: str, terms: ApprovalTerms, summary: Mapping[str, Any]) -> str:
    """What a grant covers, and so what a second request joins by: the request, the operation, or the rules' actions."""
    rules, rules_digest = summary.get("rules") or (), str(summary.get("rules_digest", ""))
    if terms.scope == "operation":
        return operation_topic(
            str(summary.get("operation", "")),
            summary.get("resources") or (),
            str(summary.get("region", "")),
            str(summary.get("account", "")),
            rules,
            rules_digest,
        ) or ("request:" + digest)
    if terms.scope == "session" and rules:
        return rules_topic(rules, rules_digest)
    return "request:" + digest


def operation_topic(
    operation: str,
    resources: Sequence[str | None],
    region: str,
    account: str,
    rules: Sequence[str] = (),
    rules_digest: str = "",
) -> str:
    """Empty where the operation or a resource is not known: then nothing but the request itself can be granted."""
    if not operation or not resources or any(not resource for resource in resources):
        return ""
    under = [sorted(set(rules)), rules_digest]
    return "operation:" + json.dumps([operation, sorted(set(map(str, resources))), region, account, under])


def rules_topic(rules: Sequence[str], rules_digest: str) -> str:
    """One set of rules in one wording: a grant under a rule ends when the rules change."""
    return "rules:" + json.dumps([sorted(set(rules)), rules_digest])
