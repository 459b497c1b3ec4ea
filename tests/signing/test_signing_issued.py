"""Presigned URLs out of AWS's answers pass in their own session, unchanged, and no other foreign signature does."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from signing_helpers import botocore_signed, credentials

from flowwarden.signing.issued import MOST, IssuedUrls
from flowwarden.types import Request

LAYER = "https://prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com/a/b?x=%2F"


def presigned(url=LAYER, method="GET") -> tuple[str, Request]:
    request = botocore_signed(credentials(), method, url, service="s3", region="eu-west-1", presigned=3600)
    return f"https://{request.host}{request.target}", request


@pytest.mark.parametrize(
    "spell",
    [
        lambda url: ((), json.dumps({"Code": {"Location": url}}).encode()),
        lambda url: ((), json.dumps({"a": url}).replace("/", "\\/").encode()),
        lambda url: ((), json.dumps({"a": url}).replace("&", "\\u0026").replace("=", "\\u003d").encode()),
        lambda url: ((), f"<Location>{url.replace('&', '&amp;')}</Location>".encode()),
        lambda url: (((b"Location", url.encode()),), b""),
    ],
)
def test_issued_url(spell):
    """In a body, however escaped, or in a redirect's Location."""
    issued = IssuedUrls()
    url, request = presigned()
    headers, body = spell(url)
    assert issued.note("one", headers, body) == 1
    assert issued.allows("one", request)
    assert issued.allows("one", replace(request, method="HEAD"))
    assert not issued.allows("two", request)
    for wrong in (
        replace(request, method="PUT"),
        replace(request, target=request.target + "&a=b"),
        replace(request, target=request.target.replace("/a/b", "/a/c")),
        replace(request, host="evil.s3.eu-west-1.amazonaws.com"),
        replace(request, scheme="http", port=80),
        replace(request, port=8443),
        replace(request, headers=(*request.headers, (b"Authorization", b"x"))),
        replace(request, headers=(*request.headers, (b"x-amz-acl", b"x"))),
        presigned()[1],
    ):
        assert not issued.allows("one", wrong)
    issued.forget("one")
    issued.forget("one")
    assert not issued.allows("one", request)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/a?X-Amz-Signature=0",
        "https://s3.amazonaws.com.evil.example/a?X-Amz-Signature=0",
        "https://evil.example/s3.amazonaws.com/?X-Amz-Signature=0",
        "https://user@s3.amazonaws.com/?X-Amz-Signature=0",
        "http://b.s3.amazonaws.com/a?X-Amz-Signature=0",
        "https://b.s3.amazonaws.com/a?Signature=0",
    ],
)
def test_other_urls_are_not_noted(url):
    """Only https, only AWS's hosts, only with a signature."""
    assert IssuedUrls().note("one", (), f'"{url}"'.encode()) == 0
    assert urlsplit(url).scheme


def test_bounded():
    """An answer full of URLs does not fill the memory."""
    issued = IssuedUrls()
    body = b"\n".join(b"https://b.s3.amazonaws.com/%d?X-Amz-Signature=0" % i for i in range(MOST + 10))
    assert issued.note("one", (), body) == MOST + 10
    assert len(issued._by_session["one"]) == MOST
