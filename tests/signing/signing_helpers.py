"""Signers and verifiers that are not the code under test: botocore, awscrt, and the published algorithm by hand."""

from __future__ import annotations

import hashlib
import hmac
import io
import secrets
import string
from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

import awscrt.auth
import awscrt.http
import awscrt.io
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from flowwarden.types import Credentials, Request

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
S3_FAMILY = {"s3", "s3-outposts", "s3-object-lambda"}


def credentials(token: bool = True) -> Credentials:
    """Random credentials in the shape of real ones."""
    letters = string.ascii_uppercase + "234567"
    return Credentials(
        ("ASIA" if token else "AKIA") + "".join(secrets.choice(letters) for _ in range(16)),
        secrets.token_urlsafe(30),
        secrets.token_urlsafe(200) if token else "",
    )


def _boto(creds: Credentials) -> BotoCredentials:
    return BotoCredentials(creds.access_key_id, creds.secret_access_key, creds.session_token or None)


def to_request(method: str, url: str, headers, body: bytes | None) -> Request:
    """The gateway's Request for a signed URL and headers, Host as a client sends it."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    fields = [(k.encode(), v if isinstance(v, bytes) else v.encode("latin-1")) for k, v in headers]
    if not any(name.lower() == b"host" for name, _ in fields):
        fields.insert(0, (b"Host", parts.netloc.encode()))
    target = url.split(parts.netloc, 1)[1] or "/"
    return Request(method, parts.scheme, parts.hostname or "", port, target, tuple(fields), body)


def botocore_signed(
    creds: Credentials,
    method="GET",
    url="https://sts.us-east-1.amazonaws.com/",
    *,
    headers=None,
    body: bytes = b"",
    service="sts",
    region="us-east-1",
    now: datetime = NOW,
    presigned: int = 0,
    payload: str | None = None,
) -> Request:
    """A request as botocore's signers sign it. `payload` forces x-amz-content-sha256, `presigned` is its life."""
    # botocore would move the body of a presigned request into the query
    request = AWSRequest(method, url, data=b"" if presigned else body)
    for name, value in (headers or {}).items() if isinstance(headers, dict | None) else headers:
        request.headers[name] = value  # adds, as repeated headers need it
    request.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
    if presigned:
        kind = botocore.auth.S3SigV4QueryAuth if service in S3_FAMILY else botocore.auth.SigV4QueryAuth
        signer = kind(_boto(creds), service, region, expires=presigned)
    else:
        kind = botocore.auth.S3SigV4Auth if service in S3_FAMILY else botocore.auth.SigV4Auth
        signer = kind(_boto(creds), service, region)
        if payload is not None:
            signer.payload = lambda _request: payload
    with patch("botocore.auth.get_current_datetime", return_value=now.replace(tzinfo=None)):
        signer.add_auth(request)
    return to_request(method, request.url, list(request.headers.items()), body)


def crt_signed(
    creds: Credentials,
    method="GET",
    url="https://sts.us-east-1.amazonaws.com/",
    *,
    headers=None,
    body: bytes = b"",
    service="sts",
    region="us-east-1",
    now: datetime = NOW,
    presigned: int = 0,
    payload: str | None = None,
    body_header: bool = False,
) -> Request:
    """A request as the AWS Common Runtime signs it."""
    parts = urlsplit(url)
    request = awscrt.http.HttpRequest(method, url.split(parts.netloc, 1)[1] or "/")
    request.headers.add("Host", parts.netloc)
    for name, value in (headers or {}).items():
        request.headers.add(name, value)
    s3 = service in S3_FAMILY
    if body:
        request.body_stream = io.BytesIO(body)
    kind = awscrt.auth.AwsSignatureType
    header = awscrt.auth.AwsSignedBodyHeaderType
    config = awscrt.auth.AwsSigningConfig(
        algorithm=awscrt.auth.AwsSigningAlgorithm.V4,
        signature_type=kind.HTTP_REQUEST_QUERY_PARAMS if presigned else kind.HTTP_REQUEST_HEADERS,
        credentials_provider=awscrt.auth.AwsCredentialsProvider.new_static(
            creds.access_key_id, creds.secret_access_key, creds.session_token or None
        ),
        region=region,
        service=service,
        date=now,
        use_double_uri_encode=not s3,
        should_normalize_uri_path=not s3,
        signed_body_value=payload if payload is not None else ("UNSIGNED-PAYLOAD" if s3 and presigned else None),
        signed_body_header_type=header.X_AMZ_CONTENT_SHA_256 if (s3 or body_header) and not presigned else header.NONE,
        expiration_in_seconds=presigned or None,
    )
    signed = awscrt.auth.aws_sign_request(request, config).result(10)
    url = f"{parts.scheme}://{parts.netloc}{signed.path}"
    return to_request(method, url, list(signed.headers), body)


def shown_signature(request: Request) -> tuple[list[str], str]:
    """SignedHeaders and Signature as they stand in a header or a query."""
    authorization = request.header("authorization")
    if authorization:
        parts = dict(part.strip().split("=", 1) for part in authorization.split(" ", 1)[1].split(","))
        return parts["SignedHeaders"].split(";"), parts["Signature"]
    query = dict(parse_qsl(request.query))
    return query["X-Amz-SignedHeaders"].split(";"), query["X-Amz-Signature"]


def shown_credential(request: Request) -> list[str]:
    authorization = request.header("authorization")
    if authorization:
        return authorization.split("Credential=", 1)[1].split(",", 1)[0].split("/")
    return dict(parse_qsl(request.query))["X-Amz-Credential"].split("/")


def botocore_signature(request: Request, secret: str) -> str:
    """The signature that botocore computes for exactly the headers that a request says are signed."""
    names, _ = shown_signature(request)
    key_id, _, region, service, _ = shown_credential(request)
    presigned = "authorization" not in request.fields
    query = dict(parse_qsl(request.query)) if presigned else {}
    host = request.header("host") or request.host
    target = request.target
    if presigned:
        target = "&".join(p for p in target.split("&") if not p.startswith("X-Amz-Signature="))
    again = AWSRequest(request.method, f"{request.scheme}://{host}{target}", data=request.body or b"")
    for name in names:
        for value in request.fields.get(name, [host] if name == "host" else []):
            again.headers[name] = value
    again.context["timestamp"] = query.get("X-Amz-Date") or request.header("x-amz-date")
    s3 = service in S3_FAMILY
    kinds = {
        (True, True): botocore.auth.S3SigV4QueryAuth,
        (True, False): botocore.auth.S3SigV4Auth,
        (False, True): botocore.auth.SigV4QueryAuth,
        (False, False): botocore.auth.SigV4Auth,
    }
    signer = kinds[s3, presigned](BotoCredentials(key_id, secret), service, region)
    return signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)


def hmac_chain(secret: str, date: str, region: str, service: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
