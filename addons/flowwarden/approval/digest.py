"""What a grant is bound to: a SHA-256 over everything in a request that has a meaning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..types import Call, Principal, Request
from .idempotency import GENERATED, members

_WITHOUT_MEANING = frozenset(
    {
        # hop by hop (RFC 9110 §7.6.1), and what the body's own hash says already
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # bound as the host
        "host",
        # says who made the request, not what it asks for
        "accept-encoding",
        "date",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-amzn-trace-id",
    }
)
_SIGNING = frozenset(
    # AWS only: signatures and dates, new with every attempt, and verified by the gateway before anything is asked
    {
        "authorization",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-security-token",
        "x-amz-user-agent",
    }
)
_PRESIGNED = frozenset({"x-amz-credential", "x-amz-date", "x-amz-security-token", "x-amz-signature"})
_SLOT = "<generated>"


def digest(
    principal: Principal,
    lease_role: str,
    account: str,
    region: str,
    call: Call,
    request: Request,
    body_sha256: str,
) -> str:
    """The hex SHA-256 of a request as a human approves it.

    Dates, signatures and `amz-sdk-*` are left out, as are idempotency tokens that an SDK generated: a retry is the same
    request. `body_sha256` is the hash of the bytes on the wire, or what a body in the aws-chunked form says (`spool.said`);
    it counts as it is where the body is not in memory.
    """
    tokens = _tokens(call, request)
    parts = [
        "flowwarden approval 1",
        [principal.issuer, principal.subject, principal.agent, principal.owner],
        [lease_role, account, region, call.partition],
        "" if call.operation is None else str(call.operation),
        [request.method, request.scheme, request.host, request.port],
        _emptied(request.path, tokens.get("uri")),
        _query(request.query, tokens.get("querystring"), call.aws),
        _headers(request, tokens.get("header"), call.aws),
        _body(request, tokens.get("body"), body_sha256),
    ]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class _Token:
    name: str
    value: str


def _tokens(call: Call, request: Request) -> dict[str, _Token]:
    """The generated idempotency token in each place, by location."""
    if call.operation is None or not call.aws:
        return {}
    found: dict[str, _Token] = {}
    params: Mapping[str, object] = call.params or {}
    for member, location, name in members(call.operation):
        value = params.get(member)
        if isinstance(value, str) and GENERATED.fullmatch(value):
            found[location] = _Token(name, value)
    if "body" in found and not request.body and call.protocol in ("query", "ec2"):
        found["querystring"] = found.pop("body")  # a query call sent as GET
    return found


def _emptied(text: str, token: _Token | None) -> str:
    """The text with the token's one occurrence emptied; twice, it means something else too and stays."""
    return text.replace(token.value, _SLOT) if token is not None and text.count(token.value) == 1 else text


def _query(query: str, token: _Token | None, aws: bool) -> list[str]:
    """The query's parts as sent, in order, without a presigned URL's date and signature."""
    kept = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if aws and name.lower() in _PRESIGNED:
            continue
        mine = token is not None and value == token.value and name.lower() == token.name.lower()
        kept.append(f"{name}={_SLOT}" if mine else part)
    return kept


def _headers(request: Request, token: _Token | None, aws: bool) -> list[list[str]]:
    """Every header that is not known to be without a meaning; values of one name keep their order."""
    kept = []
    for name in sorted(request.fields):
        if name in _WITHOUT_MEANING or (aws and (name in _SIGNING or name.startswith("amz-sdk-"))):
            continue
        values = [value.strip(" \t") for value in request.fields[name]]
        if token is not None and name == token.name.lower() and values == [token.value]:
            values = [_SLOT]
        kept.append([name, *values])
    return kept


def _body(request: Request, token: _Token | None, body_sha256: str) -> str:
    """The body's hash; over the body without what changes from one attempt to the next, where it is in memory."""
    body = request.body
    if not body or token is None or body.count(token.value.encode()) != 1:
        return body_sha256
    return "normalised:" + hashlib.sha256(body.replace(token.value.encode(), _SLOT.encode())).hexdigest()
