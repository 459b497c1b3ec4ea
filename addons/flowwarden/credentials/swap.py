"""Station 9's work: real credentials in AWS's answers are replaced by phantoms of the same shape and length.

Since the lengths are the same, the bytes are replaced where they stand and all others stay. The result is then read again
and compared: what cannot be read, or would still show a real secret, is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from xml.parsers import expat

from ..errors import Refusal
from ..types import Credentials, Operation, Phantom
from . import phantoms

_VENDING: dict[str, frozenset[str]] = {
    "sts": frozenset(
        {
            "AssumeRole",
            "AssumeRoleWithSAML",
            "AssumeRoleWithWebIdentity",
            "AssumeRoot",
            "GetSessionToken",
            "GetFederationToken",
            "GetDelegatedAccessToken",
        }
    ),
    "sso": frozenset({"GetRoleCredentials"}),
    "cognito-identity": frozenset({"GetCredentialsForIdentity"}),
    "account-access-runtime": frozenset({"GetRoleCredentials"}),
    "cloudwatchomni": frozenset({"GetSpaceCredentialsForOrganization", "GetSpaceDataAccess"}),
    "codepipeline": frozenset({"GetJobDetails", "GetThirdPartyJobDetails", "PollForJobs"}),
    "datazone": frozenset({"GetConnection", "GetEnvironmentCredentials"}),
    "deadline": frozenset(
        {
            "AssumeFleetRoleForRead",
            "AssumeFleetRoleForWorker",
            "AssumeQueueRoleForRead",
            "AssumeQueueRoleForUser",
            "AssumeQueueRoleForWorker",
        }
    ),
    "eks-auth": frozenset({"AssumeRoleForPodIdentity"}),
    "gamelift": frozenset({"CreateBuild", "GetComputeAccess", "RequestUploadCredentials"}),
    "lakeformation": frozenset(
        {
            "AssumeDecoratedRoleWithSAML",
            "GetTemporaryDataLocationCredentials",
            "GetTemporaryGlueFunctionCredentials",
            "GetTemporaryGluePartitionCredentials",
            "GetTemporaryGlueTableCredentials",
        }
    ),
    "s3": frozenset({"CreateSession"}),
    "s3control": frozenset({"GetDataAccess"}),
    "signin": frozenset({"CreateOAuth2Token"}),
    "ssm": frozenset({"GetAccessToken"}),
}
"""Operations whose answers hold short-lived AWS credentials. The rules deny long-lived ones, the masks hide all others."""

_KEY = ("accesskeyid",)
_SECRET = ("secretaccesskey", "secretkey")
_TOKEN = ("sessiontoken",)
_MEMBERS = frozenset(_KEY + _SECRET + _TOKEN)
_MOST_DEPTH = 64
_REAL_KEY = re.compile(rb"(?<![A-Z0-9])A[KS]IA[A-Z0-9]{12,124}(?![A-Z0-9])")

Mint = Callable[[Credentials], Phantom]


def vends(operation: Operation) -> bool:
    """Whether the answers of an operation are looked at."""
    return operation.name in _VENDING.get(operation.service, ())


def swap(operation: Operation, content_type: str, body: bytes, mint: Mint) -> tuple[bytes, int]:
    """The body with phantoms for real credentials, and how many were replaced; other operations' bodies as they are.

    `body` is decoded (no Content-Encoding). XML, JSON and CBOR. Raises Refusal 502 for what cannot be read, or has
    credentials that are not where they belong.
    """
    if not vends(operation) or not body:
        return body, 0
    read = _reader(content_type, body)
    try:
        found = read(body)
    except (ValueError, RecursionError, expat.ExpatError):
        raise _refuse(operation, "cannot be read") from None
    swapped, pairs = body, []
    for real in found:
        phantom = mint(real)
        pairs.append((real, phantom))
        swapped = _replaced(operation, swapped, real, phantom)
    if not pairs:
        if any(not phantoms.is_phantom(key.decode()) for key in _REAL_KEY.findall(body)):
            raise _refuse(operation, "has an access key that is not where it belongs")
        return body, 0
    _check(operation, read, swapped, pairs)
    return swapped, len(pairs)


def role_of(body: bytes) -> str:
    """The role's ARN in an answer of AssumeRole and its kin; empty where there is none."""
    found = re.search(rb"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([\w+=,.@-]+)/", body)
    if not found:
        return ""
    partition, account, name = (part.decode() for part in found.groups())
    return f"arn:{partition}:iam::{account}:role/{name}"


def _replaced(operation: Operation, body: bytes, real: Credentials, phantom: Phantom) -> bytes:
    for old, new in _texts(real, phantom):
        spelled = next((form for form in _spellings(old) if form in body), None)
        if spelled is None:
            raise _refuse(operation, "spells its credentials in a way that cannot be replaced")
        body = body.replace(spelled, new.encode())
    return body


def _texts(real: Credentials, phantom: Phantom) -> Iterator[tuple[str, str]]:
    yield real.access_key_id, phantom.access_key_id
    yield real.secret_access_key, phantom.secret_access_key
    if real.session_token:
        yield real.session_token, phantom.session_token


def _spellings(text: str) -> Iterator[bytes]:
    """A text as it may stand in XML, JSON or CBOR."""
    yield text.encode()
    yield text.replace("/", "\\/").encode()
    yield json.dumps(text)[1:-1].encode()
    for plus, slash, equals in (("\\u002b", "/", "\\u003d"), ("\\u002B", "/", "\\u003D"), ("&#43;", "&#47;", "&#61;")):
        yield text.replace("+", plus).replace("/", slash).replace("=", equals).encode()
        yield text.replace("=", equals).encode()


def _check(
    operation: Operation,
    read: Callable[[bytes], list[Credentials]],
    swapped: bytes,
    pairs: list[tuple[Credentials, Phantom]],
) -> None:
    """Reads the answer as its client will: exactly the phantoms have to be in it, and nothing real."""
    try:
        again = read(swapped)
    except (ValueError, RecursionError, expat.ExpatError):
        raise _refuse(operation, "cannot be rewritten") from None
    shown = [(one.access_key_id, one.secret_access_key, one.session_token) for one in again]
    if shown != [(one.access_key_id, one.secret_access_key, one.session_token) for _, one in pairs]:
        raise _refuse(operation, "cannot be rewritten")
    for real, phantom in pairs:
        for old, _ in _texts(real, phantom):
            if any(form in swapped for form in _spellings(old)):
                raise _refuse(operation, "still shows credentials")


def _reader(content_type: str, body: bytes) -> Callable[[bytes], list[Credentials]]:
    """By what the body is: a wrong or missing Content-Type must not hide credentials."""
    if "cbor" in content_type.lower():
        return _from_cbor
    start = body.lstrip(b" \t\r\n\xef\xbb\xbf")[:1]
    if start == b"<":
        return _from_xml
    if start in {b"{", b"["}:
        return _from_json
    raise Refusal(
        "an answer with credentials is neither XML, JSON nor CBOR",
        status=502,
        code="InternalFailure",
        station="swap",
    )


def _from_json(body: bytes) -> list[Credentials]:
    return _collected(json.loads(body.decode("utf-8-sig"), object_pairs_hook=_no_doubles))


def _from_cbor(body: bytes) -> list[Credentials]:
    import cbor2

    try:
        return _collected(cbor2.loads(body))
    except cbor2.CBORDecodeError as error:
        raise ValueError("not CBOR") from error


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A name that comes twice is read differently by different readers."""
    found = dict(pairs)
    if len({name.lower() for name in found}) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _collected(document: Any) -> list[Credentials]:
    found: list[Credentials] = []
    todo = [(document, 0)]
    while todo:
        node, depth = todo.pop()
        if depth > _MOST_DEPTH:
            raise ValueError("too deep")
        if isinstance(node, dict):
            members = {str(name).lower(): value for name, value in node.items()}
            if members.keys() & _MEMBERS:
                found.append(_credentials(members))
            todo.extend((value, depth + 1) for value in node.values())
        elif isinstance(node, list):
            todo.extend((value, depth + 1) for value in node)
    return found


def _credentials(members: dict[str, Any]) -> Credentials:
    """The credentials in one object or element. ValueError if they are not complete."""

    def one(names: tuple[str, ...]) -> str:
        values = [members[name] for name in names if members.get(name)]
        if len(values) > 1 or not all(isinstance(value, str) for value in values):
            raise ValueError("credentials of an unknown form")
        return str(values[0]) if values else ""

    key, secret, token = one(_KEY), one(_SECRET), one(_TOKEN)
    if not key or not secret:
        raise ValueError("credentials that are not complete")
    return Credentials(key, secret, token, _expires(members.get("expiration")))


def _expires(value: Any) -> float:
    """POSIX seconds from RFC 3339 (STS), milliseconds (SSO), seconds (Cognito) or a CBOR date; 0 if unknown."""
    from datetime import datetime

    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value / 1000 if value > 1e11 else float(value)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return 0.0


def _from_xml(body: bytes) -> list[Credentials]:
    """Elements whose children are AccessKeyId, SecretAccessKey and SessionToken, whatever their name and namespace."""
    parser = expat.ParserCreate()
    stack: list[tuple[str, dict[str, Any], list[str]]] = []
    found: list[Credentials] = []

    def start(name: str, _attributes: dict[str, str]) -> None:
        if len(stack) > _MOST_DEPTH:
            raise ValueError("too deep")
        stack.append((name.rpartition(":")[2].lower(), {}, []))

    def data(text: str) -> None:
        if stack:
            stack[-1][2].append(text)

    def end(_name: str) -> None:
        name, members, texts = stack.pop()
        if members.keys() & _MEMBERS:
            found.append(_credentials(members))
        if stack:
            siblings = stack[-1][1]
            if name in _MEMBERS and name in siblings:
                raise ValueError("an element comes twice")
            siblings[name] = "".join(texts).strip()

    def doctype(*_arguments: object) -> None:
        raise ValueError("a document type")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    parser.StartDoctypeDeclHandler = doctype
    parser.Parse(body, True)
    return found


def _refuse(operation: Operation, what: str) -> Refusal:
    return Refusal(f"the answer of {operation} {what}", status=502, code="InternalFailure", station="swap")
