"""The credential scope of a request: who it says it is signed for.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from ..types import Request
from .refuse import refusal

_CREDENTIAL = re.compile(r"[^/\s,]{1,128}/\d{8}/(?:([a-z0-9-]{1,32})/)?([A-Za-z0-9._-]{1,64})/aws4_request")
_HEADER = re.compile(r"AWS4-(HMAC|ECDSA-P256)-SHA256\s+(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Scope:
    """Region (empty for SigV4A) and service of a credential scope."""

    region: str
    service: str


def read(request: Request, query: dict[str, list[str]], protocol: str = "") -> Scope | None:
    """The scope in the Authorization header or the presigned query; None for a request without SigV4.

    A Refusal for two of them, or one that cannot be read.
    """
    headers = request.fields.get("authorization", [])
    if len(headers) > 1:
        raise refusal("signature", protocol, "The request has more than one Authorization header")
    signed = bool(headers) and headers[0].lstrip().upper().startswith("AWS4-")
    presigned = query.get("X-Amz-Credential", [])
    if presigned and headers:
        raise refusal(
            "signature", protocol, "The request has both an Authorization header and a signature in its query"
        )
    if len(presigned) > 1:
        raise refusal("signature", protocol, "The query has X-Amz-Credential twice")
    if presigned:
        return _parse(presigned[0], query.get("X-Amz-Algorithm", [""])[0], protocol)
    return _from_header(headers[0], protocol) if signed else None


def _from_header(value: str, protocol: str) -> Scope:
    found = _HEADER.fullmatch(value.strip())
    if not found:
        raise refusal("signature", protocol, "The Authorization header names no algorithm of SigV4")
    credentials = [part.strip() for part in found.group(2).split(",") if part.strip().startswith("Credential=")]
    if len(credentials) != 1:
        raise refusal("signature", protocol, "The Authorization header needs exactly one Credential")
    return _parse(unquote(credentials[0].removeprefix("Credential=")), f"AWS4-{found.group(1)}-SHA256", protocol)


def _parse(credential: str, algorithm: str, protocol: str) -> Scope:
    found = _CREDENTIAL.fullmatch(credential)
    asymmetric = algorithm == "AWS4-ECDSA-P256-SHA256"
    if not found or bool(found.group(1)) == asymmetric:
        raise refusal("signature", protocol, "The credential scope is not key/date/region/service/aws4_request")
    return Scope(found.group(1) or "", found.group(2))
