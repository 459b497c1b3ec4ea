"""Decisions from the rules that matched: reasons, approval terms, and what is relaxed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ..types import Decision, Effect
from .facts import Facts
from .index import AWS_SUFFIXES
from .rule import Rule
from .terms import together


def make(effect: Effect, rules: Sequence[Rule], relaxing: Sequence[Rule], digest: str, host: str) -> Decision:
    """The decision of rules that matched. `relaxing` are further rules whose flags count where a human is asked.

    `host` is given where a rule of the set names it exactly. Where no human could answer for all rules, it is a refusal.
    """
    ids = tuple(rule.id for rule in rules)
    reasons = " ".join(dict.fromkeys(rule.reason for rule in rules if rule.reason))
    if effect == "deny":
        return Decision("deny", ids, reasons or f"denied by {', '.join(ids)}", digest)
    if effect == "allow":
        return _relaxed("allow", rules, rules, digest=digest, host=host, reason=reasons)
    terms = together([rule.terms for rule in rules if rule.terms])
    if terms is None:
        return Decision("deny", ids, f"rules {', '.join(ids)} ask for approvers that nobody can be", digest)
    reason = reasons or f"held for a human by {', '.join(ids)}"
    found = _relaxed("approve", rules, relaxing, digest=digest, host=host, reason=reason)
    return replace(found, terms=terms)


def nothing(default: Effect, facts: Facts, digest: str) -> Decision:
    """The default, for what no rule matches."""
    call = facts.call
    if default == "allow":
        return Decision("allow", ("default",), "no rule matches; the default allows", digest)
    if call.operation is not None:
        what = ", ".join(action.name for action in call.actions) or str(call.operation)
        return Decision("deny", ("default",), f"no rule allows {what}", digest)
    if call.aws:
        return Decision("deny", ("default",), "the operation is not recognised and no rule names its host", digest)
    return Decision("deny", ("default",), f"no rule allows the host {facts.request.host}", digest)


def _relaxed(
    effect: Effect, deciding: Sequence[Rule], relaxing: Sequence[Rule], *, digest: str, host: str, reason: str
) -> Decision:
    """What the rules say besides their effect. A rule that says `mask: on` or `record: full` outright wins."""
    masks = {rule.mask for rule in relaxing}
    records = {rule.record for rule in relaxing}
    opaque = {rule.opaque for rule in relaxing}
    said: Literal["", "allow", "deny"] = "deny" if "deny" in opaque else "allow" if "allow" in opaque else ""
    return Decision(
        effect,
        tuple(rule.id for rule in deciding),
        reason,
        digest,
        mask=True in masks or False not in masks,
        record="metadata" if "metadata" in records and "full" not in records else "full",
        sign=any(_signs(rule, host) for rule in relaxing),
        unsigned=any(rule.unsigned for rule in relaxing),
        websocket=any(rule.websocket for rule in relaxing),
        opaque=said,
        anchor=any(rule.anchor for rule in (*deciding, *relaxing)),
    )


def _signs(rule: Rule, host: str) -> bool:
    """Whether a rule names this host exactly and so lets it be signed: AWS's own names unless it says no, others if so."""
    if host not in rule.exact_hosts:
        return False
    return host.endswith(AWS_SUFFIXES) if rule.sign is None else rule.sign
