"""Reads the AWS authentication of a request, from its header or its query, and refuses what AWS would refuse.

Forms: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-authentication-methods.html and, for the values
of x-amz-content-sha256, https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html.
"""

from __future__ import annotations

import re
from calendar import timegm
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from ..errors import Refusal
from ..types import Request
from . import shapes
from .canonical import S3_FAMILY, Spelling
from .shapes import refuse

ALGORITHM = "AWS4-HMAC-SHA256"
LONGEST_PRESIGNED = 7 * 24 * 3600  # seconds
_LONGEST_LIST = 4096  # characters of SignedHeaders: what is cached has bounds
_HASH = re.compile(r"[0-9a-f]{64}")
_AMZ_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z")
_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<credential>[^,\s]+), *SignedHeaders=(?P<signed>[^,\s]+), *"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
_CREDENTIAL = re.compile(r"(\w{1,128})/(\d{8})/([a-z0-9-]{1,64})/([A-Za-z0-9_.-]{1,64})/aws4_request")
_NAMES = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(?:;[a-z0-9!#$%&'*+.^_`|~-]+)*")
_QUERY_NAMES = frozenset(
    {"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature"}
)
_QUERY_MARKS = _QUERY_NAMES - {"x-amz-date", "x-amz-expires"}
_OTHERS = frozenset({"x-amz-security-token", "x-amz-content-sha256", "x-amz-s3session-token", "x-amz-region-set"})


class Kind(Enum):
    """What the signature says of the body."""

    HASHED = "hashed"
    ABSENT_HASH = "absent hash"  # the hash is in the signature only: the body is needed to check it
    UNSIGNED = "UNSIGNED-PAYLOAD"
    STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"


_KINDS = {kind.value: kind for kind in Kind if kind.value[0].isupper()}


class Scope(NamedTuple):
    """The credential scope: date as YYYYMMDD, region and signing service."""

    date: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


@dataclass(slots=True)
class Authentication:
    """One AWS4-HMAC-SHA256 authentication as it came. `date` is YYYYMMDDTHHMMSSZ, `expires` seconds (presigned only)."""

    access_key_id: str
    date: str
    scope: Scope
    signed_headers: tuple[str, ...]
    signature: str
    content_sha256: str | None
    kind: Kind
    presigned: bool = False
    expires: int = 0
    session_token: str = field(default="", repr=False)
    date_header: bool = False  # the date stands in Date, not in X-Amz-Date
    spelling: Spelling | None = None  # the client's canonical spelling: `verify` finds it, `sign` uses it

    @property
    def region(self) -> str:
        return self.scope.region

    @property
    def service(self) -> str:
        return self.scope.service

    @property
    def s3(self) -> bool:
        return self.scope.service in S3_FAMILY


def parse(request: Request) -> Authentication | None:
    """The authentication of a request; None if it has no AWS authentication at all.

    Raises Refusal with AWS's code for a malformed one, for header and query authentication at once, and for what the
    gateway does not carry: signature version 2, SigV4A, S3 Express, event streams, POST policies, local tokens.
    """
    fields = request.fields
    query = query_authentication(request.query) if request.query else {}
    authorization = fields.get("authorization")
    shapes.check_request(request)
    if query:
        shapes.check_query(query)
    if authorization is None:
        if not query.keys() & _QUERY_MARKS:
            shapes.check_form(request)
            return None
        return _from_query(request, query)
    if len(authorization) != 1:
        raise refuse("the request has more than one Authorization header", "InvalidArgument", 400)
    if query.keys() & _QUERY_MARKS or (authorization[0].startswith("AWS4") and query.keys() & _OTHERS):
        raise refuse(
            "only one auth mechanism allowed; only the X-Amz-Algorithm query parameter or the Authorization header "
            "should be specified",
            "InvalidArgument",
            400,
        )
    if not authorization[0].startswith(ALGORITHM + " "):
        shapes.check_scheme(request, authorization[0])
        shapes.check_form(request)
        return None
    return _from_header(request, authorization[0])


def query_authentication(query: str) -> dict[str, str]:
    """The query's authentication parameters and `action`, decoded, by lower-case name. Refusal if one comes twice."""
    found: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        name = _name(name)
        if name[:6] == "x-amz-" or name in {"awsaccesskeyid", "signature", "action"}:
            if name in found and name[0] == "x":
                raise refuse(f"query parameter {name!r} comes twice", "AuthorizationQueryParametersError", 400)
            found[name] = unquote(value)
    return found


def _name(sent: str) -> str:
    return (unquote(sent.replace("+", " ")) if "%" in sent or "+" in sent else sent).strip().lower()


def _from_header(request: Request, authorization: str) -> Authentication:
    found = _HEADER.fullmatch(authorization)
    parts = found.groupdict() if found else _components(authorization)
    access_key_id, scope = _scope(parts["credential"], presigned=False)
    s3 = scope.service in S3_FAMILY
    if scope.service == "s3express":
        raise shapes.s3_express()
    shapes.check_local(scope.service, {})
    date, from_date = _header_date(request, s3)
    if date[:8] != scope.date:
        raise malformed(s3, f"the scope's date {scope.date} is not the request's date {date[:8]}")
    content = _single(request, "x-amz-content-sha256", s3)
    kind = _kind(content)
    if kind is Kind.ABSENT_HASH and s3:
        raise refuse("missing required header for this request: x-amz-content-sha256", "InvalidRequest", 400)
    return Authentication(
        access_key_id=access_key_id,
        date=date,
        scope=scope,
        signed_headers=_signed_headers(parts["signed"], s3),
        signature=parts["signature"],
        content_sha256=content,
        kind=kind,
        session_token=_single(request, "x-amz-security-token", s3) or "",
        date_header=from_date,
    )


def _from_query(request: Request, query: dict[str, str]) -> Authentication:
    if query.get("x-amz-algorithm") != ALGORITHM:
        raise refuse('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"', "AuthorizationQueryParametersError", 400)
    for pair in request.query.split("&"):  # signing replaces them by their plain names
        sent = pair.partition("=")[0]
        if (name := _name(sent)) != sent.lower() and name[:6] == "x-amz-":
            raise refuse(f"query parameter {name!r} is spelt oddly", "AuthorizationQueryParametersError", 400)
    missing = sorted(_QUERY_NAMES - {"x-amz-expires"} - query.keys())
    if missing:
        raise refuse(f"query authentication lacks {', '.join(missing)}", "AuthorizationQueryParametersError", 400)
    access_key_id, scope = _scope(query["x-amz-credential"], presigned=True)
    if scope.service == "s3express":
        raise shapes.s3_express()
    shapes.check_local(scope.service, query)
    date = query["x-amz-date"]
    amz_time(date)
    s3 = scope.service in S3_FAMILY
    if date[:8] != scope.date:
        raise refuse("the scope's date is not that of X-Amz-Date", "AuthorizationQueryParametersError", 400)
    if not _HASH.fullmatch(query["x-amz-signature"]):
        raise refuse("X-Amz-Signature is not 64 hexadecimal digits", "AuthorizationQueryParametersError", 400)
    if "x-amz-security-token" in request.fields:
        raise refuse("a presigned request carries its token in the query only", "InvalidArgument", 400)
    content = _single(request, "x-amz-content-sha256", s3) or query.get("x-amz-content-sha256")
    kind = Kind.UNSIGNED if content is None and s3 else _kind(content)
    if kind in {Kind.STREAMING_SIGNED, Kind.STREAMING_SIGNED_TRAILER}:
        raise refuse("a presigned request cannot sign its chunks", "AuthorizationQueryParametersError", 400)
    return Authentication(
        access_key_id=access_key_id,
        date=date,
        scope=scope,
        signed_headers=_signed_headers(query["x-amz-signedheaders"], s3),
        signature=query["x-amz-signature"],
        content_sha256=content,
        kind=kind,
        presigned=True,
        expires=_expires(query.get("x-amz-expires"), s3),
        session_token=query.get("x-amz-security-token", ""),
    )


def _components(authorization: str) -> dict[str, str]:
    """The header's parts in any order; Refusal that names what is missing, double or unknown."""
    found: dict[str, str] = {}
    for part in authorization[len(ALGORITHM) :].split(","):
        name, _, value = part.strip().partition("=")
        key = {"Credential": "credential", "SignedHeaders": "signed", "Signature": "signature"}.get(name)
        if key is None or key in found:
            raise refuse(f"{name[:40]!r} does not belong in the Authorization header", "IncompleteSignature", 400)
        found[key] = value.strip()
    for key, name in (("credential", "Credential"), ("signature", "Signature"), ("signed", "SignedHeaders")):
        if not found.get(key):
            raise refuse(f"Authorization header requires {name!r} parameter", "IncompleteSignature", 400)
    if not _HASH.fullmatch(found["signature"]):
        raise refuse("the Signature is not 64 hexadecimal digits", "IncompleteSignature", 400)
    return found


def malformed(s3: bool, message: str) -> Refusal:
    """Refusal for a header that reads as an authentication and is none, with S3's or everybody else's code."""
    return refuse(message, "AuthorizationHeaderMalformed" if s3 else "IncompleteSignature", 400)


@lru_cache(maxsize=1024)
def _scope(credential: str, presigned: bool) -> tuple[str, Scope]:
    found = _CREDENTIAL.fullmatch(credential)
    if not found:
        code = "AuthorizationQueryParametersError" if presigned else "IncompleteSignature"
        raise refuse("the Credential is not <key id>/YYYYMMDD/<region>/<service>/aws4_request", code, 400)
    return found[1], Scope(found[2], found[3], found[4])


@lru_cache(maxsize=1024)
def _signed_headers(text: str, s3: bool) -> tuple[str, ...]:
    names = tuple(text.split(";"))
    if len(text) > _LONGEST_LIST or not _NAMES.fullmatch(text) or list(names) != sorted(set(names)):
        raise malformed(s3, "SignedHeaders has to be lower-case header names, sorted, each once")
    return names


def _kind(content: str | None) -> Kind:
    if content is None:
        return Kind.ABSENT_HASH
    if _HASH.fullmatch(content):
        return Kind.HASHED
    kind = _KINDS.get(content)
    if kind is not None:
        return kind
    if content.endswith("-EVENTS"):
        raise shapes.event_stream()
    if content.startswith("STREAMING-AWS4-ECDSA"):
        raise shapes.unsupported("SigV4A (chunks signed with ECDSA)", "use a regional endpoint, which takes SigV4")
    raise refuse("x-amz-content-sha256 is neither a hash nor a known word", "InvalidRequest", 400)


def _single(request: Request, name: str, s3: bool) -> str | None:
    values = request.fields.get(name)
    if values is None:
        return None
    if len(values) != 1:
        raise malformed(s3, f"the header {name} comes more than once")
    return values[0].strip()


def _header_date(request: Request, s3: bool) -> tuple[str, bool]:
    """The date as YYYYMMDDTHHMMSSZ, from X-Amz-Date or else from Date; and whether it was Date."""
    date = _single(request, "x-amz-date", s3)
    if date is not None:
        amz_time(date)
        return date, False
    date = _single(request, "date", s3)
    if date is None:
        raise refuse("the request has neither an X-Amz-Date nor a Date header", "IncompleteSignature", 400)
    if _AMZ_DATE.fullmatch(date):
        amz_time(date)
        return date, True
    try:
        when = parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        raise refuse("the Date header is not a date", "IncompleteSignature", 400) from None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return when.strftime("%Y%m%dT%H%M%SZ"), True


@lru_cache(maxsize=1024)
def amz_time(date: str) -> float:
    """YYYYMMDDTHHMMSSZ as POSIX seconds; Refusal if it is not that."""
    found = _AMZ_DATE.fullmatch(date)
    try:
        if not found:
            raise ValueError
        when = datetime(*map(int, found.groups()), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        raise refuse("date must be in ISO-8601 'basic format' (YYYYMMDDTHHMMSSZ)", "IncompleteSignature", 400) from None
    return float(timegm(when.timetuple()))


def _expires(text: str | None, s3: bool) -> int:
    if text is None and not s3:
        return 300  # what the services take a signature for that does not say how long it lives
    if text is None or not re.fullmatch(r"[0-9]{1,7}", text) or not 1 <= int(text) <= LONGEST_PRESIGNED:
        raise refuse(
            "X-Amz-Expires has to be a number of seconds from 1 to 604800", "AuthorizationQueryParametersError", 400
        )
    return int(text)
