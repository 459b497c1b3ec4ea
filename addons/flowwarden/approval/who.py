"""Who may answer a question: somebody else than the one who asks, from the rule's approvers, each person once."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from ..errors import Refusal
from ..types import ApprovalTerms, Principal


def same_person(one: Principal, other: Principal) -> bool:
    """Issuer and subject name a person; a shared e-mail or user name does too, since it can only refuse more."""
    return (one.issuer, one.subject) == (other.issuer, other.subject) or bool(one.aliases & other.aliases)


def is_owner(owner: str, person: Principal) -> bool:
    """Whether an owner claim means this person: by subject, `issuer#subject`, e-mail, user name or name."""
    names = {person.subject, f"{person.issuer}#{person.subject}", person.name, *person.aliases} - {""}
    return bool(owner) and owner.casefold() in {name.casefold() for name in names}


def refuse_approver(
    requester: Principal,
    approver: Principal,
    terms: ApprovalTerms,
    *,
    token_id: str = "",
    session_tokens: Collection[str] = (),
    default_groups: Collection[str] = (),
) -> None:
    """Refusal (403) unless this principal may answer. Being an administrator is no reason to.

    `default_groups` stand in where the rule names no approvers; with none anywhere nobody may answer.
    """
    if same_person(requester, approver) or (token_id and token_id in session_tokens):
        raise _no("you asked for this call yourself: somebody else has to answer")
    if is_owner(requester.owner, approver):
        raise _no("the agent that asks acts for you: somebody else has to answer")
    if approver.owner and (
        approver.owner.casefold() == requester.owner.casefold() or is_owner(approver.owner, requester)
    ):
        raise _no("your token acts for the same person as the agent that asks: somebody else has to answer")
    if not _among(approver, terms, default_groups):
        groups = ", ".join(sorted(terms.approver_groups or default_groups)) or "nobody"
        raise _no(f"this call is answered by: {groups}")


def _among(approver: Principal, terms: ApprovalTerms, default_groups: Collection[str]) -> bool:
    named = terms.approver_groups or terms.approver_principals
    groups = terms.approver_groups if named else frozenset(default_groups)
    if groups & approver.groups:
        return True
    mine = (approver.subject, f"{approver.issuer}#{approver.subject}")
    return any(fnmatchcase(name, pattern) for pattern in terms.approver_principals for name in mine)


def _no(message: str) -> Refusal:
    return Refusal(message, status=403, code="AccessDenied", station="approve")
