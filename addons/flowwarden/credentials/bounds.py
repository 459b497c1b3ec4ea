"""The outer bound of a lease: the session policy and the tags that are passed to AssumeRole.

A session policy can only take away. It has 2,048 characters, and rules do not compile into it: it holds the account pin,
which has to fit or the session is refused, and those of the group's plain denies that fit; the gateway decides by all of
them in any case.
https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import Refusal
from ..types import Session
from . import names
from .rules import CredentialRule

POLICY_LENGTH = 2048
STATION = "lend"


def session_policy(rule: CredentialRule, denies: Sequence[str] = ()) -> tuple[str, int]:
    """The inline session policy of a rule, and how many of `denies` are not in it.

    `denies` are actions that the principal's rules deny whatever the request; the entry's `denies` says whether all of
    them have to fit, or as many as do, or none is asked for. Without managed policies the policy allows everything else,
    since the role's own policies still decide. With `policy_arns` it does not: inline and managed session policies add
    up, and an Allow here would undo them. The pin asks only where AWS tells the resource's account. Raises Refusal if the
    policy is longer than STS takes.
    """
    wanted = list(dict.fromkeys(denies)) if rule.denies != "off" else []
    text = _policy(rule, wanted)
    if len(text) <= POLICY_LENGTH:
        return text, 0
    if rule.denies == "all" or not wanted:
        raise refuse(
            f"the session policy has {len(text)} characters, STS takes {POLICY_LENGTH}: name fewer accounts, "
            "unpinned_actions or denied actions"
        )
    kept: list[str] = []
    room = POLICY_LENGTH - len(_policy(rule, [""]))
    for action in wanted:
        cost = len(json.dumps(action)) + (1 if kept else 0)  # a list of one has brackets, too: `_policy` is asked again
        if cost <= room:
            kept.append(action)
            room -= cost
    while len(text := _policy(rule, kept)) > POLICY_LENGTH:
        if not kept:
            raise refuse(
                f"the session policy has {len(text)} characters, STS takes {POLICY_LENGTH}: name fewer accounts"
            )
        kept.pop()
    return text, len(wanted) - len(kept)


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
