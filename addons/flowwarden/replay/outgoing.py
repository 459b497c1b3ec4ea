"""A recorded request made ready to be sent again: masks filled, ids mapped, the body plain, signed with sandbox keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .fill import Filler
from .secrets import Secrets

Headers = list[tuple[str, str]]
SANDBOX_KEYS = ("test", "test")
_SCOPE = re.compile(r"Credential=[^/\s]+/\d{8}/([^/\s]+)/([^/\s]+)/aws4_request")
_DROPPED = frozenset(
    {
        "authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "proxy-authorization", "connection",
        "proxy-connection", "content-length", "transfer-encoding", "expect", "host", "keep-alive", "te", "trailer", "upgrade",
        "accept-encoding", "x-amz-region-set",
    }
)  # fmt: skip
_PRESIGNED = re.compile(
    r"^X-Amz-(Algorithm|Credential|Date|Expires|SignedHeaders|Signature|Security-Token)$", re.IGNORECASE
)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})(?:;[^\r\n]*)?\r\n")


@dataclass(frozen=True)
class Outgoing:
    """One request to the sandbox, not signed yet. `target` is path and query as sent."""

    method: str
    host: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    service: str  # signing name
    region: str


def outgoing(
    state: Mapping[str, Any], call: Mapping[str, Any], fill: Callable[[str], str], filler: Filler | None = None
) -> Outgoing:
    """A request from a frame's state and its intent. `filler` fills its masks, `fill` puts ids into any text of it.

    ValueError for a body that was not recorded, or whose chunks do not add up.
    """
    filler = filler or Filler(Secrets({}), "", "")
    request = state["request"]
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request["headers"]]
    fields = {name.lower(): value for name, value in headers}
    if request["content"] is None:
        raise ValueError("the request's body was not recorded")
    body, trailers = plain_body(request["content"], fields)
    target = fill(filler.target(request["path"].decode("latin-1")))
    region, service = _scope(fields, target, call)
    kept = [(name, fill(filler.header(name, value))) for name, value in headers if _keep(name.lower(), fields)]
    body = filler.body(body, fields.get("content-type", ""), fields.get("content-encoding", ""))
    return Outgoing(
        method=request["method"].decode("latin-1"),
        host=str(call.get("host") or request["host"]),
        target=_unsigned(target),
        headers=tuple(kept + trailers),
        body=_filled(body, fill),
        service=service,
        region=region,
    )


def _keep(name: str, fields: Mapping[str, str]) -> bool:
    chunked = fields.get("x-amz-content-sha256", "").startswith("STREAMING-")
    if chunked and name in ("x-amz-decoded-content-length", "x-amz-trailer"):
        return False
    if name == "content-encoding" and fields[name].strip().lower() == "aws-chunked":
        return False
    if name.startswith("x-amz-checksum-") or name == "content-md5":
        return False  # of the recorded bytes; ids inside may have changed
    return name not in _DROPPED


def plain_body(body: bytes, fields: Mapping[str, str]) -> tuple[bytes, Headers]:
    """The body without aws-chunked framing, and what its trailer said (checksums are left out). ValueError if torn."""
    if not fields.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        return body, []
    parts: list[bytes] = []
    at = 0
    while True:
        match = _CHUNK.match(body, at)
        if match is None:
            raise ValueError("the recorded body is not whole: its chunks do not add up")
        size = int(match[1], 16)
        at = match.end()
        if size == 0:
            return b"".join(parts), []
        if at + size > len(body):
            raise ValueError("the recorded body is not whole: its last chunk is cut off")
        parts.append(body[at : at + size])
        at += size + 2


def _filled(body: bytes, fill: Callable[[str], str]) -> bytes:
    try:
        return fill(body.decode("utf-8")).encode("utf-8")
    except UnicodeDecodeError:
        return body


def _scope(fields: Mapping[str, str], target: str, call: Mapping[str, Any]) -> tuple[str, str]:
    """Region and signing name as the recorded signature had them; else what the intent says."""
    found = _SCOPE.search(fields.get("authorization", ""))
    if found:
        return found[1], found[2]
    credential = dict(parse_qsl(urlsplit(target).query)).get("X-Amz-Credential", "").split("/")
    if len(credential) == 5:
        return credential[2], credential[3]
    return str(call.get("region") or "us-east-1"), str(call.get("signing_name") or call.get("service") or "s3")


def _unsigned(target: str) -> str:
    """The target without the query parameters of a presigned URL."""
    path, mark, query = target.partition("?")
    kept = [part for part in query.split("&") if not _PRESIGNED.match(part.partition("=")[0])]
    return f"{path}?{'&'.join(kept)}" if mark and kept else path


def signed(request: Outgoing, keys: tuple[str, str] = SANDBOX_KEYS) -> Outgoing:
    """The request with a signature by sandbox keys, as botocore makes it. Host stays AWS's."""
    path, _, query = request.target.partition("?")
    url = f"https://{request.host}{quote(path, safe='/%~-_.:@!$&()*+,;=') or '/'}" + (f"?{query}" if query else "")
    aws = AWSRequest(method=request.method, url=url, data=request.body)
    for name, value in request.headers:
        aws.headers[name] = value
    auth = S3SigV4Auth if request.service in ("s3", "s3express", "s3-outposts", "s3-object-lambda") else SigV4Auth
    auth(Credentials(*keys), request.service, _one(request.region)).add_auth(aws)
    return replace(request, headers=tuple((name, str(value)) for name, value in aws.headers.items()))


def _one(region: str) -> str:
    return "us-east-1" if region in ("", "*") else region
