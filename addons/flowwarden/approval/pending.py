"""What an agent reads of a call that waits: what to do next, in a sentence that it can follow."""

from __future__ import annotations

from datetime import UTC, datetime

from ..types import Approval

ASK = "http://flowwarden.internal/approvals"


def not_answered(approval: Approval) -> str:
    return (
        f"approval {approval.id} was not answered in time; the question stays open until {_clock(approval.expires)}. "
        f"Ask GET {ASK}/{approval.id} and repeat the call"
    )


def reason_wanted(approval: Approval) -> str:
    return (
        f"approval {approval.id} waits for your reason, until {_clock(approval.expires)}: say why you make this call with "
        f'POST {ASK}/{approval.id} {{"reason": "..."}} through the proxy, and repeat the call'
    )


def answer_unknown(approval_id: str, flow: str) -> str:
    return (
        f"approval {approval_id} let an earlier attempt of this call through (flow {flow}), and its answer is not here to "
        "be given again; look at what it did before you ask anew"
    )


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S UTC")
