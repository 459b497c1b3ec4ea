"""Examples: the `tests:` that stand beside the rules, and whether the rules answer them as expected."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from ..types import Call, Decision, Operation, Principal, Request
from ..yamlfile import Section
from . import catalogue
from .rule import plain
from .ruleset import RuleSet

ISSUER = "https://example.invalid"
_EFFECTS = ("allow", "deny", "approve")


@dataclass(frozen=True)
class Example:
    """One entry of `tests:`. What it leaves out is unknown: it matches deny and approve, and never allow."""

    file: str
    line: int
    title: str
    expect: str
    rules: frozenset[str]
    principal: Principal | None
    call: Call
    request: Request
    now: datetime | None


@dataclass(frozen=True)
class Result:
    """An example and the answer that it got."""

    example: Example
    decision: Decision

    @property
    def passed(self) -> bool:
        expected = self.example
        return self.decision.effect == expected.expect and expected.rules <= set(self.decision.rules)

    @property
    def message(self) -> str:
        """`expected approve, got deny (by keep-iam-users)`."""
        wanted = self.example.expect + (f" by {', '.join(sorted(self.example.rules))}" if self.example.rules else "")
        return f"expected {wanted}, got {self.decision.effect} by {', '.join(self.decision.rules)}"


def _call(section: Section) -> Call:
    names = section.texts("call")
    for name in names:
        if ":" not in name or "*" in name:
            raise section.error(f"{name!r} is not an action such as ec2:TerminateInstances", "call")
    actions = tuple(catalogue.action(name) for name in names)
    params = cast(dict[str, Any], plain(section.section("params").data)) if "params" in section else None
    if "resources" in section:
        resources: tuple[str | None, ...] = section.texts("resources")
    else:
        resources = ("*",) if not any(catalogue.has_resources(name) for name in names) else (None,)
    service, _, operation = names[0].partition(":")
    return Call(
        aws=True,
        operation=Operation(section.text("service", service), section.text("operation", operation)),
        region=section.text("region", ""),
        account=section.text("account", ""),
        actions=actions,
        params=params,
        resources=resources,
    )


def read(section: Section) -> Example:
    """One example; RuleError if it is not one."""
    if "call" in section:
        call = _call(section)
        title = ", ".join(section.texts("call"))
    else:
        call = Call(aws=False)
        title = f"{section.text('method', 'GET')} {section.text('host')}{section.text('path', '/')}"
    who = Principal(
        issuer=section.text("issuer", ISSUER),
        subject=section.text("principal", "example"),
        agent=section.text("agent", ""),
        groups=frozenset(section.texts("groups", ())),
    )
    request = Request(
        method=section.text("method", "POST" if "call" in section else "GET"),
        scheme="https",
        host=section.text("host", ""),
        port=443,
        target=section.text("path", "/"),
    )
    found = Example(
        file=section.file,
        line=section.line(),
        title=title,
        expect=section.choice("expect", _EFFECTS),
        rules=frozenset(section.texts("rules", ())),
        principal=who,
        call=call,
        request=request,
        now=_time(section),
    )
    section.finish()
    return found


def _time(section: Section) -> datetime | None:
    if "time" not in section:
        return None
    value = section.value("time")
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise section.error("'time' has to be a quoted text such as \"2026-11-20T09:00:00+01:00\"", "time")
    return found


def run(rules: RuleSet) -> list[Result]:
    """Decides every example of a rule set, in the order of the files. RuleError for an example that is not one."""
    found = []
    for section in rules.examples:
        example = read(section)
        found.append(Result(example, rules.decide(example.principal, example.call, example.request, example.now)))
    return found
