"""AWS's published test suite, run as it is, in both directions (the source is named in vectors/README.md)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flowwarden.signing import sigv4
from flowwarden.signing.authentication import parse
from flowwarden.types import Credentials, Request

SECRET = "wJalrXUtnFEMI" + "/K7MDENG+" + "bPxRfiCYEXAMPLEKEY"
SUITE = json.loads((Path(__file__).parent / "vectors" / "aws-signing-test-suite.json").read_text("utf-8"))
NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()


def request_of(case) -> Request:
    target = case["target"].encode().decode("latin-1")  # bytes as on the wire
    headers = tuple((name.encode(), value.encode()) for name, value in case["headers"])
    return Request(case["method"], "https", "example.amazonaws.com", 443, target, headers, case["body"].encode())


@pytest.mark.parametrize("case", SUITE, ids=[case["name"] for case in SUITE])
def test_published_vector(case):
    """The published signature verifies; the published key signs to the published request."""
    request = request_of(case)
    auth = parse(request)
    assert auth.access_key_id == "AKIDEXAMPLE" and auth.presigned == case["name"].endswith("/query")
    body_sha256 = hashlib.sha256(request.body).hexdigest()
    token = auth.session_token
    sigv4.verify(request, auth, SECRET, now=NOW, body_sha256=body_sha256, session_token=token)
    signed = sigv4.sign(request, auth, Credentials("AKIDEXAMPLE", SECRET, token), now=NOW)
    assert signed.signature == auth.signature
    assert (signed.target, signed.headers) == (request.target, request.headers)


@pytest.mark.parametrize("case", SUITE, ids=[case["name"] for case in SUITE])
def test_from_another_key(case):
    """Signed with another key and signed back with the published one, it is the published request again."""
    request = request_of(case)
    auth = parse(request)
    published = Credentials("AKIDEXAMPLE", SECRET, auth.session_token)
    sigv4.verify(
        request,
        auth,
        SECRET,
        now=NOW,
        body_sha256=hashlib.sha256(request.body).hexdigest(),
        session_token=auth.session_token,
    )
    other = Credentials("ASIA" + "B" * 16, "another" * 6, "another token/+=" * 9)
    out = sigv4.sign(request, auth, other, now=NOW)
    between = replace(request, target=out.target, headers=out.headers)
    again = parse(between)
    sigv4.verify(
        between,
        again,
        other.secret_access_key,
        now=NOW,
        body_sha256=hashlib.sha256(request.body).hexdigest(),
        session_token=other.session_token,
    )
    back = sigv4.sign(between, again, published, now=NOW)
    assert back.signature == auth.signature
