"""Answers compared by structure, ids mapped, bodies taken out of their chunks, signatures that a judge accepts."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowwarden.replay.outgoing import Outgoing, outgoing, plain_body, signed
from flowwarden.replay.shape import Ids, differences, parse, same_kind

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(values)
def test_nothing_differs_from_itself(value):
    ids = Ids()
    assert list(differences(value, value, ids)) == []
    assert ids.new == {}


@given(st.binary(max_size=80), st.sampled_from(["", "application/json", "text/xml"]))
def test_any_body_can_be_parsed(body, kind):
    parse(body, kind)
    parse(b"<" + body, kind)


def test_entities_are_not_expanded():
    bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "cccc"><!ENTITY d "&b;&b;">]><a>&d;</a>'
    assert parse(bomb) == bomb.decode()


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        ("i-0123456789abcdef0", "i-0fedcba9876543210", True),
        ("i-0123456789abcdef0", "vpc-0fedcba9876543210", False),
        ("arn:aws:sqs:eu-west-1:1:q1", "arn:aws:sqs:eu-west-1:2:q9", True),
        ("arn:aws:iam::1:role/a", "arn:aws:iam::1:user/a", False),
        ("b6768c33-9164-4010-a135-21d5f6ab511d", "0b5e3f0c-aaaa-4bbb-8ccc-1234567890ab", True),
        ("b6768c33-9164-4010-a135-21d5f6ab511d", "running", False),
        ("10.0.0.1", "10.9.8.7", True),
        ("running", "stopped", False),
        ("true", "false", False),
        ("3", "4", False),
        ("enabled123", "x", False),
    ],
)
def test_what_looks_like_an_id(old, new, alike):
    assert same_kind(old, new) is alike


def test_ids_are_mapped_once_and_longest_first():
    ids = Ids()
    assert ids.learn("i-0123456789abcdef0", "i-0aaaaaaaaaaaaaaa0")
    assert ids.learn("arn:aws:ec2:::instance/i-0123456789abcdef0", "arn:aws:ec2:::instance/i-0aaaaaaaaaaaaaaa0")
    assert not ids.learn("i-0123456789abcdef0", "i-0bbbbbbbbbbbbbbb0")
    assert not ids.learn("i-0ccccccccccccccc0", "i-0aaaaaaaaaaaaaaa0")
    assert ids.apply("x arn:aws:ec2:::instance/i-0123456789abcdef0 i-0123456789abcdef0") == (
        "x arn:aws:ec2:::instance/i-0aaaaaaaaaaaaaaa0 i-0aaaaaaaaaaaaaaa0"
    )


def test_volatile_fields_do_not_count_and_others_do():
    old = {"RequestId": "a", "LaunchTime": 1, "State": "running", "List": [1, 2], "Only": 1}
    new = {"RequestId": "b", "LaunchTime": 2, "State": "stopped", "List": [1], "Extra": 1}
    assert list(differences(old, new, Ids())) == [
        "Extra: only in the answer",
        "List: 2 entries → 1",
        "Only: only in the recording",
        "State: running → stopped",
    ]


def chunked(parts: list[bytes], signed_chunks: bool) -> bytes:
    extra = b";chunk-signature=" + b"0" * 64 if signed_chunks else b""
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extra, part) for part in parts if part)
    return framed + b"0" + extra + b"\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"


@given(st.lists(st.binary(max_size=50), max_size=5), st.booleans())
def test_chunks_are_taken_apart(parts, signed_chunks):
    fields = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
    assert plain_body(chunked(parts, signed_chunks), fields)[0] == b"".join(parts)


@given(st.binary(max_size=60))
def test_torn_chunks_raise_only_value_errors(data):
    try:
        plain_body(data, {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"})
    except ValueError:
        pass


def state(headers: list[tuple[bytes, bytes]], path: bytes, body: bytes | None) -> dict:
    return {"request": {"headers": headers, "path": path, "method": b"PUT", "content": body, "host": "h"}}


def test_a_chunked_upload_is_sent_plain_and_signed_for_the_sandbox():
    """No old signature, no chunk framing, no checksum of other bytes; the hash is of what is sent."""
    headers = [
        (b"Authorization", b"AWS4-HMAC-SHA256 Credential=AKIDX/20260101/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0"),
        (b"X-Amz-Content-SHA256", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"), (b"Content-Encoding", b"aws-chunked"),
        (b"X-Amz-Decoded-Content-Length", b"5"), (b"X-Amz-Trailer", b"x-amz-checksum-crc32"), (b"x-amz-meta-a", b"b"),
    ]  # fmt: skip
    call = {"host": "bucket.s3.eu-west-1.amazonaws.com", "service": "s3"}
    made = outgoing(state(headers, b"/a%20b?x=1", chunked([b"hello"], True)), call, lambda text: text)
    assert (made.body, made.service, made.region, made.target) == (b"hello", "s3", "eu-west-1", "/a%20b?x=1")
    assert made.headers == (("x-amz-meta-a", "b"),)
    sent = dict(signed(made).headers)
    assert "/eu-west-1/s3/aws4_request" in sent["Authorization"] and "AKIDX" not in sent["Authorization"]
    assert sent["X-Amz-Content-SHA256"] in (hashlib.sha256(b"hello").hexdigest(), "UNSIGNED-PAYLOAD")


def test_presigned_urls_lose_their_old_signature():
    query = b"/k?versionId=1&X-Amz-Algorithm=A&X-Amz-Credential=K%2F20260101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Signature=0"
    made = outgoing(
        state([], query, b""), {"host": "b.s3.amazonaws.com", "service": "s3", "signing_name": "s3"}, lambda t: t
    )
    assert (made.target, made.region) == ("/k?versionId=1", "eu-west-1")


def test_a_body_that_was_not_recorded():
    with pytest.raises(ValueError, match="not recorded"):
        outgoing(state([], b"/", None), {"host": "h"}, lambda t: t)


def test_secrets_and_ids_are_filled_in_everywhere():
    made = outgoing(
        state([(b"x", b"MASK")], b"/MASK", json.dumps({"a": "MASK"}).encode()),
        {"host": "h"},
        lambda t: t.replace("MASK", "real"),
    )
    assert (made.target, made.body, made.headers) == ("/real", b'{"a": "real"}', (("x", "real"),))


def test_regions_that_are_sets():
    made = Outgoing("GET", "h.amazonaws.com", "/", (), b"", "s3", "*")
    assert "/us-east-1/s3/" in dict(signed(made).headers)["Authorization"]
