"""Rule: one entry of `rules:`, read from YAML, checked, and compiled into conditions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from ..errors import RuleError
from ..types import ApprovalTerms, Effect
from ..yamlfile import Section
from . import conditions as cond
from . import terms as approval
from .facts import Condition, Facts, judge
from .globs import Globs, is_exact
from .params import Param
from .shell import Shell
from .sql import Sql
from .window import Window

LEVELS = {level.lower(): level for level in ("Read", "List", "Write", "Tagging", "Permissions management")}
AWS_KEYS = frozenset({"actions", "resources", "regions", "accounts", "params", "sql", "shell"})
"""Conditions that speak of an AWS call, by `Condition.key`; other traffic does not answer them."""

KEYS = (
    *("id", "effect", "groups", "principals", "agents", "actions", "not_actions", "access_levels", "resources"),
    *("regions", "accounts", "params", "hosts", "methods", "paths", "time", "sql", "shell", "reason", "mask", "record"),
    *("opaque", "anchor", "sign", "unsigned", "websocket", *approval.KEYS),
)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ACTION = re.compile(r"\*|[A-Za-z0-9*?-]+:[A-Za-z0-9*?-]+")
_HOST = re.compile(r"[a-z0-9*?_-]+(\.[a-z0-9*?_-]+)*|\[?[0-9a-f:]+\]?")
_METHOD = re.compile(r"[A-Z]+")


@dataclass(frozen=True)
class Rule:
    """One rule. `conditions` all have to hold; `mask` and `record` are None where the rule does not say."""

    id: str
    effect: Effect
    conditions: tuple[Condition, ...] = ()
    reason: str = ""
    terms: ApprovalTerms | None = None
    mask: bool | None = None
    record: Literal["full", "metadata"] | None = None
    opaque: Literal["allow", "deny"] | None = None
    anchor: bool = False
    sign: bool | None = None
    unsigned: bool = False
    websocket: bool = False
    file: str = ""
    line: int = 0
    exact_hosts: frozenset[str] = frozenset()
    names_hosts: bool = False
    speaks_of_aws: bool = False
    lines: dict[str, int] = field(default_factory=dict, compare=False, repr=False)  # where each key stands
    source: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def matches(self, facts: Facts, sure: bool) -> bool:
        """Whether all conditions hold: surely, as an allow needs it, or possibly, as deny and approve do."""
        return all(judge(condition.hits(facts), sure) for condition in self.conditions)


def plain(value: Any) -> Any:
    """A YAML value without ruamel's own types, for canonical JSON."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def _texts(section: Section, key: str, check: Callable[[str], bool] | None = None, expected: str = "") -> list[str]:
    found = section.texts(key)
    if not found:
        raise section.error(f"{key!r} is an empty list, which matches nothing: leave the key out, or fill it", key)
    for text in found:
        if not text or (check is not None and not check(text)):
            raise section.error(f"{text!r} in {key!r} is not {expected or 'a text of one character or more'}", key)
    return list(found)


def _actions(section: Section) -> Condition | None:
    def globs(key: str) -> Globs | None:
        if key not in section:
            return None
        expected = "an action such as ec2:TerminateInstances or s3:Get*"
        return Globs(_texts(section, key, lambda text: bool(_ACTION.fullmatch(text)), expected), fold=True)

    levels: frozenset[str] = frozenset()
    if "access_levels" in section:
        expected = f"one of {', '.join(LEVELS.values())}"
        texts = _texts(section, "access_levels", lambda text: text.lower() in LEVELS, expected)
        levels = frozenset(LEVELS[text.lower()] for text in texts)
    found = cond.Actions(globs("actions"), globs("not_actions"), levels)
    return found if found.include or found.exclude or found.levels else None


def _params(section: Section) -> list[Condition]:
    inner = section.section("params")
    if not len(inner.data):
        raise section.error("'params' is empty", "params")
    found: list[Condition] = []
    for key in tuple(inner.data):
        value = inner.value(key)
        patterns = [plain(each) for each in value] if isinstance(value, list) else [plain(value)]
        if not patterns:
            raise inner.error(f"{key!r} is an empty list, which matches nothing", key)
        try:
            found.append(Param.of(key, patterns))
        except ValueError as error:
            raise inner.error(str(error), key) from None
    return found


def _hosts(section: Section) -> cond.Hosts:
    hosts = [text.lower().rstrip(".") for text in section.texts("hosts")]
    expected = "a host name without scheme, port or path"
    _texts(section, "hosts", lambda text: bool(_HOST.fullmatch(text.lower().rstrip("."))), expected)
    return cond.Hosts(Globs(hosts))


def _conditions(section: Section) -> list[Condition]:
    """All conditions of a rule, the cheap ones first."""
    found: list[Condition] = []
    if "groups" in section:
        found.append(cond.Groups(frozenset(_texts(section, "groups"))))
    if actions := _actions(section):
        found.append(actions)
    if "principals" in section:
        found.append(cond.Principals.of(_texts(section, "principals")))
    if "agents" in section:
        found.append(cond.Agents(Globs(_texts(section, "agents"))))
    if "hosts" in section:
        found.append(_hosts(section))
    if "methods" in section:
        valid = _texts(section, "methods", lambda text: bool(_METHOD.fullmatch(text)), "a method in capitals")
        found.append(cond.Methods(frozenset(valid)))
    if "regions" in section:
        found.append(cond.Regions(Globs(_texts(section, "regions"))))
    if "accounts" in section:
        found.append(cond.Accounts(Globs(_texts(section, "accounts"))))
    if "resources" in section:
        found.append(cond.Resources(Globs(_texts(section, "resources"))))
    if "paths" in section:
        starts = _texts(section, "paths", lambda text: text[0] in "/*", "a path that starts with / or *")
        found.append(cond.Paths(Globs(starts)))
    if "time" in section:
        found.append(Window.of(section.section("time")))
    if "params" in section:
        found.extend(_params(section))
    for key, kind in (("sql", Sql), ("shell", Shell)):
        if key in section:
            try:
                found.append(kind.of(_texts(section, key)))
            except ValueError as error:
                raise section.error(str(error), key) from None
    return found


def _flag(section: Section, key: str, effect: str) -> bool:
    value = section.flag(key, False)
    if value and effect == "deny":
        raise section.error(f"{key!r} makes no sense on a deny", key)
    return value


def read(section: Section) -> Rule:
    """One rule; RuleError with file and line for anything that is not the language."""
    for key in KEYS:
        section.value(key, None)  # so that an unknown key is told apart from one that a reader passed over
    section.finish()
    name = section.text("id")
    if not _ID.fullmatch(name) or name == "default":
        raise section.error(f"{name!r} is not a rule id: letters, digits, dot, dash and underscore", "id")
    section.where = f"rule {name!r}"
    effect = cast(Effect, section.choice("effect", ("allow", "deny", "approve")))
    if effect != "approve" and (stray := next((key for key in approval.KEYS if key in section), None)):
        raise section.error(f"{stray!r} goes with `effect: approve` only", stray)
    conditions = _conditions(section)
    hosts = next((each.hosts for each in conditions if isinstance(each, cond.Hosts)), None)
    exact = frozenset(text for text in hosts.texts if is_exact(text)) if hosts else frozenset()
    opaque = section.choice("opaque", ("allow", "deny"), "") if "opaque" in section else None
    record = section.choice("record", ("full", "metadata")) if "record" in section else None
    found = Rule(
        id=name,
        effect=effect,
        conditions=tuple(conditions),
        reason=section.text("reason", ""),
        terms=approval.read(section) if effect == "approve" else None,
        mask=section.choice("mask", ("on", "off")) == "on" if "mask" in section else None,
        record=cast(Literal["full", "metadata"] | None, record),
        opaque=cast(Literal["allow", "deny"] | None, opaque),
        anchor=_flag(section, "anchor", effect),
        sign=_flag(section, "sign", effect) if "sign" in section else None,
        unsigned=_flag(section, "unsigned", effect),
        websocket=_flag(section, "websocket", effect),
        file=section.file,
        line=section.line(),
        exact_hosts=exact,
        names_hosts=hosts is not None,
        speaks_of_aws=any(each.key in AWS_KEYS for each in conditions),
        lines={key: section.line(key) for key in section.keys()},  # noqa: SIM118
        source=plain(section.data),
    )
    if found.sign and (not hosts or len(exact) != len(hosts.texts)):
        raise section.error("'sign' needs `hosts` that are named exactly, without wildcards", "sign")
    return found


def duplicates(rules: list[Rule]) -> list[RuleError]:
    """An error for the second of any two rules with one id."""
    seen: dict[str, Rule] = {}
    found = []
    for rule in rules:
        first = seen.setdefault(rule.id, rule)
        if first is not rule:
            found.append(RuleError(f"the id {rule.id!r} is taken by {first.file}:{first.line}", rule.file, rule.line))
    return found
