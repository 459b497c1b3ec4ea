"""What single services need beyond names of members: SSM's SecureString parameters, CloudFormation's NoEcho."""

from __future__ import annotations

from ..types import Call
from .jsonmask import JsonMasker, Reading, Special, Whole
from .jsontree import Node
from .model import Mask

SECURE = b"SecureString"


def special(call: Call, text: bytes, mask: Mask | None) -> Special | None:
    """The work on an answer of SSM whose parameters are secure; None for everything else."""
    if mask is None or call.operation is None or call.operation.service != "ssm" or SECURE not in text:
        return None
    return lambda root, reading: _secure(root, reading, mask)


def _secure(node: Node, reading: Reading, mask: Mask) -> None:
    reading.run.budget.tick()
    if node.kind == "object" and node.string("Type") == "SecureString":
        value = node.get("Value")
        if value is not None and value.kind == "string":
            JsonMasker.hide_string(value, Whole(mask), reading)
    for child in node.nodes():
        _secure(child, reading, mask)
