"""Approval terms: what a rule of effect `approve` asks for, and what several of them ask for together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from ..types import ApprovalTerms
from ..yamlfile import Section

KEYS = ("approvers", "requester", "scope", "for", "hold", "expires", "on_timeout")
_SCOPES: tuple[Literal["request", "operation", "session"], ...] = ("request", "operation", "session")


def read(rule: Section) -> ApprovalTerms:
    """The terms of one rule; RuleError for what makes no sense."""
    who = rule.section("approvers", None)
    groups, principals = frozenset(who.texts("groups", ())), frozenset(who.texts("principals", ()))
    count = who.integer("count", 1)
    required = who.choice("reason", ("required", "optional"), "optional") == "required"
    who.finish()
    requester = rule.section("requester", None)
    purpose = requester.choice("reason", ("required", "optional"), "optional") == "required"
    requester.finish()
    if "approvers" in rule and not groups and not principals:
        raise rule.error("'approvers' needs groups or principals", "approvers")
    if count < 1:
        raise who.error("'count' has to be 1 or more", "count")
    scope = cast(Literal["request", "operation", "session"], rule.choice("scope", _SCOPES, "request"))
    if (scope == "session") != ("for" in rule):
        raise rule.error(
            "'for' goes with `scope: session`, and that scope needs it", "for" if "for" in rule else "scope"
        )
    hold, expires = rule.duration("hold", "25s"), rule.duration("expires", "15m")
    if expires <= 0:
        raise rule.error("'expires' has to be longer than nothing", "expires")
    return ApprovalTerms(
        approver_groups=groups,
        approver_principals=principals,
        count=count,
        scope=scope,
        lasts=rule.duration("for", "0s") if "for" in rule else 0.0,
        hold=hold,
        expires=expires,
        on_timeout=cast(Literal["deny", "allow"], rule.choice("on_timeout", ("deny", "allow"), "deny")),
        reason_required=required,
        purpose_required=purpose,
    )


def together(terms: Sequence[ApprovalTerms]) -> ApprovalTerms | None:
    """Terms as strict as all of them. None if no approver could satisfy them all: each names others.

    A rule without approvers leaves that to the roles in identity.yaml and so does not narrow the others.
    """
    named = [each for each in terms if each.approver_groups or each.approver_principals]
    groups = frozenset.intersection(*(each.approver_groups for each in named)) if named else frozenset()
    principals = frozenset.intersection(*(each.approver_principals for each in named)) if named else frozenset()
    if named and not groups and not principals:
        return None
    return ApprovalTerms(
        approver_groups=groups,
        approver_principals=principals,
        count=max(each.count for each in terms),
        scope=min((each.scope for each in terms), key=_SCOPES.index),
        lasts=min(each.lasts for each in terms),
        hold=max(each.hold for each in terms),
        expires=min(each.expires for each in terms),
        on_timeout="deny" if any(each.on_timeout == "deny" for each in terms) else "allow",
        reason_required=any(each.reason_required for each in terms),
        purpose_required=any(each.purpose_required for each in terms),
    )
