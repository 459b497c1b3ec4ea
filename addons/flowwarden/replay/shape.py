"""Answers as structures: what differs between two of them, and which ids one side assigned in place of the other's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

from .masked import fits, holds_mask

_VOLATILE = re.compile(
    r"(requestid|request_id|hostid|extendedrequestid|date|time|timestamp|lastmodified|createdat|updatedat|expiration|"
    r"creationdate|_at|responsemetadata|retryattempts|servertime|lastupdated\w*|changebatch|marker)$",
    re.IGNORECASE,
)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d|[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} ")
_ID = re.compile(r"[A-Za-z0-9+/=_.:@~-]{6,2048}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}|[0-9a-f]{1,4}(:[0-9a-f]{0,4}){2,7}", re.IGNORECASE)  # IPv4, IPv6, MAC
_PREFIX = re.compile(r"([a-z]{1,12})-[0-9a-zA-Z]{4,}")
_ASSIGNED = re.compile(
    r"(id|ids|arn|token|handle|url|uri|identifier|version|nonce|cookie|serial\w*)(\[\d+\])?$", re.IGNORECASE
)
_MOST_DEPTH = 200


def parse(body: bytes, content_type: str = "") -> Any:
    """A body as nested mappings and lists; text where it is neither JSON nor XML, bytes where it is not text either."""
    start = body.lstrip()[:1]
    try:
        if start in (b"{", b"[") or "json" in content_type:
            return json.loads(body) if body.strip() else None
        if start == b"<" and b"<!" not in body[:2000].replace(b"<!--", b""):
            return {"xml": _element(ET.fromstring(body))}  # noqa: S314 - no document type, so no entities
    except (ValueError, ET.ParseError, RecursionError):
        pass
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body


def _element(element: ET.Element, depth: int = 0) -> Any:
    if depth > _MOST_DEPTH:
        raise ValueError("too deep")
    children = list(element)
    if not children:
        return element.text or ""
    found: dict[str, Any] = {}
    for child in children:
        name = child.tag.rpartition("}")[2]
        value = _element(child, depth + 1)
        if name in found:
            if not isinstance(found[name], list):
                found[name] = [found[name]]
            found[name].append(value)
        else:
            found[name] = value
    return found


class Ids:
    """Ids of the recording and what stands for them in the sandbox."""

    def __init__(self) -> None:
        self.new: dict[str, str] = {}
        self._old: dict[str, str] = {}

    def learn(self, recorded: str, answered: str, field: str = "") -> bool:
        """Takes a pair in; False if it contradicts what is known, or is no id. The field's name helps to tell."""
        if recorded in self.new or answered in self._old:
            return self.new.get(recorded) == answered
        if not same_kind(recorded, answered, bool(_ASSIGNED.search(field))):
            return False
        self.new[recorded] = answered
        self._old[answered] = recorded
        return True

    def apply(self, text: str) -> str:
        """The text with recorded ids replaced, the longest first, so that an ARN goes before the id in it."""
        found = [old for old in self.new if old in text]
        if not found:
            return text
        pattern = re.compile("|".join(re.escape(old) for old in sorted(found, key=len, reverse=True)))
        return pattern.sub(lambda match: self.new[match[0]], text)


def same_kind(a: str, b: str, named: bool = False) -> bool:
    """Whether two texts look like ids of one kind: both UUIDs, ARNs of one type, one prefix, or tokens of like shape.

    `named` says that their field's name speaks of an id, so that they need no digits to be taken for one.
    """
    if not (_ID.fullmatch(a) and _ID.fullmatch(b)):
        return False
    if a.startswith("arn:") or b.startswith("arn:"):
        first, second = a.split(":", 5), b.split(":", 5)
        return len(first) == len(second) == 6 and first[2:4] == second[2:4] and _type(first[5]) == _type(second[5])
    if _UUID.fullmatch(a) or _UUID.fullmatch(b):
        return bool(_UUID.fullmatch(a) and _UUID.fullmatch(b))
    if _ADDRESS.fullmatch(a) or _ADDRESS.fullmatch(b):
        return bool(_ADDRESS.fullmatch(a) and _ADDRESS.fullmatch(b))
    one, two = _PREFIX.fullmatch(a), _PREFIX.fullmatch(b)
    if one or two:
        return bool(one and two and one[1] == two[1])
    if a.startswith(("http://", "https://")) or "://" in a:
        return "://" in b
    return (named or (_random(a) and _random(b))) and (len(a) == len(b) or min(len(a), len(b)) >= 24)


def _type(resource: str) -> str:
    return re.split(r"[:/]", resource, maxsplit=1)[0] if re.search(r"[:/]", resource) else ""


def _random(text: str) -> bool:
    """Whether a text has what assigned ids have and words have not: digits among letters, or a good length."""
    digits = sum(letter.isdigit() for letter in text)
    return len(text) >= 8 and digits > 0 and (digits < len(text) or len(text) >= 10)


def differences(recorded: Any, answered: Any, ids: Ids, path: str = "") -> Iterator[str]:
    """What differs, as lines `path: recorded → answered`. Volatile fields are left out, assigned ids are learnt."""
    if isinstance(recorded, str) and holds_mask(recorded) and fits(recorded, answered):
        return  # what a mask hides cannot be compared
    if isinstance(recorded, dict) and isinstance(answered, dict):
        for name in sorted(recorded.keys() | answered.keys(), key=str):
            where = f"{path}.{name}" if path else str(name)
            if _VOLATILE.search(str(name)):
                continue
            if name not in answered:
                yield f"{where}: only in the recording"
            elif name not in recorded:
                yield f"{where}: only in the answer"
            else:
                yield from differences(recorded[name], answered[name], ids, where)
    elif isinstance(recorded, list) and isinstance(answered, list):
        if len(recorded) != len(answered):
            yield f"{path}: {len(recorded)} entries → {len(answered)}"
        for at, (old, new) in enumerate(zip(recorded, answered, strict=False)):
            yield from differences(old, new, ids, f"{path}[{at}]")
    elif isinstance(recorded, dict | list) and isinstance(answered, dict | list):
        one = [recorded] if isinstance(recorded, dict) else recorded
        two = [answered] if isinstance(answered, dict) else answered
        yield from differences(one, two, ids, path)  # XML does not tell one entry from a list of one
    elif recorded != answered and not _alike(recorded, answered, ids, path):
        yield f"{path or 'body'}: {_short(recorded)} → {_short(answered)}"


def _alike(recorded: Any, answered: Any, ids: Ids, path: str) -> bool:
    if not (isinstance(recorded, str) and isinstance(answered, str)):
        return False
    if ids.apply(recorded) == answered:
        return True
    if _TIME.match(recorded) and _TIME.match(answered):
        return True
    return ids.learn(recorded, answered, path)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
