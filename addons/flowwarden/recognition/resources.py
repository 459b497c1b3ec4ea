"""Fills the ARN formats of an action from parameters, account and region.

What cannot be filled is None: it matches deny and approve, and never allows.
"""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_ENDINGS = ("withpath", "identifier", "resourceid", "name", "arn", "id")
_LIMIT = 10_000  # values looked at in one request

Formats = Iterable[tuple[str, bool]]


@dataclass(slots=True)
class Context:
    """What an ARN needs beside the parameters."""

    partition: str
    region: str
    account: str
    noun: str = ""  # what the operation's name says it is about: `Connection` of CreateConnection
    names: Mapping[str, list[str]] = field(default_factory=dict)  # variables whose parameter has another name


def fill(formats: Formats, params: Mapping[str, Any], context: Context) -> list[str | None]:
    """The ARNs of one action: `["*"]` for an action without resource types, None for what cannot be filled."""
    formats = tuple(formats)
    if not formats:
        return ["*"]
    values = gather(params)
    if "queueurl" in values:
        values.setdefault("queue", []).extend(_queue(url, context) for url in values["queueurl"])
    arns = [text for key, texts in values.items() if key[:1] != "{" for text in texts if text[:4] == "arn:"]
    found: dict[str | None, None] = {}
    named: set[str] = set()  # values that name a resource of this action
    used: set[str] = set()  # those of them that became an ARN
    for template, required in formats:
        filled = _fill_one(template, values, arns, context, named, used) if template else []
        found.update(dict.fromkeys(filled))
        if required and not filled and not values.get("resource"):
            found[None] = None
    if not found or named - used:
        found[None] = None
    return list(found)


_QUEUE_URL = re.compile(r"https?://[^/]+/(\d{12})/([\w-]{1,80}(?:\.fifo)?)/?")


def _queue(url: str, context: Context) -> str:
    """A queue's ARN from its URL, which names the account that owns it; anything else stays what it is, and unfilled."""
    found = _QUEUE_URL.fullmatch(url)
    return f"arn:{context.partition}:sqs:{context.region}:{found[1]}:{found[2]}" if found else f"url:{url}"


def gather(params: Mapping[str, Any]) -> dict[str, list[str]]:
    """Every text below the parameters, by the simplified name of its member."""
    found: dict[str, list[str]] = {}
    pending: deque[tuple[str, Any, int]] = deque((name, value, 0) for name, value in params.items())
    seen = 0
    while pending and seen < _LIMIT:
        name, value, depth = pending.popleft()
        seen += 1
        if isinstance(value, str):
            key = simplify(name)
            if depth == 0 or key not in _VAGUE:
                found.setdefault(key, []).append(value)
        elif isinstance(value, Mapping):
            if depth == 0:
                found["{" + name + "}"] = [str(key) for key in value]
            pending.extend((str(inner), item, depth + 1) for inner, item in value.items())
        elif isinstance(value, list | tuple):
            pending.extend((name, item, depth) for item in value)
    if pending:
        found.setdefault("", []).append("arn:too-many-values")
    return found


_VAGUE = {"", "name", "key", "value", "id", "type", "values"}


@functools.lru_cache(8192)
def simplify(name: str) -> str:
    """`InstanceIds`, `InstanceId`, `${InstanceId}` and `DBInstanceIdentifier`, `${DbInstanceName}` come to one spelling."""
    text = re.sub(r"[^a-z0-9]", "", name.lower())
    changed = True
    while changed:
        changed = False
        for ending in (*_ENDINGS, "list", "s"):
            if text.endswith(ending) and len(text) > len(ending) + 1:
                text, changed = text[: -len(ending)], True
    return text


@functools.lru_cache(8192)
def _compiled(template: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """A pattern that a whole ARN of this format matches, and the format's own variables."""
    names = tuple(_VARIABLE.findall(template))
    text = re.escape(_VARIABLE.sub("\x00", template)).replace("\x00", "(.+)").replace(re.escape("\x00"), "(.+)")
    own = tuple(name for name in names if name not in {"Partition", "Region", "Account"})
    return re.compile(text), own


def _fill_one(
    template: str,
    values: dict[str, list[str]],
    arns: list[str],
    context: Context,
    named: set[str],
    used: set[str],
) -> list[str]:
    pattern, own = _compiled(template)
    if not own:
        filled = _known(template, context.partition, context.region, context.account)
        return [filled] if filled else []
    whole = [text for text in arns if pattern.fullmatch(text)]
    used.update(whole)
    candidates = [(name, _texts(name, values, context)) for name in own]
    *fixed, (last, texts) = candidates
    named.update(texts)
    named.update(values.get("resource", ()))
    base = _known(template, context.partition, context.region, context.account)
    for name, options in fixed:
        plain = [value for value in options if _is_name(value)]
        base = base.replace("${" + name + "}", plain[0], 1) if base and len(plain) == 1 else None
    if base is None:
        return whole
    names = [text for text in texts if _is_name(text)]
    used.update(names)
    bare = [text.removeprefix("/") if last.endswith("WithoutLeadingSlash") else text for text in names]
    return whole + [base.replace("${" + last + "}", text, 1) for text in bare]


def _texts(variable: str, values: dict[str, list[str]], context: Context) -> list[str]:
    """The values that a variable may stand for: by its own name, by the names it goes under, or the operation's own `Name`."""
    if variable in context.names:
        return [text for name in context.names[variable] for text in values.get(_key(name), ())]
    key = simplify(variable)
    if key in values:
        return values[key]
    found = [text for prefix in _PREFIXES for text in values.get(prefix + key, ())]
    if not found and context.noun and simplify(context.noun) == key:
        found = [*values.get("name", ()), *values.get("id", ()), *values.get("arn", ())]
    return found


def _key(name: str) -> str:
    return name if name.startswith("{") else simplify(name)


_PREFIXES = ("source", "target", "destination", "desired", "new")


def _is_name(text: str) -> bool:
    """Whether a value is a bare name or id. What holds a colon (partial ARNs, `name:alias`) or is an alias is not."""
    return bool(text) and ":" not in text and not text.startswith("alias/")


@functools.lru_cache(8192)
def _known(template: str, partition: str, region: str, account: str) -> str | None:
    """The format with partition, region and account filled; None where one of them is not known."""
    text = template.replace("${Partition}", partition)
    for name, value in (("${Region}", region), ("${Account}", account)):
        if name in text:
            if not value:
                return None
            text = text.replace(name, value)
    return text
