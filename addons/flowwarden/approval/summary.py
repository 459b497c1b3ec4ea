"""What approvers see of a call: masked as a recording would be."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from ..access import Access
from ..types import Call, Decision, Request
from . import irreversible
from .records import plain

if TYPE_CHECKING:
    from ..masking.masker import Masker
    from ..services import Services

SHOWN = 65536  # bytes of a body


def summarise(owner: Access, call: Call, request: Request, decision: Decision, services: Services) -> dict[str, Any]:
    """The summary of a question. A body that waits on disk is named by size and hash: nobody reads it here."""
    masker = services.masker(owner.principal)
    masked = masker.mask_request_for_recording(call, request.headers, request.body or b"")
    return {
        "operation": str(call.operation),
        "actions": [action.name for action in call.actions],
        "resources": [masker.mask_text(resource) if resource else resource for resource in call.resources],
        "params": _params(call, masked.counts, masker),
        "irreversible": irreversible.note(call),
        "region": call.region,
        "account": call.account,
        "host": request.host,
        "method": request.method,
        "path": masker.mask_text(request.target),
        "body": masked.body[:SHOWN].decode("utf-8", "replace"),
        **_spooled(owner),
        "rules": list(decision.rules),
        "rules_digest": decision.digest,
        "reason": decision.reason,
    }


def _params(call: Call, masks: Counter[str], masker: Masker) -> dict[str, str]:
    """The parameters one a line, each masked as a text; none where the body holds what fields hide."""
    if call.params is None or masks:
        return {}
    return {name: masker.mask_text(_text(value))[:2000] for name, value in call.params.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def _spooled(owner: Access) -> dict[str, Any]:
    """Size and SHA-256 of a body that waits on disk; of the data itself where it came in the aws-chunked form."""
    spool = owner.spool
    if spool is None:
        return {}
    return {
        "body_bytes": spool.size,
        "body_sha256": spool.sha256 if spool.payload is None else spool.payload.hexdigest(),
    }
