"""Presigned URLs out of AWS's answers pass in their own session, unchanged, and no other foreign signature does."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from signing_helpers import botocore_signed, credentials

from flowwarden.signing.issued import MOST, IssuedUrls
from flowwarden.types import Operation, Request

GET_FUNCTION = Operation("lambda", "GetFunction")
LAYER = "https://prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com/a/b?x=%2F"


def presigned(url=LAYER, method="GET") -> tuple[str, Request]:
    request = botocore_signed(credentials(), method, url, service="s3", region="eu-west-1", presigned=3600)
    return f"https://{request.host}{request.target}", request


@pytest.mark.parametrize(
    "spell",
    [
        lambda url: json.dumps({"Code": {"Location": url}, "Tags": {"a": "b"}}),
        lambda url: json.dumps({"Code": {"Location": url}}).replace("/", "\\/"),
        lambda url: json.dumps({"Code": {"Location": url}}).replace("&", "\\u0026").replace("=", "\\u003d"),
    ],
)
def test_issued_url(spell):
    """In the member that AWS fills, however escaped."""
    live = {"one"}
    issued = IssuedUrls(live.__contains__)
    url, request = presigned()
    assert issued.note("one", GET_FUNCTION, spell(url).encode()) == 1
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
    live.clear()
    issued.forget("one")
    issued.forget("one")
    assert issued.note("one", GET_FUNCTION, spell(url).encode()) == 0, "an answer that was late"
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
        "https://abc.lambda-url.eu-west-1.on.aws/a?X-Amz-Signature=0",
        "https://abc.execute-api.eu-west-1.amazonaws.com/a?X-Amz-Signature=0",
        "https://b.s3-website-eu-west-1.amazonaws.com/a?X-Amz-Signature=0",
    ],
)
def test_other_urls_are_not_noted(url):
    """Only https, only S3's hosts, only with a signature."""
    body = json.dumps({"Code": {"Location": url}}).encode()
    assert IssuedUrls({"one"}.__contains__).note("one", GET_FUNCTION, body) == 0
    assert urlsplit(url).scheme


@pytest.mark.parametrize(
    ("operation", "document"),
    [
        ("s3:GetObject", None),
        ("dynamodb:GetItem", {"Item": {"Code": {"S": LAYER}}}),
        ("lambda:GetFunction", {"Configuration": {"Description": LAYER, "Environment": {"Variables": {"A": LAYER}}}}),
        ("lambda:Invoke", {"Code": {"Location": LAYER}}),
        ("lambda:GetFunction", [{"Code": {"Location": LAYER}}]),
        ("lambda:GetFunction", {"Code": {"Location": [LAYER]}}),
    ],
)
def test_what_an_agent_can_write_counts_for_nothing(operation, document):
    """An object, an item, a description: read back, it is not an address that AWS gave out."""
    url, request = presigned()
    body = url if document is None else json.dumps(document).replace(LAYER, url)
    issued = IssuedUrls({"one"}.__contains__)
    assert issued.note("one", Operation(*operation.split(":")), body.encode()) == 0
    assert not issued.allows("one", request)


def test_bounded():
    """Answers full of URLs do not fill the memory."""
    issued = IssuedUrls({"one"}.__contains__)
    urls = [{"url": f"https://b.s3.amazonaws.com/{i}?X-Amz-Signature=0"} for i in range(MOST + 10)]
    body = json.dumps({"artifacts": urls}).encode()
    assert issued.note("one", Operation("devicefarm", "ListArtifacts"), body) == MOST + 10
    assert len(issued._by_session["one"]) == MOST
