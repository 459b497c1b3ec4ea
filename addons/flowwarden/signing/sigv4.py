"""Signature version 4: checks what the agent signed, and signs the same request again with real credentials."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import sha256
from hmac import compare_digest
from urllib.parse import quote, unquote

from ..errors import Refusal
from ..types import Credentials, Headers, Request
from .authentication import ALGORITHM, Authentication, Kind, Scope, amz_time, malformed
from .canonical import PLAIN, Spelling, canonical_request, published, spellings
from .keys import SigningKey, signing_key
from .shapes import refuse

__all__ = [
    "Authentication",
    "Signed",
    "canonical_request",
    "check_payload",
    "check_scope",
    "needs_body",
    "sign",
    "string_to_sign",
    "unknown_key",
    "verify",
]

EMPTY_SHA256 = sha256(b"").hexdigest()
SKEW = 300.0  # seconds
SKEW_S3 = 900.0
RENEW_AFTER = 120.0  # seconds; a signature is good for five minutes, and the way to AWS takes some
NEVER_SIGNED = frozenset(
    {
        "authorization",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""RFC 9110, section 7.6.1, and what proxies add, answer or take away themselves."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A request's new target and headers, and what chunk signatures go on from. It carries real credentials."""

    target: str = field(repr=False)
    headers: Headers = field(repr=False)
    signature: str = field(repr=False)
    date: str
    scope: Scope


def string_to_sign(date: str, scope: Scope, canonical: bytes) -> str:
    return f"{ALGORITHM}\n{date}\n{scope}\n{sha256(canonical).hexdigest()}"


def needs_body(auth: Authentication) -> bool:
    """Whether the signature can only be checked, and made, with the body's hash."""
    return auth.kind is Kind.ABSENT_HASH


def check_scope(auth: Authentication, service: str, region: str) -> None:
    """Refusal if the credential scope is not that of the endpoint (empty: not known, not compared)."""
    if service and auth.service != service:
        raise _scope_error(auth, f"credential should be scoped to correct service: {service!r}")
    if region and auth.region != region:
        raise _scope_error(auth, f"credential should be scoped to a valid region, not {auth.region!r}: use {region!r}")


def _scope_error(auth: Authentication, message: str) -> Refusal:
    return malformed(True, message) if auth.s3 else refuse(message, "SignatureDoesNotMatch")


def unknown_key(auth: Authentication) -> Refusal:
    """The refusal for a key id that is not this session's: S3 and everybody else have a code of their own."""
    if auth.s3:
        return refuse("the AWS access key id you provided is not one of this session", "InvalidAccessKeyId")
    return refuse("the security token included in the request is not one of this session", "InvalidClientTokenId")


def check_payload(auth: Authentication, sha256_hex: str) -> None:
    """Refusal if a body (its SHA-256, over the bytes on the wire) is not the one that was signed."""
    if auth.kind is Kind.HASHED and not compare_digest(auth.content_sha256 or "", sha256_hex):
        if auth.s3:
            raise refuse(
                "the provided 'x-amz-content-sha256' header does not match what was computed",
                "XAmzContentSHA256Mismatch",
                400,
            )
        raise refuse("the body is not the one whose hash was signed", "SignatureDoesNotMatch")


def verify(
    request: Request,
    auth: Authentication,
    secret_access_key: str,
    *,
    now: float,
    body_sha256: str | None,
    session_token: str = "",
) -> None:
    """Checks a request against a phantom.

    `now`: POSIX seconds. `body_sha256`: SHA-256 in hexadecimal of the body on the wire, None where it is not known yet
    (then `check_payload` is still due). Raises Refusal with AWS's own code.
    """
    _check_token(auth, session_token)
    _check_time(auth, now)
    _check_signed_headers(request, auth)
    payload = _payload(auth, body_sha256)
    fields = _with_host(request, request.fields)
    key = signing_key(secret_access_key, *auth.scope)
    auth.spelling = PLAIN
    if not _matches(request, auth, fields, payload, key=key, spelling=PLAIN):
        auth.spelling = None
        plain = all(value.isascii() for name in auth.signed_headers for value in fields.get(name, ()))
        for spelling in spellings(request.target, auth.s3, ascii_only=plain):
            if _matches(request, auth, fields, payload, key=key, spelling=spelling):
                auth.spelling = spelling
                break
        else:
            raise refuse(
                "the request signature we calculated does not match the signature you provided; check your key and "
                "signing method",
                "SignatureDoesNotMatch",
            )
    if body_sha256 is not None:
        check_payload(auth, body_sha256)


def _matches(
    request: Request,
    auth: Authentication,
    fields: Mapping[str, Sequence[str]],
    payload: str,
    *,
    key: SigningKey,
    spelling: Spelling,
) -> bool:
    canonical = canonical_request(
        request.method,
        request.target,
        fields,
        auth.signed_headers,
        payload,
        s3=auth.s3,
        presigned=auth.presigned,
        spelling=spelling,
    )
    return compare_digest(key.sign(string_to_sign(auth.date, auth.scope, canonical)), auth.signature)


def _check_token(auth: Authentication, session_token: str) -> None:
    if not compare_digest(auth.session_token.encode(), session_token.encode()):
        code, status = ("InvalidToken", 400) if auth.s3 else ("InvalidClientTokenId", 403)
        raise refuse("the security token included in the request is invalid", code, status)


def _check_time(auth: Authentication, now: float) -> None:
    age = now - amz_time(auth.date)
    limit = SKEW_S3 if auth.s3 else SKEW
    if not auth.presigned:
        if abs(age) > limit:
            raise refuse(
                f"the difference between the request time and the current time is too large: {age:.0f} s, "
                f"at most {limit:.0f} s are allowed",
                "RequestTimeTooSkewed",
            )
        return
    if age < -limit:
        raise refuse("request is not valid yet", "AccessDenied" if auth.s3 else "RequestTimeTooSkewed")
    if age > auth.expires:
        message = f"request has expired: it was valid for {auth.expires} s"
        raise refuse(message, "AccessDenied") if auth.s3 else refuse(message, "RequestExpired", 400)


def _check_signed_headers(request: Request, auth: Authentication) -> None:
    signed = auth.signed_headers
    if "host" not in signed:
        raise refuse("'Host' must be a signed header in the request", *_unsigned(auth))
    for name in request.fields:
        if name.startswith("x-amz-") and name not in signed:
            raise refuse(f"there were headers present in the request which were not signed: {name}", *_unsigned(auth))


def _unsigned(auth: Authentication) -> tuple[str]:
    return ("AccessDenied" if auth.s3 else "SignatureDoesNotMatch",)


def _payload(auth: Authentication, body_sha256: str | None) -> str:
    if auth.content_sha256 is not None:
        return auth.content_sha256
    if auth.kind is Kind.UNSIGNED:  # a presigned S3 URL that does not say so
        return Kind.UNSIGNED.value
    if body_sha256 is None:
        raise refuse("the whole body is needed to check this signature", "ServiceUnavailable", 503)
    return body_sha256


def _with_host(request: Request, fields: dict[str, list[str]]) -> dict[str, list[str]]:
    """Over HTTP/2 the host stands in :authority."""
    if "host" in fields:
        return fields
    usual = {"https": 443, "http": 80}.get(request.scheme) == request.port
    return {**fields, "host": [request.host if usual else f"{request.host}:{request.port}"]}


def sign(
    request: Request,
    auth: Authentication,
    credentials: Credentials,
    *,
    now: float | None = None,
    set_headers: Mapping[str, str] = {},
    drop_headers: frozenset[str] = frozenset(),
    body_sha256: str | None = None,
) -> Signed:
    """The request as the client signed it, signed with `credentials`: header or query, hash, order and spelling stay.

    `set_headers` are added or replace what came under that name, and are signed if x-amz-* or if the client signed
    them; `drop_headers` (lower case) are left out. The token is replaced, added, or left out with credentials that have
    none. A header date older than RENEW_AFTER seconds is renewed; a presigned one never is, since its life counts from
    it. `body_sha256` saves hashing `request.body` for signatures that need it.
    """
    if auth.kind is Kind.ABSENT_HASH and body_sha256 is None and request.body is not None:
        body_sha256 = sha256(request.body).hexdigest()
    payload = _payload(auth, body_sha256)
    date = auth.date if auth.presigned else _renewed(auth.date, time.time() if now is None else now)
    scope = Scope(date[:8], auth.scope.region, auth.scope.service)
    changes = {name.lower(): (name, value) for name, value in set_headers.items()}
    if not auth.presigned:
        _date_and_token(auth, date, credentials, changes)
        if not credentials.session_token:
            drop_headers |= {"x-amz-security-token"}
    headers = _changed(request.headers, changes, drop_headers)
    outgoing = _with_host(request, _fields(headers))
    signed_headers = _to_sign(auth, outgoing)
    target = (
        _presigned_target(request.target, auth, credentials, scope, signed_headers)
        if auth.presigned
        else request.target
    )
    canonical = canonical_request(
        request.method,
        target,
        outgoing,
        signed_headers,
        payload,
        s3=auth.s3,
        presigned=auth.presigned,
        spelling=auth.spelling or published(auth.s3),
    )
    key = signing_key(credentials.secret_access_key, *scope)
    signature = key.sign(string_to_sign(date, scope, canonical))
    if auth.presigned:
        return Signed(_with_signature(target, signature), headers, signature, date, scope)
    value = (
        f"{ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={';'.join(signed_headers)}, "
        f"Signature={signature}"
    ).encode()
    headers = tuple([(name, value if name.lower() == b"authorization" else old) for name, old in headers])
    return Signed(target, headers, signature, date, scope)


def _renewed(date: str, now: float) -> str:
    if abs(now - amz_time(date)) <= RENEW_AFTER:
        return date
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def _date_and_token(
    auth: Authentication, date: str, credentials: Credentials, changes: dict[str, tuple[str, str]]
) -> None:
    if date != auth.date and auth.date_header:
        changes["date"] = ("Date", formatdate(amz_time(date), usegmt=True))
    elif date != auth.date:
        changes["x-amz-date"] = ("X-Amz-Date", date)
    if credentials.session_token:
        changes["x-amz-security-token"] = ("X-Amz-Security-Token", credentials.session_token)


def _changed(headers: Headers, changes: Mapping[str, tuple[str, str]], dropped: frozenset[str]) -> Headers:
    """Header fields with some replaced in place under the client's spelling, others added at the end, others gone."""
    kept: list[tuple[bytes, bytes]] = []
    left = dict(changes)
    for name, value in headers:
        key = name.decode("latin-1").lower()
        if key in dropped:
            continue
        if key not in changes:
            kept.append((name, value))
        elif key in left:
            kept.append((name, left.pop(key)[1].encode("latin-1")))
    kept.extend((name.encode("latin-1"), value.encode("latin-1")) for name, value in left.values())
    return tuple(kept)


def _fields(headers: Headers) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _to_sign(auth: Authentication, outgoing: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What the client signed, as far as it leaves; host; every x-amz-*; nothing that proxies change."""
    names = {name for name in auth.signed_headers if name in outgoing}
    names.update([name for name in outgoing if name.startswith("x-amz-")])
    names.add("host")
    names -= NEVER_SIGNED
    return tuple(sorted(names))


def _presigned_target(
    target: str, auth: Authentication, credentials: Credentials, scope: Scope, signed_headers: tuple[str, ...]
) -> str:
    """The target with new credential, token and list of headers, each in its place; the signature is still the old."""
    path, _, query = target.partition("?")
    new = {
        "x-amz-credential": f"{credentials.access_key_id}/{scope}",
        "x-amz-signedheaders": ";".join(signed_headers),
        "x-amz-security-token": credentials.session_token,
    }
    pairs: list[str] = []
    for pair in query.split("&"):
        name, equals, _ = pair.partition("=")
        key = unquote(name).lower()
        if key == "x-amz-security-token" and not credentials.session_token:
            continue
        pairs.append(f"{name}{equals}{quote(new.pop(key), safe='-_.~')}" if key in new else pair)
    if credentials.session_token and "x-amz-security-token" in new:
        at = next(i for i, pair in enumerate(pairs) if unquote(pair).lower().startswith("x-amz-signedheaders="))
        pairs.insert(at, f"X-Amz-Security-Token={quote(credentials.session_token, safe='-_.~')}")
    return f"{path}?{'&'.join(pairs)}"


def _with_signature(target: str, signature: str) -> str:
    path, _, query = target.partition("?")
    pairs = [
        f"{pair.partition('=')[0]}={signature}" if pair.lower().startswith("x-amz-signature=") else pair
        for pair in query.split("&")
    ]
    return f"{path}?{'&'.join(pairs)}"
