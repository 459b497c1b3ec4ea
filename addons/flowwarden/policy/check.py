"""The lint of a rule set: unknown actions and groups, rules that never match, allows that a deny swallows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import RuleError
from ..yamlfile import load as load_yaml
from . import catalogue, examples, overlap, paramcheck
from .conditions import Actions, Groups, Hosts, Resources
from .examples import Result
from .rule import Rule
from .ruleset import FILE, RuleSet, read

SDK_PATIENCE = 55.0
"""Seconds after which SDKs give up waiting for an answer: botocore at 60."""


@dataclass(frozen=True)
class Finding:
    """One remark on a rule file. An error keeps the set from being taken; a warning does not."""

    file: str
    line: int
    severity: Literal["error", "warning"]
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.message}"


def check(folder: Path, known_groups: Iterable[str] | None = None) -> list[Finding]:
    """Every finding on the rules of a folder, in the order of files and lines. Raises nothing.

    `known_groups` are the groups that sessions may have; None takes those that identity.yaml beside the rules names.
    """
    reading = read(folder)
    if reading.errors:
        found = [_of(error) for error in reading.errors]
        rules = RuleSet(list({rule.id: rule for rule in reading.rules}.values()), reading.default, reading.examples)
    else:
        found, rules = [], RuleSet(reading.rules, reading.default, reading.examples)
    groups = _groups(folder) if known_groups is None else frozenset(known_groups)
    found += findings(rules)
    for rule in rules.rules:
        found += _unknown_groups(rule, groups) if groups else ()
        found += [_at(rule, "warning", message, "params") for message in paramcheck.unknown(rule)]
    found += [_at(rule, "warning", message) for rule, message in overlap.never(rules.rules)]
    found += [_at(rule, "warning", message) for rule, message in overlap.swallowed(rules.rules)]
    found += [_at(rule, "warning", message, "approvers") for rule, message in overlap.contested(rules.rules)]
    for section in rules.examples:
        try:
            examples.read(section)
        except RuleError as error:
            found.append(_of(error))
    return sorted(found, key=lambda each: (each.file, each.line))


def findings(rules: RuleSet) -> list[Finding]:
    """The findings that are cheap to make at each load: what is misspelt, and what opens something by itself."""
    found: list[Finding] = []
    for rule in rules.rules:
        found += _unknown_actions(rule)
        found += _odd(rule)
    if rules.default == "allow":
        file = rules.rules[0].file if rules.rules else FILE
        found.append(Finding(file, 0, "warning", "default: allow lets pass every AWS call that no rule matches"))
    return found


def run_tests(folder: Path) -> list[Result]:
    """Decides the examples of a folder. RuleError if the rules do not load or an example is none."""
    reading = read(folder)
    if reading.errors:
        raise reading.errors[0]
    return examples.run(RuleSet(reading.rules, reading.default, reading.examples))


def _of(error: RuleError) -> Finding:
    message = str(error)
    where = f"{error.file}:{error.line}: " if error.line else f"{error.file}: "
    return Finding(error.file, error.line, "error", message.removeprefix(where))


def _at(rule: Rule, severity: Literal["error", "warning"], message: str, key: str = "") -> Finding:
    return Finding(rule.file, rule.lines.get(key, rule.line), severity, f"rule {rule.id!r}: {message}")


def _unknown_actions(rule: Rule) -> Iterator[Finding]:
    for condition in rule.conditions:
        if not isinstance(condition, Actions):
            continue
        for key, globs in (("actions", condition.include), ("not_actions", condition.exclude)):
            for text in globs.texts if globs else ():
                if catalogue.exists(text):
                    continue
                if catalogue.is_operation(text):
                    yield _at(rule, "warning", f"AWS publishes no access level for {text!r}", key)
                    continue
                hint = catalogue.meant(text)
                yield _at(rule, "error", f"no action is called {text!r}." + (f" {hint}" if hint else ""), key)


def _unknown_groups(rule: Rule, known: frozenset[str]) -> Iterator[Finding]:
    for condition in rule.conditions:
        if isinstance(condition, Groups):
            for group in sorted(condition.groups - known):
                yield _at(rule, "warning", f"identity.yaml gives nothing to the group {group!r}", "groups")
    for group in sorted(rule.terms.approver_groups - known) if rule.terms else ():
        yield _at(rule, "warning", f"identity.yaml knows no approvers' group {group!r}", "approvers")


def _odd(rule: Rule) -> Iterator[Finding]:
    for condition in rule.conditions:
        if isinstance(condition, Resources):
            for text in condition.resources.texts:
                if not text.startswith(("arn:", "*", "?", "arn?")):
                    yield _at(rule, "error", f"no resource is called {text!r}: it is no ARN", "resources")
        if isinstance(condition, Hosts):
            for text in condition.hosts.texts:
                if text.startswith("*") and text not in ("*",) and not text.startswith("*."):
                    hint = f"write '*.{text.lstrip('*')}'"
                    yield _at(rule, "warning", f"{text!r} also matches strangers' hosts that end so; {hint}", "hosts")
    if rule.terms and rule.terms.on_timeout == "allow":
        yield _at(rule, "warning", "on_timeout: allow lets pass what nobody answered", "on_timeout")
    if rule.terms and rule.terms.hold > SDK_PATIENCE:
        yield _at(rule, "warning", f"SDKs stop waiting before {rule.terms.hold:.0f} s are over", "hold")


def _groups(folder: Path) -> frozenset[str]:
    """The groups that identity.yaml names; empty if it cannot be read, which is another check's finding."""
    try:
        section = load_yaml(folder / "identity.yaml")
        found = [group for entry in section.sections("credentials", []) for group in entry.texts("groups", ())]
        roles = section.section("roles", None)
        for role in list(roles.data):
            found += roles.section(str(role)).texts("groups", ())
    except RuleError:
        return frozenset()
    return frozenset(found)
