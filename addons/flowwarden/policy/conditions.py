"""The conditions of the rule language, except those that look inside bodies: each maps a request to hits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..types import Action
from .facts import UNKNOWN, Facts, Hit
from .globs import Globs
from .paths import forms, methods


@dataclass(frozen=True)
class Groups:
    """`groups`: the principal is in one of them."""

    groups: frozenset[str]
    key: str = "groups"

    def hits(self, facts: Facts) -> Iterable[Hit]:
        return UNKNOWN if facts.principal is None else (not self.groups.isdisjoint(facts.principal.groups),)


@dataclass(frozen=True)
class Principals:
    """`principals`: globs over the subject, or over `issuer#subject` where an entry has a `#`."""

    subjects: Globs
    qualified: tuple[tuple[Globs, Globs], ...] = ()
    key: str = "principals"

    @classmethod
    def of(cls, texts: Iterable[str]) -> Principals:
        texts = tuple(texts)
        pairs = [text.split("#", 1) for text in texts if "#" in text]
        return cls(
            Globs(text for text in texts if "#" not in text),
            tuple((Globs([issuer]), Globs([subject])) for issuer, subject in pairs),
        )

    def hits(self, facts: Facts) -> Iterable[Hit]:
        who = facts.principal
        if who is None:
            return UNKNOWN
        found = self.subjects(who.subject) or any(
            issuer(who.issuer) and subject(who.subject) for issuer, subject in self.qualified
        )
        return (found,)


@dataclass(frozen=True)
class Agents:
    """`agents`: globs over what acts. A token that names no agent leaves it unknown."""

    agents: Globs
    key: str = "agents"

    def hits(self, facts: Facts) -> Iterable[Hit]:
        if facts.principal is None or not facts.principal.agent:
            return UNKNOWN
        return (self.agents(facts.principal.agent),)


@dataclass(frozen=True)
class Actions:
    """`actions`, `not_actions` and `access_levels` together: one action has to fulfil all three that are given."""

    include: Globs | None = None
    exclude: Globs | None = None
    levels: frozenset[str] = frozenset()
    key: str = "actions"

    def hit(self, action: Action) -> Hit:
        if self.include is not None and not self.include(action.name):
            return False
        if self.exclude is not None and self.exclude(action.name):
            return False
        if not self.levels:
            return True
        if action.levels and action.levels.isdisjoint(self.levels):
            return False
        # No level, or a composite one of which a part is asked for: that is not known to match.
        return True if action.levels and action.levels <= self.levels else None

    def hits(self, facts: Facts) -> Iterable[Hit]:
        return [self.hit(action) for action in facts.call.actions] or UNKNOWN


_ADDED = "-??????"  # https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_iam-permissions.html


@dataclass(frozen=True)
class Resources:
    """`resources`: globs over ARNs; `*` for actions without a resource type."""

    resources: Globs
    key: str = "resources"

    def hits(self, facts: Facts) -> Iterable[Hit]:
        return [None if arn is None else self._hit(arn) for arn in facts.call.resources] or UNKNOWN

    def _hit(self, arn: str) -> Hit:
        """A secret that was named without the six characters that Secrets Manager adds may be the one that a rule names."""
        if self.resources(arn):
            return True
        known = arn.removesuffix(_ADDED)
        if known != arn and any(text.startswith(f"{known}-") for text in self.resources.texts):
            return None
        return False


@dataclass(frozen=True)
class Regions:
    """`regions`: globs over the region that the call goes to."""

    regions: Globs
    key: str = "regions"

    def hits(self, facts: Facts) -> Iterable[Hit]:
        return (self.regions(facts.call.region),) if facts.call.region else UNKNOWN


@dataclass(frozen=True)
class Accounts:
    """`accounts`: the account that is called, and each account that a resource's ARN names."""

    accounts: Globs
    key: str = "accounts"

    def hits(self, facts: Facts) -> Iterable[Hit]:
        found: list[Hit] = [self.accounts(facts.call.account) if facts.call.account else None]
        for arn in facts.call.resources:
            if arn is None:
                found.append(None)
            elif arn.startswith("arn:") and (account := arn.split(":", 5)[4:5]) and account[0]:
                found.append(self.accounts(account[0]))
        return found


@dataclass(frozen=True)
class Hosts:
    """`hosts`: globs over the normalised host."""

    hosts: Globs
    key: str = "hosts"

    def hits(self, facts: Facts) -> Iterable[Hit]:
        return (self.hosts(facts.request.host),) if facts.request.host else UNKNOWN


@dataclass(frozen=True)
class Methods:
    """`methods`: the method, and every other one that a header asks the server to take instead."""

    methods: frozenset[str]
    key: str = "methods"

    def hits(self, facts: Facts) -> Iterable[Hit]:
        return [method in self.methods for method in methods(facts.request)]


@dataclass(frozen=True)
class Paths:
    """`paths`: globs over every form in which a server may read the path."""

    paths: Globs
    key: str = "paths"

    def hits(self, facts: Facts) -> Iterable[Hit]:
        return [None if form is None else self.paths(form) for form in forms(facts.request.path)]
