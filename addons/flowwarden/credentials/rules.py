"""The `credentials:` part of rules/identity.yaml: which real credentials a group's sessions get."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .. import yamlfile
from ..types import Principal
from ..yamlfile import Section

GATEWAY = "gateway"
AWS = "aws"
SHORTEST, LONGEST, LONGEST_CHAINED = 900.0, 43200.0, 3600.0  # seconds; what STS takes
TAGS = ("subject", "session", "agent", "groups")
_ROLE = re.compile(r"arn:(aws[a-z0-9-]*):iam::(\d{12}):role/[\w+=,.@/-]{1,512}", re.ASCII)
_POLICY = re.compile(r"arn:aws[a-z0-9-]*:iam::(\d{12}|aws):policy/[\w+=,.@/-]{1,512}", re.ASCII)
_ACTION = re.compile(r"\*|[a-z0-9-]+:[A-Za-z0-9*?]+")
_MOST_POLICIES = 10


@dataclass(frozen=True, slots=True)
class CredentialRule:
    """One entry. `groups` empty: everyone. `assume_role`: a chain of role ARNs, empty for the source's own credentials."""

    accounts: tuple[str, ...]
    groups: frozenset[str] = frozenset()
    assume_role: tuple[str, ...] = ()
    source: str = GATEWAY  # "gateway", or a profile of the gateway's AWS configuration
    duration: float = SHORTEST  # seconds
    policy_arns: tuple[str, ...] = ()
    external_id: str = ""
    region: str = ""  # of the STS endpoint
    tags: tuple[str, ...] = TAGS
    unpinned_actions: tuple[str, ...] = ()  # actions that may reach another account's resources
    denies: str = "needed"  # of the group's deny rules, that have to fit into the session policy: needed, all, off
    partition: str = "aws"

    @property
    def account(self) -> str:
        """The account that the credentials are of."""
        if self.assume_role:
            return self.assume_role[-1].split(":")[4]
        return next(account for account in self.accounts if account != AWS)


@dataclass(frozen=True, slots=True)
class CredentialRules:
    """The entries in order: the first that has one of a principal's groups counts."""

    entries: tuple[CredentialRule, ...] = ()

    def match(self, principal: Principal) -> CredentialRule | None:
        """The entry for a principal; None if there is none, and then no credentials."""
        for entry in self.entries:
            if not entry.groups or entry.groups & principal.groups:
                return entry
        return None


def load(source: Section | Path) -> CredentialRules:
    """Reads `credentials:` from identity.yaml, or from its section read before. RuleError with file and line."""
    file = yamlfile.load(source) if isinstance(source, Path) else source
    return CredentialRules(tuple(_entry(section) for section in file.sections("credentials", None)))


def _entry(section: Section) -> CredentialRule:
    roles = _roles(section)
    accounts = _accounts(section)
    if not roles and "source" not in section:
        raise section.error("an entry of 'credentials' needs 'assume_role' or 'source'")
    duration = section.duration("duration", "15m")
    longest = LONGEST_CHAINED if len(roles) > 1 else LONGEST
    if not SHORTEST <= duration <= longest:
        allowed = "15m to 1h for a chain of roles" if len(roles) > 1 else "15m to 12h"
        raise section.error(f"'duration' has to be {allowed}, which is what STS allows", "duration")
    if "groups" in section and not section.texts("groups"):
        raise section.error("'groups' is empty, so the entry is for nobody", "groups", "Leave it out for everyone.")
    entry = CredentialRule(
        accounts=accounts,
        groups=frozenset(section.texts("groups", ())),
        assume_role=roles,
        source=section.text("source", GATEWAY),
        duration=duration,
        policy_arns=_policies(section),
        external_id=section.text("external_id", ""),
        region=section.text("region", ""),
        tags=_tags(section),
        unpinned_actions=_actions(section),
        denies=section.choice("denies", ("needed", "all", "off"), "needed"),
        partition=roles[-1].split(":")[1] if roles else "aws",
    )
    if roles and entry.account not in accounts:
        raise section.error(f"'accounts' lacks {entry.account}, the account of the role itself", "accounts")
    for key in ("policy_arns", "external_id", "unpinned_actions", "denies", "tags", "duration"):
        if not roles and key in section:
            raise section.error(f"{key!r} works only with 'assume_role'", key)
    section.finish()
    return entry


def _roles(section: Section) -> tuple[str, ...]:
    if "assume_role" not in section:
        return ()
    roles = section.texts("assume_role")
    if not roles:
        raise section.error("'assume_role' is empty", "assume_role")
    for role in roles:
        if not _ROLE.fullmatch(role):
            raise section.error(
                f"{role!r} is not the ARN of a role", "assume_role", "arn:aws:iam::123456789012:role/name"
            )
    return roles


def _accounts(section: Section) -> tuple[str, ...]:
    accounts = section.texts("accounts")
    for account in accounts:
        if account != AWS and not re.fullmatch(r"[0-9]{12}", account):
            raise section.error(f"{account!r} is not an account number of 12 digits", "accounts", "Put it in quotes.")
    if not any(account != AWS for account in accounts):
        raise section.error("'accounts' names no account", "accounts")
    return accounts


def _policies(section: Section) -> tuple[str, ...]:
    policies = section.texts("policy_arns", ())
    if len(policies) > _MOST_POLICIES:
        raise section.error(f"STS takes at most {_MOST_POLICIES} managed policies", "policy_arns")
    for policy in policies:
        if not _POLICY.fullmatch(policy):
            raise section.error(f"{policy!r} is not the ARN of a managed policy", "policy_arns")
    return policies


def _tags(section: Section) -> tuple[str, ...]:
    tags = section.texts("tags", TAGS)
    for tag in tags:
        if tag not in TAGS:
            raise section.error(f"{tag!r} is not one of {', '.join(TAGS)}", "tags")
    return tags


def _actions(section: Section) -> tuple[str, ...]:
    actions = section.texts("unpinned_actions", ())
    for action in actions:
        if not _ACTION.fullmatch(action) or action == "*":
            raise section.error(f"{action!r} is not an IAM action such as ec2:RunInstances", "unpinned_actions")
    return actions
