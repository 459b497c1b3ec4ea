"""Parameters against independent writers: cbor2, json, botocore's timestamps; and what each protocol cannot say."""

from __future__ import annotations

import datetime
import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowwarden.errors import Refusal
from flowwarden.recognition.params import cborbody, jsonbody, restparts, xmlbody
from flowwarden.recognition.params.values import Malformed, timestamp
from flowwarden.recognition.recogniser import Recogniser
from flowwarden.types import Request

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_cbor_is_read_as_cbor2_reads_it(value: Any) -> None:
    """The decoder agrees with another implementation on whatever that writes, canonical or not."""
    for canonical in (False, True):
        body = cbor2.dumps(value, canonical=canonical)
        assert cborbody.parse(body) == cbor2.loads(body) == value


def test_cbor_of_indefinite_length() -> None:
    """RFC 8949 appendix A's indefinite-length examples."""
    assert cborbody.parse(bytes.fromhex("bf61610161629f0203ffff")) == {"a": 1, "b": [2, 3]}
    assert cborbody.parse(bytes.fromhex("7f657374726561646d696e67ff")) == "streaming"
    assert cborbody.parse(bytes.fromhex("5f42010243030405ff")) == bytes([1, 2, 3, 4, 5])
    assert cborbody.parse(cbor2.dumps(cbor2.CBORTag(1, 1767323045))) == MOMENT


@pytest.mark.parametrize(
    "body",
    ["ff", "1c", "9f", "5f6161ff", "a201010102", "a10101", "d8256161", "6261", "1b", "f8ff", "8181", "c16161", "0000"],
)
def test_cbor_that_is_none(body: str) -> None:
    """Breaks without a beginning, reserved lengths, cut items, keys that are no text, foreign tags, two items."""
    with pytest.raises(Malformed):
        cborbody.parse(bytes.fromhex(body))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)
    )
)
def test_json_is_read_as_json_reads_it(value: Any) -> None:
    """Strictness costs nothing that is well-formed."""
    assert jsonbody.parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z", "2026-01-02T04:04:05+01:00", "1767323045", "1767323045.0",
        "Fri, 02 Jan 2026 03:04:05 GMT", "2026-01-02t03:04:05z", "2026-01-02T03:04:05", "2026-01-02T04:04:05+0100",
    ],
)  # fmt: skip
def test_one_moment_in_many_spellings(text: str) -> None:
    """All the forms that SDKs and people send."""
    assert timestamp(text, "x") == MOMENT


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "1e400", "99999999999999999999", "2026-01-02T25:00:00Z"]
)
def test_no_moment(text: str) -> None:
    with pytest.raises(Malformed):
        timestamp(text, "x")


def test_headers_with_lists_maps_and_json() -> None:
    """Quoted items, dates with commas, prefixed maps and base64 JSON come back as they were."""
    shapes: dict[str, Any] = {
        "In": {
            "type": "structure",
            "members": {
                "Items": {"shape": "Strings", "location": "header", "locationName": "x-items"},
                "Dates": {"shape": "Dates", "location": "header", "locationName": "x-dates"},
                "Meta": {"shape": "Meta", "location": "headers", "locationName": "x-meta-"},
                "Json": {"shape": "=string", "location": "header", "locationName": "x-json", "jsonvalue": True},
                "Free": {"shape": "Free", "location": "querystring", "locationName": "free"},
                "Known": {"shape": "=integer", "location": "querystring", "locationName": "known"},
            },
        },
        "Strings": {"type": "list", "member": {"shape": "=string"}},
        "Dates": {"type": "list", "member": {"shape": "=timestamp"}},
        "Meta": {"type": "map", "key": {"shape": "=string"}, "value": {"shape": "=string"}},
        "Free": {"type": "map", "key": {"shape": "=string"}, "value": {"shape": "Strings"}},
    }
    fields = {
        "x-items": ['a,"b,c","d\\"e"'],
        "x-dates": ["Fri, 02 Jan 2026 03:04:05 GMT, Fri, 02 Jan 2026 03:04:05 GMT"],
        "x-meta-one": ["1"],
        "x-json": ["eyJhIjoxfQ=="],
    }
    parts = restparts.Parts({}, {"known": ["1"], "other": ["x", "y"]}, fields, b"", frozenset({"known", "free"}))
    assert restparts.read("In", shapes, parts, False) == {
        "Items": ["a", "b,c", 'd"e'],
        "Dates": [MOMENT, MOMENT],
        "Meta": {"one": "1"},
        "Json": {"a": 1},
        "Free": {"other": ["x", "y"]},
        "Known": 1,
    }


def test_xml_with_a_bomb() -> None:
    """Entities are refused before they can grow."""
    bomb = b'<!DOCTYPE l [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;&a;">]><l>&b;</l>'
    deep = b"<a>" * 5000 + b"</a>" * 5000
    for body in (
        bomb,
        deep,
        b"",
        b"<a>",
        b"<a/><b/>",
        b"\xff\xfe<a/>",
        b'<?xml version="1.0" encoding="utf-16"?><a/>\xff',
    ):
        with pytest.raises(Malformed):
            xmlbody.parse(body)


def test_unknown_members_are_kept(recogniser: Recogniser) -> None:
    """A newer SDK's member stays visible to rules, under its own name."""
    headers = ((b"content-type", b"application/x-amz-json-1.0"), (b"x-amz-target", b"DynamoDB_20120810.DeleteTable"))
    body = b'{"TableName": "t", "BrandNew": {"Deep": [1]}}'
    call = recogniser.recognise(Request("POST", "https", "dynamodb.eu-west-1.amazonaws.com", 443, "/", headers, body))
    assert call.params == {"TableName": "t", "BrandNew": {"Deep": [1]}}


def test_a_malformed_body_is_found_when_it_is_needed(recogniser: Recogniser) -> None:
    """Service, operation and static actions cost no parsing; parameters do, and then the Refusal comes."""
    headers = ((b"content-type", b"application/x-amz-json-1.0"), (b"x-amz-target", b"DynamoDB_20120810.DeleteTable"))
    request = Request("POST", "https", "dynamodb.eu-west-1.amazonaws.com", 443, "/", headers, b"{")
    call = recogniser.recognise(request)
    assert [action.name for action in call.actions] == ["dynamodb:DeleteTable"]
    for name in ("params", "resources"):
        with pytest.raises(Refusal):
            getattr(call, name)
    assert "DeleteTable" in repr(call)


STREAMS = {
    "PUT": ("stream", {"Bucket": "b", "Key": "k", "ContentType": "text/plain", "ContentLength": 1000000}),
    "GET": ("none", {"Bucket": "b", "Key": "k"}),
}


@pytest.mark.parametrize("method", STREAMS)
def test_the_head_is_enough_for_streams(method: str, recogniser: Recogniser) -> None:
    """An upload is decided on its head: parameters without the body that streams."""
    fields = ((b"content-type", b"text/plain"), (b"content-length", b"1000000")) if method == "PUT" else ()
    request = Request(method, "https", "b.s3.eu-west-1.amazonaws.com", 443, "/k", fields, None)
    for call in (recogniser.head(request), recogniser.recognise(request)):
        assert (call.body, call.params) == STREAMS[method]


def test_the_head_waits_for_a_form(recogniser: Recogniser) -> None:
    """A posted form hides its Action: the head knows the protocol, and that the whole body is needed."""
    fields = ((b"content-type", b"application/x-www-form-urlencoded"), (b"content-length", b"50"))
    call = recogniser.head(Request("POST", "https", "iam.amazonaws.com", 443, "/", fields, None))
    assert (call.aws, call.operation, call.protocol, call.body) == (True, None, "query", "whole")


def test_without_a_body_the_head_is_careful(recogniser: Recogniser) -> None:
    """Where the body is not there yet, every action that it could add is named, and no parameter is known."""
    fields = ((b"content-length", b"50"),)
    request = Request("POST", "https", "lambda.eu-west-1.amazonaws.com", 443, "/2015-03-31/functions", fields, None)
    call = recogniser.head(request)
    assert call.params is None and call.resources == (None,)
    assert {"lambda:CreateFunction", "iam:PassRole"} <= {action.name for action in call.actions}
