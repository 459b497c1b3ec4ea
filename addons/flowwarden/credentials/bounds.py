"""The outer bound of a lease: the session policy and the tags that are passed to AssumeRole.

A session policy can only take away, and has 2,048 characters. It holds the account pin and the denies that alone stand
before an action which another rule lets through: these have to fit, or the session is refused. Denies of what nothing lets
through anyway follow while there is room. The gateway decides by all rules in any case.
https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import Refusal
from ..types import Session
from . import names
from .denies import Denies
from .rules import CredentialRule

POLICY_LENGTH = 2048
STATION = "lend"
NO_DENIES = Denies()


def session_policy(rule: CredentialRule, denies: Denies = NO_DENIES, *, spare: bool = True) -> tuple[str, int]:
    """The inline session policy of a rule, and how many patterns of `denies` are not in it.

    The entry's `denies` says whether those have to fit that are needed, or all, or none is asked for; `spare` fills what
    room is left with the others. Without managed policies the policy allows everything else, since the role's own
    policies still decide. With `policy_arns` it does not: inline and managed session policies add up, and an Allow here
    would undo them. The pin asks only where AWS tells the resource's account. Raises Refusal if the policy is longer than
    STS takes.
    """
    if rule.denies == "off":
        denies = NO_DENIES
    kept = [*denies.needed, *(denies.others if rule.denies == "all" else ())]
    more = denies.others if rule.denies == "needed" else ()
    text = _policy(rule, kept)
    most = POLICY_LENGTH - sum(map(len, rule.policy_arns))  # STS counts both
    if len(text) > most:
        raise refuse(_too_long(rule, denies, len(text), most))
    room = most - len(_policy(rule, [*kept, ""])) if spare else 0
    left_out = 0
    for pattern in more:
        cost = len(json.dumps(pattern)) - len('""')
        if cost <= room:
            kept.append(pattern)
            room -= cost + len(',""')
        else:
            left_out += 1
    while len(text := _policy(rule, kept)) > most:  # a list of two has brackets, which one pattern had not
        kept.pop()
        left_out += 1
    return text, left_out


def _too_long(rule: CredentialRule, denies: Denies, length: int, most: int) -> str:
    said = f"the session policy would have {length} characters, STS takes {most}"
    if rule.policy_arns:
        said += " beside the ARNs of `policy_arns`"
    if len(_policy(rule, ())) > most:
        return f"{said}: name fewer accounts, unpinned_actions or policy_arns in the entry of `credentials`"
    if rule.denies == "all":
        return f"{said}: `denies: all` asks for every deny of the session's groups; say `denies: needed`, or have fewer"
    return (
        f"{said} to hold what {', '.join(denies.by)} deny and other rules would let through: deny fewer actions, or deny "
        "them in the role's own policies (or in a managed policy of `policy_arns`) and say `denies: off`"
    )


def _policy(rule: CredentialRule, denies: Sequence[str]) -> str:
    statements: list[dict[str, Any]] = []
    if not rule.policy_arns:
        statements.append({"Effect": "Allow", "Action": "*", "Resource": "*"})
    pin: dict[str, Any] = {"Effect": "Deny"}
    if rule.unpinned_actions:
        pin["NotAction"] = _one(rule.unpinned_actions)
    else:
        pin["Action"] = "*"
    pin["Resource"] = "*"
    pin["Condition"] = {
        "StringNotEquals": {"aws:ResourceAccount": _one(rule.accounts)},
        "Null": {"aws:ResourceAccount": "false"},
    }
    statements.append(pin)
    if denies:
        statements.append({"Effect": "Deny", "Action": _one(denies), "Resource": "*"})
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def tags(rule: CredentialRule, session: Session) -> list[dict[str, str]]:
    """The session tags; empty values are left out. Raises Refusal for one that is too long, rather than cutting it."""
    principal = session.principal
    values = {
        "subject": names.tag(principal.subject),
        "session": names.tag(session.id),
        "agent": names.tag(principal.agent),
        "groups": names.tag_list(principal.groups),
    }
    found = []
    for key in rule.tags:
        value = values[key]
        if len(value) > names.TAG_LENGTH:
            raise refuse(
                f"the session tag {key!r} has {len(value)} characters, STS takes {names.TAG_LENGTH}: leave {key!r} out "
                "of the entry's `tags`, or give the principal fewer"
            )
        if value:
            found.append({"Key": key, "Value": value})
    return found


def refuse(message: str, code: str = "AccessDenied", status: int = 403) -> Refusal:
    return Refusal(message, status=status, code=code, station=STATION)


def _one(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)
