"""RuleSet: all rules of a folder, compiled once; `load` reads them, `decide` answers for one request."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import cast

import rfc8785

from ..errors import RuleError
from ..types import Call, Decision, Effect, Principal, Request
from ..yamlfile import Section
from ..yamlfile import load as load_yaml
from . import rule as rules_of
from .facts import Facts, judge
from .index import Index, eligible
from .outcome import make, nothing
from .rule import Rule

FILE, FOLDER = "policy.yaml", "policy"
_REMEMBERED = 4096


@dataclass(frozen=True)
class Match:
    """How one rule stands to a request: whether it matched, and which conditions held and which did not."""

    rule: Rule
    matched: bool
    held: tuple[str, ...]
    failed: tuple[str, ...]
    why: str


class RuleSet:
    """A compiled set. Immutable, but for caches; safe to use from one thread at a time."""

    def __init__(self, rules: Sequence[Rule], default: Effect = "deny", examples: Sequence[Section] = ()) -> None:
        self.rules = tuple(rules)
        self.default = default
        self.examples = tuple(examples)
        self.digest = _digest(self.rules, default)
        self._index = Index(self.rules)
        self._decisions: dict[tuple[str, tuple[str, ...], str, tuple[str, ...]], Decision] = {}
        hosts = [rule.exact_hosts for rule in self.rules if rule.effect != "deny"]
        self._hosts = frozenset[str]().union(*hosts)
        self._bodies = any(_reads_body(rule) for rule in self.rules)

    def hosts_exact(self) -> frozenset[str]:
        """Hosts that allow and approve rules name without wildcards."""
        return self._hosts

    @property
    def alarms(self) -> tuple[str, ...]:
        """What an operator should hear of when the set is loaded: it opens something by itself."""
        found = ["default: allow lets every recognised AWS call pass that no rule matches"] * (self.default == "allow")
        for rule in self.rules:
            if rule.terms and rule.terms.on_timeout == "allow":
                found.append(
                    f"rule {rule.id!r} ({rule.file}:{rule.line}) allows what nobody answered (on_timeout: allow)"
                )
        return tuple(found)

    def needs_body(self, call: Call, principal: Principal | None, host: str = "") -> bool:
        """Whether a rule that may apply to a call looks into its parameters."""
        if not self._bodies:
            return False
        found = self._index.candidates(call, principal, host)
        return any(_reads_body(rule) for rule in found.rules())

    def decide(self, principal: Principal | None, call: Call, request: Request, now: datetime | None) -> Decision:
        """The rules' answer. `now` has a time zone; None is an unknown time."""
        facts = Facts(principal, call, request, now)
        found = self._index.candidates(call, principal, request.host)
        if found.deny.candidates and (deny := found.deny.matching(facts)):
            return self._decision("deny", deny, "")
        allow = found.allow.matching(facts, sure=True) if found.allow.candidates else ()
        host = request.host if request.host in self._hosts else ""
        approve = found.approve.matching(facts) if found.approve.candidates else ()
        # Rules about other traffic make an answer stricter, but they alone open nothing.
        if approve and (allow or found.approve.matching(facts, loose=False)):
            # What an approve rule relaxes counts only where it matches beyond doubt.
            certain = tuple(rule for rule in approve if rule.matches(facts, sure=True))
            return self._decision("approve", approve, host, allow + certain)
        if allow:
            return self._decision("allow", allow, host)
        recognised = call.aws and call.operation is not None
        return nothing(self.default if recognised else "deny", facts, self.digest)

    def _decision(
        self, effect: Effect, rules: tuple[Rule, ...], host: str, relaxing: tuple[Rule, ...] = ()
    ) -> Decision:
        key = (effect, tuple(rule.id for rule in rules), host, tuple(rule.id for rule in relaxing))
        decision = self._decisions.get(key)
        if decision is None:
            if len(self._decisions) >= _REMEMBERED:
                self._decisions.clear()
            decision = self._decisions[key] = make(effect, rules, relaxing, self.digest, host)
        return decision

    def explain(
        self, principal: Principal | None, call: Call, request: Request, now: datetime | None = None
    ) -> list[Match]:
        """Every rule's standing to a request, those that matched first, with the conditions that held and failed."""
        facts = Facts(principal, call, request, now)
        found = [self._explain(rule, facts) for rule in self.rules]
        return sorted(found, key=lambda match: not match.matched)

    @staticmethod
    def _explain(rule: Rule, facts: Facts) -> Match:
        sure = rule.effect == "allow"
        standing = eligible(rule, facts.call, facts.request.host)
        answers = [
            (each.key, judge(each.hits(facts), sure), judge(each.hits(facts), not sure)) for each in rule.conditions
        ]
        passed = tuple(dict.fromkeys(key for key, holds, _ in answers if holds))
        failed = tuple(dict.fromkeys(key for key, holds, _ in answers if not holds))
        matched = standing != "no" and not failed
        if standing == "no":
            why = "its conditions are about other traffic (hosts have to be named)"
        elif failed:
            doubtful = tuple(dict.fromkeys(key for key, holds, other in answers if sure and not holds and other))
            why = f"does not hold: {', '.join(failed)}" + (f" (not known: {', '.join(doubtful)})" if doubtful else "")
        else:
            doubtful = tuple(dict.fromkeys(key for key, _, other in answers if not sure and not other))
            why = (f"holds: {', '.join(passed)}" if passed else "has no conditions") + (
                f" (in part, or not known: {', '.join(doubtful)})" if doubtful else ""
            )
        return Match(rule, matched, passed, failed, why)


def _reads_body(rule: Rule) -> bool:
    return any(each.key in ("params", "sql", "shell") for each in rule.conditions)


def _digest(rules: Sequence[Rule], default: str) -> str:
    """SHA-256 over the RFC 8785 form of the default and every rule as it is written, in order, comments left out."""
    try:
        return hashlib.sha256(rfc8785.dumps({"default": default, "rules": [rule.source for rule in rules]})).hexdigest()
    except rfc8785.CanonicalizationError as error:
        raise RuleError(f"a rule holds a value without a canonical form: {error}") from None


def files(folder: Path) -> list[Path]:
    """policy.yaml and policy/*.yaml in the order in which they are read. RuleError for a file that would be overlooked."""
    inner = folder / FOLDER
    found = [folder / FILE]
    try:
        others = sorted(inner.iterdir()) if inner.is_dir() else []
    except OSError as error:
        raise RuleError(f"cannot be read: {error}", str(inner)) from None
    for path in others:
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.suffix == ".yaml":
            found.append(path)
        elif path.suffix in (".yml", ".json"):
            raise RuleError("would be overlooked", str(path), hint="Rule files end in .yaml")
    return found


@dataclass
class Reading:
    """What a folder's files hold: rules and examples as far as they could be read, and every error met."""

    rules: list[Rule] = field(default_factory=list)
    examples: list[Section] = field(default_factory=list)
    default: Effect = "deny"
    errors: list[RuleError] = field(default_factory=list)

    def take(self, path: Path, main: bool) -> None:
        """Adds one file's."""
        try:
            section = load_yaml(path)
            if main:
                self.default = cast(Effect, section.choice("default", ("deny", "allow"), "deny"))
            entries = section.sections("rules", [])
            self.examples.extend(section.sections("tests", []))
            section.finish()
        except RuleError as error:
            self.errors.append(error)
            return
        for entry in entries:
            try:
                self.rules.append(rules_of.read(entry))
            except RuleError as error:
                self.errors.append(error)
            except RecursionError:
                self.errors.append(entry.error("is nested too deeply"))


def read(folder: Path) -> Reading:
    """Reads the rules of a folder and collects the errors instead of raising the first."""
    found = Reading()
    try:
        paths = files(folder)
    except RuleError as error:
        return Reading(errors=[error])
    for path in paths:
        found.take(path, main=path.parent == folder)
    found.errors.extend(rules_of.duplicates(found.rules))
    return found


def load(folder: Path) -> RuleSet:
    """Reads the rules of a folder. RuleError, with file and line, for any problem; a missing policy.yaml is one."""
    found = read(folder)
    if found.errors:
        raise found.errors[0]
    return RuleSet(found.rules, found.default, found.examples)
