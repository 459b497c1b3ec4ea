"""Explain: recognises and decides requests from a file, without a proxy: what `flowwarden explain` prints."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .credentials import rules as credentials
from .errors import ConfigError, Refusal
from .policy.ruleset import RuleSet, load
from .recognition.recogniser import Recogniser
from .types import Call, Principal, Request

Asked = tuple[Request, Principal | None]


def explained(
    file: Path, rules: Path, *, groups: Iterable[str] = (), reasons: bool = False
) -> Iterator[dict[str, Any]]:
    """One object a request, in the file's order. ConfigError for a file that is none of the three forms; RuleError.

    `groups` are whose requests those are that name no principal themselves (HAR and .mitm never do); empty: nobody's.
    """
    ruleset, recogniser = load(rules), Recogniser()
    identity = rules / "identity.yaml"
    lending = credentials.load(identity) if identity.is_file() else credentials.CredentialRules()
    member = frozenset(groups)
    unnamed = Principal("", "", groups=member) if member else None
    for request, named in requests(file):
        principal = named or unnamed
        lent = lending.match(principal) if principal else next(iter(lending.entries), None)
        yield explain(request, principal, ruleset, recogniser, account=lent.account if lent else "", reasons=reasons)


def explain(
    request: Request,
    principal: Principal | None,
    ruleset: RuleSet,
    recogniser: Recogniser,
    *,
    account: str = "",
    reasons: bool = False,
) -> dict[str, Any]:
    """What the gateway makes of one request. A request that it refuses to read has `refused` and its reason."""
    try:
        call = recogniser.recognise(request, account=account)
        params = call.params
        decision = ruleset.decide(principal, call, request, datetime.now(UTC))
        found: dict[str, Any] = {
            "service": call.operation.service if call.operation else None,
            "operation": call.operation.name if call.operation else None,
            "actions": [action.name for action in call.actions],
            "access_levels": sorted({level for action in call.actions for level in action.levels}),
            "region": call.region,
            "params": _plain(params),
            "resources": list(call.resources),
            "decision": decision.effect,
            "rules": list(decision.rules),
        }
        if decision.reason:
            found["reason"] = decision.reason
        if reasons:
            matches = ruleset.explain(principal, call, request, datetime.now(UTC))
            found["matched"] = [
                {"rule": m.rule.id, "effect": m.rule.effect, "why": m.why} for m in matches if m.matched
            ]
        return found
    except Refusal as refusal:
        return {**_nothing(Call(aws=True)), "refused": refusal.code, "reason": refusal.message}


def _nothing(call: Call) -> dict[str, Any]:
    return {
        "service": None,
        "operation": None,
        "actions": [],
        "access_levels": [],
        "region": call.region,
        "params": None,
        "resources": [],
        "decision": "deny",
        "rules": [],
    }


def requests(file: Path) -> Iterator[Asked]:
    """The requests of a file: JSON lines, HAR 1.2, or .mitm."""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    head = data.lstrip()[:1]
    if head.isdigit():
        yield from _from_mitm(data, file)
    elif head == b"{" and _har(data) is not None:
        yield from (_from_har(entry, file, at) for at, entry in enumerate(_har(data) or (), 1))
    else:
        for at, line in enumerate(data.splitlines(), 1):
            if line.strip():
                yield _from_json(line, file, at)


def _har(data: bytes) -> list[dict[str, Any]] | None:
    try:
        document = json.loads(data)
        entries = document["log"]["entries"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return entries if isinstance(entries, list) else None


def _from_har(entry: Mapping[str, Any], file: Path, at: int) -> Asked:
    try:
        asked = entry["request"]
        posted = asked.get("postData") or {}
        text = posted.get("text") or ""
        body = base64.b64decode(text, validate=True) if posted.get("encoding") == "base64" else text.encode()
        headers = [(str(each["name"]), str(each["value"])) for each in asked.get("headers", [])]
        return _request(asked["method"], asked["url"], headers, body), None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{file}: entry {at} is not a HAR entry: {error}") from None


def _from_json(line: bytes, file: Path, at: int) -> Asked:
    try:
        asked = json.loads(line)
        fields = asked.get("headers") or {}
        headers = [(str(name), str(value)) for name, value in (fields.items() if isinstance(fields, dict) else fields)]
        body = base64.b64decode(asked.get("body") or "", validate=True)
        who = asked.get("principal")
        principal = (
            Principal("", str(who.get("sub", "")), groups=frozenset(map(str, who.get("groups", ())))) if who else None
        )
        return _request(asked["method"], asked["url"], headers, body), principal
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
        raise ConfigError(
            f"{file}:{at}: not a request: {_missing(error)}",
            'A line is {"method": …, "url": …, "headers": {…}, "body": base64}',
        ) from None


def _missing(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _from_mitm(data: bytes, file: Path) -> Iterator[Asked]:
    from .recording.frames import decode, whole_frames

    end = 0
    for begin, end in whole_frames(data):
        state = decode(data[begin:end])
        if state.get("type") != "http":
            continue
        asked = state["request"]
        headers = [(_text(name), _text(value)) for name, value in asked["headers"]]
        url = f"{_text(asked['scheme'])}://{asked['host']}:{asked['port']}{_text(asked['path'])}"
        yield _request(_text(asked["method"]), url, headers, asked.get("content")), None
    if end < len(data):
        raise ConfigError(f"{file}: what comes after byte {end} is not a whole frame")


def _request(method: str, url: str, headers: list[tuple[str, str]], body: bytes | None) -> Request:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url[:100]!r} is not a URL")
    rest = url.partition("://")[2]
    slash = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=-1)
    target = (rest[slash:] if slash >= 0 else "/").partition("#")[0]
    target = target if target.startswith("/") else f"/{target}"
    fields = tuple(
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers if not name.startswith(":")
    )
    if not any(name.lower() == b"host" for name, _ in fields):
        fields = ((b"Host", parts.hostname.encode()), *fields)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Request(method.upper(), parts.scheme, parts.hostname.removesuffix("."), port, target, fields, body)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """Parameters as JSON: bytes in base64, times in RFC 3339."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
