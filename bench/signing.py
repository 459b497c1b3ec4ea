"""What a signature costs: microseconds of CPU to check a small call, to sign it again, and to renew a chunk of 64 KiB."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

from flowwarden.credentials import phantoms
from flowwarden.signing import chunked, sigv4
from flowwarden.signing.authentication import Authentication, parse
from flowwarden.signing.keys import SigningKey
from flowwarden.types import Credentials, Request

_BODY = b'{"TableName":"orders","Key":{"id":{"S":"1"}}}'
_CHUNK = b"x" * 65536


def measure(rounds: int = 2000) -> dict[str, float]:
    """Best of five, in µs: `verify` (reading included), `sign`, `both`, and `chunk` (64 KiB checked and signed)."""
    real = Credentials("ASIA" + "A" * 16, secrets.token_urlsafe(30), secrets.token_urlsafe(600))
    phantom = phantoms.mint()
    unsigned = Request(
        "POST",
        "https",
        "dynamodb.eu-central-1.amazonaws.com",
        443,
        "/",
        (
            (b"Host", b"dynamodb.eu-central-1.amazonaws.com"),
            (b"X-Amz-Target", b"DynamoDB_20120810.GetItem"),
            (b"Content-Type", b"application/x-amz-json-1.0"),
            (b"User-Agent", b"Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.1 md/arch#x86_64 lang/python#3.13"),
            (b"X-Amz-Date", b"20261120T120000Z"),
            (b"amz-sdk-invocation-id", b"5f9a2c7e-2b1f-4a53-9a0b-0c6d5f1f1a11"),
            (b"amz-sdk-request", b"attempt=1"),
            (b"Content-Length", str(len(_BODY)).encode()),
        ),
        _BODY,
    )
    now = 1795176000.0
    request = _signed_by(unsigned, phantom.access_key_id, phantom.secret_access_key, phantom.session_token)
    body_sha256 = hashlib.sha256(_BODY).hexdigest()

    def verify() -> tuple[Request, Authentication]:
        fresh = Request(request.method, request.scheme, request.host, 443, request.target, request.headers, _BODY)
        auth = parse(fresh)
        assert auth is not None
        sigv4.verify(
            fresh,
            auth,
            phantom.secret_access_key,
            now=now,
            body_sha256=body_sha256,
            session_token=phantom.session_token,
        )
        return fresh, auth

    known, auth = verify()
    signed = sigv4.sign(known, auth, real, now=now, body_sha256=body_sha256)

    def sign() -> object:
        return sigv4.sign(known, auth, real, now=now, body_sha256=body_sha256)

    checked, signer = (
        chunked.ChunkSigner(SigningKey(b"k" * 32), signed.date, signed.scope, signed.signature) for _ in "ab"
    )

    def chunk() -> object:
        data = hashlib.sha256(_CHUNK).hexdigest()
        return checked.chunk(data), signer.chunk(data)

    found = {"verify": _best(verify, rounds), "sign": _best(sign, rounds)}
    found["both"] = found["verify"] + found["sign"]
    found["chunk"] = _best(chunk, rounds // 4)
    return found


def _signed_by(request: Request, key_id: str, secret: str, token: str) -> Request:
    """The request as an SDK with these keys sends it."""
    headers = (*request.headers, (b"X-Amz-Security-Token", token.encode()))
    names = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
    text = (
        f"AWS4-HMAC-SHA256 Credential={key_id}/20261120/eu-central-1/dynamodb/aws4_request, "
        f"SignedHeaders={names}, Signature={'0' * 64}"
    )
    shaped = Request(
        request.method,
        request.scheme,
        request.host,
        443,
        request.target,
        (*headers, (b"Authorization", text.encode())),
        request.body,
    )
    auth = parse(shaped)
    assert auth is not None
    signed = sigv4.sign(shaped, auth, Credentials(key_id, secret, token), now=1795176000.0)
    return Request(request.method, request.scheme, request.host, 443, signed.target, signed.headers, request.body)


def _best(call: Callable[[], object], rounds: int) -> float:
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(rounds):
            call()
        best = min(best, time.process_time() - start)
    return best / rounds * 1e6


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:8} {value:8.1f} µs")
