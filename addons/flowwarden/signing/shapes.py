"""Ways to authenticate that the gateway recognises and refuses, each with a reason that says what to do instead."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import Refusal
from ..types import Call, Request

STATION = "identify"

_S3_HOST = re.compile(r"(?:^|\.)s3(?:[.-][a-z0-9.-]+)?\.amazonaws\.com(?:\.cn)?$|(?:^|\.)s3[a-z0-9.-]*\.api\.aws$")
_EXPRESS_HOST = re.compile(r"(?:^|\.)s3express-[a-z0-9-]+\.|--x-s3(?:\.|$)")
_CODECOMMIT_HOST = re.compile(r"^git-codecommit(?:-fips)?\.[a-z0-9-]+\.(?:amazonaws\.com(?:\.cn)?|api\.aws)$")
_LOCAL_SERVICES = {
    "rds-db": "RDS and Aurora database",
    "kafka-cluster": "MSK",
}
_LOCAL_ACTIONS = {
    "connect": "RDS, ElastiCache or MemoryDB",
    "dbconnect": "Aurora DSQL",
    "dbconnectadmin": "Aurora DSQL",
    "kafka-cluster:connect": "MSK",
    "redshift:connect": "Redshift",
    "gitpull": "CodeCommit",
    "gitpush": "CodeCommit",
}


def refuse(message: str, code: str, status: int = 403) -> Refusal:
    """A refusal of the station `identify`."""
    return Refusal(message, status=status, code=code, station=STATION)


def unsupported(what: str, instead: str) -> Refusal:
    """A refusal of an authentication that the gateway knows and does not carry (yet)."""
    return refuse(f"{what} is not supported by this gateway: {instead}", "AccessDenied")


def local_token(kind: str) -> Refusal:
    return unsupported(
        f"a {kind} token that the SDK signed locally",
        "it is signed with a phantom key, which is worth nothing to that service",
    )


def check_scheme(request: Request, authorization: str) -> None:
    """Refusal for an Authorization header of another kind than AWS4-HMAC-SHA256 that only AWS could understand."""
    scheme, _, rest = authorization.strip().partition(" ")
    scheme = scheme.lower()
    if scheme.startswith("aws4-ecdsa"):
        raise unsupported("SigV4A (AWS4-ECDSA-P256-SHA256)", "use a regional endpoint, which takes SigV4")
    if scheme in {"aws", "aws3", "aws3-https"}:
        raise refuse(
            "the authorization mechanism you have provided is not supported, please use AWS4-HMAC-SHA256",
            "InvalidRequest",
            400,
        )
    if scheme.startswith("aws4"):
        raise refuse(f"unknown signature algorithm {scheme[:40]!r}", "IncompleteSignature", 400)
    if scheme == "bearer" and rest.lstrip().startswith("k8s-aws-v1."):
        raise local_token("EKS")
    if scheme == "basic" and _CODECOMMIT_HOST.search(request.host):
        raise local_token("CodeCommit")


def check_query(names: Mapping[str, str]) -> None:
    """Refusal for query authentication of another kind than AWS4-HMAC-SHA256. `names`: decoded, in lower case."""
    algorithm = names.get("x-amz-algorithm", "")
    if algorithm.upper().startswith("AWS4-ECDSA") or "x-amz-region-set" in names:
        raise unsupported("SigV4A (AWS4-ECDSA-P256-SHA256)", "use a regional endpoint, which takes SigV4")
    if "x-amz-s3session-token" in names:
        raise s3_express()
    if "awsaccesskeyid" in names and "signature" in names:
        raise refuse("signature version 2 is not supported, please use AWS4-HMAC-SHA256", "InvalidRequest", 400)


def check_request(request: Request) -> None:
    """Refusal for what host and headers alone show: S3 Express, a form with a POST policy."""
    fields = request.fields
    if "x-amz-s3session-token" in fields or _EXPRESS_HOST.search(request.host):
        raise s3_express()
    if "x-amz-region-set" in fields:
        raise unsupported("SigV4A (X-Amz-Region-Set)", "use a regional endpoint, which takes SigV4")


def check_form(request: Request) -> None:
    """Refusal for a browser form to S3: its signature is a field of the body."""
    kind = request.header("content-type").lstrip().lower()
    if request.method == "POST" and kind.startswith("multipart/form-data") and _S3_HOST.search(request.host):
        raise unsupported("an S3 form with a POST policy", "upload with PutObject")


def check_local(service: str, names: Mapping[str, str]) -> None:
    """Refusal for tokens in the form of a presigned URL that are meant for a database or a broker, not for an API."""
    kind = _LOCAL_SERVICES.get(service) or _LOCAL_ACTIONS.get(names.get("action", "").lower())
    if kind:
        raise local_token(kind)


def s3_express() -> Refusal:
    return unsupported("S3 Express (directory buckets)", "use a general purpose bucket")


def event_stream() -> Refusal:
    return unsupported("a signed event stream", "use the operation's form without an event stream in the request")


def require_unsigned_allowed(request: Request, call: Call, allowed: bool) -> None:
    """Decides on an AWS call for which `parse` returned None.

    `allowed`: a rule lets this operation pass unsigned, or the operation has no signature at all. Raises Refusal with
    AWS's MissingAuthenticationToken, or with a clear word on bearer tokens.
    """
    if allowed or not call.aws:
        return
    if request.header("authorization").lower().startswith("bearer "):
        raise unsupported("a bearer token instead of a signature", "configure the SDK for SigV4")
    raise refuse("request is missing authentication: sign it with the session's keys", "MissingAuthenticationToken")
