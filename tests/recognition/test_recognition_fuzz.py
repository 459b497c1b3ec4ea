"""Bad input: whatever arrives, only a Refusal leaves, and what is not known has no action that a rule could allow."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recognition_requests import ACCOUNT, Sender, operations, parameters

from flowwarden.errors import Refusal
from flowwarden.recognition.params import cborbody, jsonbody, querybody, xmlbody
from flowwarden.recognition.params.values import Malformed
from flowwarden.recognition.recogniser import Recogniser
from flowwarden.types import Request

SOAK = bool(os.environ.get("FLOWWARDEN_SOAK"))
FUZZ = settings(
    max_examples=20_000 if SOAK else 200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CORPUS_SERVICES = ["s3", "s3control", "sts", "ec2", "dynamodb", "lambda", "cloudwatch", "route53", "sesv2", "elbv2"]

HOSTS = st.sampled_from(
    [
        "s3.eu-west-1.amazonaws.com", "b.s3.amazonaws.com", "iam.amazonaws.com", "ec2.eu-west-1.amazonaws.com",
        "dynamodb.eu-west-1.amazonaws.com", "lambda.eu-west-1.amazonaws.com", "monitoring.eu-west-1.amazonaws.com",
        "email.eu-west-1.amazonaws.com", "123456789012.s3-control.eu-west-1.amazonaws.com", "nothing.eu-west-1.amazonaws.com",
        "abc.execute-api.eu-west-1.amazonaws.com", "example.com",
    ]
)  # fmt: skip
BITS = st.sampled_from(
    ["/", "//", "..", ".", "%2F", "%2e%2e", "%00", ";", "?", "&", "=", "+", "%", "acl", "delete", "versionId", "Action",
     "DeleteUser", "Version", "2010-05-08", "2015-03-31", "functions", "x-amz-acl", "X-Amz-Credential", "é", "\\", "#", " "]
)  # fmt: skip
TARGETS = st.lists(st.one_of(BITS, st.text(max_size=4)), max_size=12).map(lambda parts: "/" + "".join(parts))
NAMES = st.sampled_from(
    ["x-amz-target", "content-type", "authorization", "smithy-protocol", "content-encoding", "x-amz-copy-source", "content-length",
     "x-amz-account-id", "x-amz-content-sha256", "transfer-encoding", "x-amz-meta-a", "x-http-method-override"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        ["DynamoDB_20120810.PutItem", "application/x-amz-json-1.0", "application/x-www-form-urlencoded", "gzip", "rpc-v2-cbor",
         "AWS4-HMAC-SHA256 Credential=A/20261120/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0", "application/cbor"]
    ),
    st.text(max_size=20),
)  # fmt: skip
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(
    lambda pairs: tuple((name.encode(), value.encode("utf-8", "surrogatepass")) for name, value in pairs)
)
METHODS = st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "get", ""])


def check(refusal: Refusal) -> None:
    assert refusal.status in {400, 403} and refusal.code and refusal.station == "recognise"


def exercise(recogniser: Recogniser, request: Request) -> None:
    """Asks for all that can be asked; only a Refusal may come out."""
    for ask in (recogniser.head, lambda r: recogniser.recognise(r, account=ACCOUNT)):
        try:
            call = ask(request)
            read: list[Any] = [call.params, call.actions, call.resources, repr(call)]
        except Refusal as refusal:
            check(refusal)
            continue
        assert len(read) == 4
        if call.operation is None:
            assert call.actions == () and call.resources == ()
        else:
            assert call.aws and call.actions and call.resources and call.protocol


@FUZZ
@given(METHODS, HOSTS, TARGETS, HEADERS, st.binary(max_size=60))
def test_nothing_but_a_refusal_leaves(
    recogniser: Recogniser, method: str, host: str, target: str, headers: Any, body: bytes
) -> None:
    """Requests put together from telling pieces."""
    exercise(recogniser, Request(method, "https", host, 443, target, headers, body))


@pytest.fixture(scope="module")
def corpus() -> list[Request]:
    """Real requests: one of each operation of a few services that together speak every protocol."""
    sender = Sender()
    found = []
    for service in CORPUS_SERVICES:
        protocols = ["smithy-rpc-v2-cbor", "json", "query"] if service == "cloudwatch" else [""]
        for protocol in protocols:
            client = sender.client(service, protocol)
            found += [
                sender.send(client, model.name, parameters(model, True)) for model in list(operations(client))[::7]
            ]
    return found


@FUZZ
@given(st.data())
def test_mutated_requests(recogniser: Recogniser, corpus: list[Request], data: st.DataObject) -> None:
    """Real requests with bytes changed, cut, doubled or swapped with another request's parts."""
    first, second = data.draw(st.sampled_from(corpus)), data.draw(st.sampled_from(corpus))
    kind = data.draw(st.sampled_from(["body", "target", "headers", "method", "host", "double"]))
    method, host, target, headers, body = first.method, first.host, first.target, first.headers, first.body or b""
    if kind == "body":
        body = mutate(data, body)
    elif kind == "target":
        target = mutate(data, target.encode("latin-1")).decode("latin-1")
    elif kind == "headers":
        headers = tuple(data.draw(st.permutations([*first.headers, *second.headers[:3]])))
    elif kind == "method":
        method = second.method
    elif kind == "host":
        host = second.host
    else:
        headers = (*first.headers, data.draw(st.sampled_from(first.headers)))
    exercise(recogniser, Request(method, "https", host, 443, target, headers, body))


def mutate(data: st.DataObject, text: bytes) -> bytes:
    """A few bytes inserted, removed or replaced."""
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        until = data.draw(st.integers(at, min(len(text), at + 4)))
        text = text[:at] + data.draw(st.binary(max_size=3)) + text[until:]
    return text


SHAPES = {
    "Root": {
        "type": "structure",
        "required": [],
        "members": {
            "Name": {"shape": "=string"}, "Count": {"shape": "=integer"}, "When": {"shape": "=timestamp"}, "Blob": {"shape": "=blob"},
            "Flag": {"shape": "=boolean"}, "Real": {"shape": "=double"}, "Many": {"shape": "List"}, "Map": {"shape": "Map"}, "Root": {"shape": "Root"},
        },
    },
    "List": {"type": "list", "member": {"shape": "=string"}},
    "Map": {"type": "map", "key": {"shape": "=string"}, "value": {"shape": "Root"}},
}  # fmt: skip

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.binary(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SHAPES["Root"]["members"], "other", "name"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@FUZZ
@given(TREES)
def test_readers_refuse_or_read(tree: Any) -> None:
    """Any tree of values is read, or called malformed; nothing else is raised."""
    for read in (jsonbody.read, cborbody.read):
        try:
            found = read(tree, "Root", SHAPES)
        except Malformed:
            continue
        assert isinstance(found, dict)


@FUZZ
@given(st.binary(max_size=80))
def test_parsers_refuse_or_parse(body: bytes) -> None:
    """Any bytes are parsed, or called malformed."""
    for parse in (jsonbody.parse, cborbody.parse, xmlbody.parse):
        try:
            parse(body)
        except Malformed:
            continue


@FUZZ
@given(st.dictionaries(st.text("NamCoutMy.12e3", max_size=12), st.text(max_size=6), max_size=6), st.booleans())
def test_forms_are_read_or_refused(form: dict[str, str], ec2: bool) -> None:
    """Any form is read, or called malformed."""
    try:
        querybody.read(form, "Root", SHAPES, ec2)
    except Malformed:
        return
