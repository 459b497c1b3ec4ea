"""Examples: the `tests:` that stand beside the rules, and whether the rules answer them as expected."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from ..errors import Refusal
from ..types import Call, Decision, Operation, Principal, Request
from ..yamlfile import Section
from . import catalogue
from .rule import plain
from .ruleset import RuleSet

if TYPE_CHECKING:
    from ..recognition.recogniser import Recogniser

ISSUER = "https://example.invalid"
ACCOUNT = "123456789012"
"""The account that ARNs of a written-out request are filled with."""

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
    call: Call | None  # None: to be recognised from the request
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
    request = _request(section)
    if "request" in section:
        call, title = None, f"{request.method} {request.host}{request.target}"
    elif "call" in section:
        call, title = _call(section), ", ".join(section.texts("call"))
    else:
        call, title = Call(aws=False), f"{request.method} {request.host}{request.target}"
    who = Principal(
        issuer=section.text("issuer", ISSUER),
        subject=section.text("principal", "example"),
        agent=section.text("agent", ""),
        groups=frozenset(section.texts("groups", ())),
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


def _request(section: Section) -> Request:
    """The request that is written out, or one with the host, method and path that stand beside a call."""
    if "request" not in section:
        return Request(
            method=section.text("method", "POST" if "call" in section else "GET"),
            scheme="https",
            host=section.text("host", "") if "call" in section else section.text("host"),
            port=443,
            target=section.text("path", "/"),
        )
    inner = section.section("request")
    try:
        url = urlsplit(inner.text("url"))
        host, port = url.hostname or "", url.port or (80 if url.scheme == "http" else 443)
    except ValueError as error:
        raise inner.error(f"not a URL: {error}", "url") from None
    if url.scheme not in ("http", "https") or not host:
        raise inner.error("'url' has to be a full URL such as https://sts.amazonaws.com/", "url")
    body = inner.text("body", "").encode()
    fields = inner.section("headers", None)
    headers = [(b"host", host.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(str(name).encode(), fields.text(str(name)).encode()) for name in list(fields.data)]
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    found = Request(inner.text("method", "GET"), url.scheme, host, port, target, tuple(headers), body)
    inner.finish()
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


@cache
def _recogniser() -> Recogniser:
    from ..recognition.recogniser import Recogniser

    return Recogniser()


def decide(rules: RuleSet, example: Example) -> Decision:
    """The rules' answer to an example; what the gateway refuses to recognise is a deny by `recognise`."""
    try:
        call = example.call or _recogniser().recognise(example.request, ACCOUNT)
        return rules.decide(example.principal, call, example.request, example.now)
    except Refusal as refusal:
        return Decision("deny", ("recognise",), refusal.message, rules.digest)


def run(rules: RuleSet) -> list[Result]:
    """Decides every example of a rule set, in the order of the files. RuleError for an example that is not one."""
    return [Result(example, decide(rules, example)) for example in map(read, rules.examples)]
