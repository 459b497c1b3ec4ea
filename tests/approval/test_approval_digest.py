"""What a grant is bound to: each field that has a meaning changes the digest, and nothing else does."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest import mock

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowwarden.approval.digest import digest
from flowwarden.approval.idempotency import BECOMES_DATA, members
from flowwarden.approval.spool import said
from flowwarden.errors import Refusal
from flowwarden.signing import authentication, payload
from flowwarden.types import Call, Operation, Phantom, Principal, Request
from support.chunks import chunked_upload
from support.clients import Keys

WHO = Principal("https://idp", "alice", "agent", "owen", frozenset({"dev"}), "Alice")
CALL = Call(
    aws=True,
    operation=Operation("ec2", "TerminateInstances"),
    protocol="ec2",
    region="eu-west-1",
    account="1",
    params={"InstanceIds": ["i-1"]},
)
BODY = b"Action=TerminateInstances&InstanceId.1=i-1&Version=2016-11-15"
REQUEST = Request(
    "POST",
    "https",
    "ec2.eu-west-1.amazonaws.com",
    443,
    "/?a=1&b=2",
    (
        (b"Host", b"ec2.eu-west-1.amazonaws.com"),
        (b"Content-Type", b"application/x-www-form-urlencoded"),
        (b"X-Amz-Date", b"20270115T080000Z"),
        (b"Authorization", b"AWS4-HMAC-SHA256 Credential=x, Signature=1"),
        (b"amz-sdk-invocation-id", b"1"),
        (b"User-Agent", b"Boto3"),
        (b"X-Amz-Meta-A", b"1"),
        (b"X-Amz-Meta-A", b"2"),
    ),
    BODY,
)


def of(
    who: Principal = WHO,
    role: str = "arn:role",
    account: str = "1",
    region: str = "eu-west-1",
    call: Call = CALL,
    request: Request = REQUEST,
    body: str | None = None,
) -> str:
    sha = hashlib.sha256(request.body or b"").hexdigest() if body is None else body
    return digest(who, role, account, region, call, request, sha)


def headers(**changes: bytes | None) -> Request:
    """The request with headers set (or left out) by name, `_` for `-`."""
    found = [(n, v) for n, v in REQUEST.headers if n.decode().lower().replace("-", "_") not in changes]
    found += [(name.replace("_", "-").encode(), value) for name, value in changes.items() if value is not None]
    return replace(REQUEST, headers=tuple(found))


SAME = {
    "groups": {"who": replace(WHO, groups=frozenset({"other"}), name="A.")},
    "date": {"request": headers(x_amz_date=b"20270115T090000Z", date=b"now")},
    "signature": {"request": headers(authorization=b"AWS4-HMAC-SHA256 other")},
    "attempt": {"request": headers(amz_sdk_invocation_id=b"2", amz_sdk_request=b"attempt=2; max=3")},
    "agent": {"request": headers(user_agent=b"Boto3 retry", x_amz_user_agent=b"x")},
    "connection": {"request": headers(connection=b"close", expect=b"100-continue", te=b"trailers")},
    "order of headers": {"request": replace(REQUEST, headers=REQUEST.headers[4:] + REQUEST.headers[:4])},
    "spelling of names": {"request": replace(REQUEST, headers=tuple((n.lower(), v) for n, v in REQUEST.headers))},
}
OTHER = {
    "issuer": {"who": replace(WHO, issuer="https://idp2")},
    "subject": {"who": replace(WHO, subject="alicf")},
    "acting agent": {"who": replace(WHO, agent="agent2")},
    "owner": {"who": replace(WHO, owner="")},
    "role": {"role": "arn:role2"},
    "account": {"account": "2"},
    "region": {"region": "eu-west-2"},
    "partition": {"call": replace(CALL, partition="aws-cn")},
    "service": {"call": replace(CALL, operation=Operation("ec3", "TerminateInstances"))},
    "operation": {"call": replace(CALL, operation=Operation("ec2", "StopInstances"))},
    "no operation": {"call": replace(CALL, operation=None)},
    "method": {"request": replace(REQUEST, method="PUT")},
    "scheme": {"request": replace(REQUEST, scheme="http")},
    "host": {"request": replace(REQUEST, host="ec2.eu-west-2.amazonaws.com")},
    "port": {"request": replace(REQUEST, port=8443)},
    "path": {"request": replace(REQUEST, target="/x?a=1&b=2")},
    "query": {"request": replace(REQUEST, target="/?a=1&b=3")},
    "order of the query": {"request": replace(REQUEST, target="/?b=2&a=1")},
    "query joined": {"request": replace(REQUEST, target="/?a=1%26b=2")},
    "meta": {"request": headers(x_amz_meta_a=b"1")},
    "new header": {"request": headers(x_amz_acl=b"public-read")},
    "content type": {"request": headers(content_type=b"text/plain")},
    "repeated header joined": {"request": headers(x_amz_meta_a=b"1, 2")},
    "body": {"request": replace(REQUEST, body=BODY + b" ")},
    "spooled body": {"body": "0" * 64},
}


@pytest.mark.parametrize("name", SAME)
def test_what_does_not_matter(name: str) -> None:
    assert of(**SAME[name]) == of()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OTHER)
def test_what_is_bound(name: str) -> None:
    assert of(**OTHER[name]) != of()  # type: ignore[arg-type]


TEXT = st.text(st.characters(codec="latin-1", exclude_characters="\r\n \t"), min_size=1, max_size=20)


@given(st.integers(0, len(BODY) - 1), st.integers(0, 7))
def test_any_bit_of_the_body(at: int, bit: int) -> None:
    changed = bytearray(BODY)
    changed[at] ^= 1 << bit
    assert of(request=replace(REQUEST, body=bytes(changed))) != of()


@given(st.sampled_from(["method", "host", "target"]), TEXT)
def test_any_change_of_the_request_line(field: str, value: str) -> None:
    if value != getattr(REQUEST, field):
        assert of(request=replace(REQUEST, **{field: value})) != of()


@given(TEXT.map(str.lower), TEXT)
def test_any_header_that_is_not_known_to_be_meaningless(name: str, value: str) -> None:
    from flowwarden.approval.digest import _SIGNING, _WITHOUT_MEANING

    added = replace(REQUEST, headers=(*REQUEST.headers, (name.encode("latin-1"), value.encode("latin-1"))))
    known = name in _WITHOUT_MEANING or name in _SIGNING or name.startswith("amz-sdk-")
    assert (of(request=added) == of()) == known


@given(st.lists(TEXT, min_size=4, max_size=4), st.lists(TEXT, min_size=4, max_size=4))
def test_fields_do_not_run_into_each_other(one: list[str], two: list[str]) -> None:
    """('ab', 'c') and ('a', 'bc') are different requests."""

    def made(parts: list[str]) -> str:
        return of(replace(WHO, subject=parts[0], agent=parts[1]), parts[2], parts[3])

    assert (made(one) == made(two)) == (one == two)


def test_presigned_urls() -> None:
    """A presigned URL's date and signature change with each signing; its expiry and what it signs are bound."""
    base = replace(REQUEST, target="/k?X-Amz-Date=1&X-Amz-Signature=2&X-Amz-Credential=3&X-Amz-Expires=60")
    assert of(request=base) == of(
        request=replace(base, target="/k?X-Amz-Date=9&X-Amz-Signature=8&X-Amz-Credential=7&X-Amz-Expires=60")
    )
    assert of(request=base) != of(request=replace(base, target=base.target.replace("Expires=60", "Expires=61")))


def test_outside_aws_nothing_is_taken_for_a_signature() -> None:
    """At another host Authorization is the caller's identity there, and X-Amz-Date is just a header."""
    plain = Call(aws=False)
    for change in ({"authorization": b"Bearer other"}, {"x_amz_date": b"x"}, {"amz_sdk_request": b"x"}):
        assert of(call=plain, request=headers(**change)) != of(call=plain)
    presigned = replace(REQUEST, target="/?X-Amz-Signature=2")
    assert of(call=plain, request=presigned) != of(call=plain, request=replace(REQUEST, target="/?X-Amz-Signature=3"))


# ── idempotency tokens, as boto3 sends them ──


def sent(service: str, operation: str, **params: Any) -> tuple[Call, Request]:
    """What boto3 would send, with its own token filled in, and the call that a recogniser would make of it."""
    config = botocore.config.Config(retries={"total_max_attempts": 1})
    client = boto3.client(service, "eu-west-1", aws_access_key_id="x", aws_secret_access_key="y", config=config)
    found: list[tuple[Any, dict[str, Any]]] = []

    def capture(request: botocore.awsrequest.AWSRequest, **_: Any) -> botocore.awsrequest.AWSResponse:
        found.append((request.prepare() if hasattr(request, "prepare") else request, {}))
        return botocore.awsrequest.AWSResponse(request.url, 500, {}, None)

    def note(params: dict[str, Any], **_: Any) -> None:
        found.append((None, params))  # the very dict that botocore fills its token into

    client.meta.events.register_last(f"before-parameter-build.{service}.*", note)
    client.meta.events.register_first(f"before-send.{service}.*", capture)
    method = botocore.xform_name(operation)
    with pytest.raises(Exception):  # noqa: B017 there is no answer
        getattr(client, method)(**params)
    given_params = next(p for request, p in found if request is None)
    request = next(request for request, _ in found if request is not None)
    scheme, _, rest = request.url.partition("://")
    host, _, target = rest.partition("/")
    body = request.body or b""
    call = Call(
        aws=True,
        operation=Operation(service, operation),
        protocol=client.meta.service_model.metadata["protocol"],
        params=given_params,
    )
    fields = tuple(
        (str(n).encode(), v if isinstance(v, bytes) else str(v).encode()) for n, v in request.headers.items()
    )
    return call, Request(
        request.method, scheme, host, 443, "/" + target, fields, body if isinstance(body, bytes) else body.encode()
    )


GENERATED: list[tuple[str, str, dict[str, Any]]] = [
    ("ec2", "RunInstances", {"MinCount": 1, "MaxCount": 1, "ImageId": "ami-1"}),
    ("cloudformation", "CreateStackSet", {"StackSetName": "s"}),
    ("dynamodb", "TransactWriteItems", {"TransactItems": [{"Delete": {"TableName": "t", "Key": {"a": {"S": "1"}}}}]}),
    ("guardduty", "CreateDetector", {"Enable": True}),
    ("accessanalyzer", "DeleteAnalyzer", {"analyzerName": "a"}),
    ("s3", "RenameObject", {"Bucket": "b", "Key": "k", "RenameSource": "o"}),
    ("efs", "CreateFileSystem", {}),
]


@pytest.mark.parametrize(("service", "operation", "params"), GENERATED, ids=[f"{s}-{o}" for s, o, _ in GENERATED])
def test_the_same_request_later(service: str, operation: str, params: dict[str, Any]) -> None:
    """boto3's own requests, twice: a generated token is no difference, a chosen one and anything else is."""
    one, two = sent(service, operation, **params), sent(service, operation, **params)
    assert of(call=one[0], request=one[1]) == of(call=two[0], request=two[1])
    for member, _, _ in members(Operation(service, operation)):
        chosen = {**params, member: "my-own-token-that-i-chose-myself-0001"}
        third = sent(service, operation, **chosen)
        assert of(call=third[0], request=third[1]) != of(call=one[0], request=one[1])


def test_tokens_were_really_generated() -> None:
    """In each of the requests compared above a token stands: the bytes differ, the digest does not."""
    for service, operation, params in GENERATED:
        one, two = sent(service, operation, **params)[1], sent(service, operation, **params)[1]
        assert (one.body, one.target, one.header("x-amz-client-token")) != (
            two.body,
            two.target,
            two.header("x-amz-client-token"),
        ), (service, operation)


def test_what_botocore_calls_a_token_but_names_the_thing_itself() -> None:
    """Athena's NamedQueryId has the trait of a token and is a UUID: approving one deletion is not approving another."""
    call = Call(aws=True, operation=Operation("athena", "DeleteNamedQuery"), protocol="json")

    def made(query: str) -> str:
        found = replace(call, params={"NamedQueryId": query})
        return of(call=found, request=replace(REQUEST, body=json.dumps({"NamedQueryId": query}).encode()))

    assert made(str(uuid.uuid4())) != made(str(uuid.uuid4()))


def test_a_token_that_becomes_data_is_bound() -> None:
    """Secrets Manager makes ClientRequestToken the VersionId."""
    one = sent("secretsmanager", "PutSecretValue", SecretId="s", SecretString="x")
    two = sent("secretsmanager", "PutSecretValue", SecretId="s", SecretString="x")
    assert one[1].body != two[1].body
    assert of(call=one[0], request=one[1]) != of(call=two[0], request=two[1])
    assert all(not members(Operation(*name.split(":"))) for name in BECOMES_DATA)


def test_a_token_that_stands_elsewhere_too_is_bound() -> None:
    """The same UUID as a token and as another value: leaving it out would let that value be changed unseen."""
    call = Call(aws=True, operation=Operation("dynamodb", "TransactWriteItems"), protocol="json")

    def made(token: str, key: str) -> str:
        body = json.dumps({"ClientRequestToken": token, "Key": key}).encode()
        return of(
            call=replace(call, params={"ClientRequestToken": token, "Key": key}), request=replace(REQUEST, body=body)
        )

    a, b = str(uuid.uuid4()), str(uuid.uuid4())
    assert made(a, "k") == made(b, "k")
    assert made(a, a) != made(b, b)
    assert made(a, "k") != made(a, "l")


def test_a_header_that_repeats_the_token_is_bound() -> None:
    """Only the token's own header is left out: metadata with the same value is data."""
    call, one = sent("s3", "RenameObject", Bucket="b", Key="k", RenameSource="o")
    token = one.header("x-amz-client-token")
    assert token

    def with_meta(request: Request) -> str:
        meta = (b"x-amz-meta-a", request.header("x-amz-client-token").encode())
        return of(
            call=call_of[request.header("x-amz-client-token")],
            request=replace(request, headers=(*request.headers, meta)),
        )

    again, two = sent("s3", "RenameObject", Bucket="b", Key="k", RenameSource="o")
    call_of = {token: call, two.header("x-amz-client-token"): again}
    assert of(call=call, request=one) == of(call=again, request=two)
    assert with_meta(one) != with_meta(two)


SECRET = Keys("AKIA" + "T" * 16, "s" * 40, "token")  # of nobody


def uploaded(data: bytes, size: int, *, date: str, signed: bool = True, keys: Keys = SECRET) -> str:
    """What an approval of a chunked upload with a trailer is bound to; the signatures are botocore's."""
    url, when = "https://b.s3.eu-central-1.amazonaws.com/k", datetime.fromisoformat(date)
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=when):
        fields, body = chunked_upload(keys, url, data, size, region="eu-central-1", trailer=True, signed=signed)
    wire = tuple((name.encode(), value.encode()) for name, value in fields if name != "Content-Length")
    request = Request("PUT", "https", "b.s3.eu-central-1.amazonaws.com", 443, "/k", wire, body)
    phantom = Phantom(SECRET.key_id, SECRET.secret, SECRET.token)
    reader = payload.of(authentication.parse(request), phantom, wire)
    assert reader is not None
    for at in range(0, len(body), 7):
        reader.feed(body[at : at + 7])
    reader.finish()
    return of(request=request, body=said(reader))


@pytest.mark.parametrize("signed", [True, False])
def test_chunked_uploads(signed: bool) -> None:
    """Signatures, dates and the cut of the chunks differ from attempt to attempt; what is in them and the trailer count."""
    first = uploaded(b"hello world", 5, date="2026-11-20T18:00:00", signed=signed)
    assert uploaded(b"hello world", 5, date="2026-11-20T18:03:00", signed=signed) == first
    assert uploaded(b"hello world", 4, date="2026-11-20T18:00:00", signed=signed) == first
    assert uploaded(b"hello worle", 5, date="2026-11-20T18:00:00", signed=signed) != first


def test_chunks_that_somebody_else_signed() -> None:
    """Are refused before anybody is asked."""
    with pytest.raises(Refusal, match="signature"):
        uploaded(b"hello world", 5, date="2026-11-20T18:00:00", keys=replace(SECRET, secret="t" * 40))


def test_the_trailer_is_bound() -> None:
    wire = ((b"x-amz-decoded-content-length", b"5"), (b"x-amz-trailer", b"x-amz-checksum-crc32"))
    told = set()
    for checksum in (b"AAAA==", b"BBBB=="):
        reader = payload._Unsigned(wire)
        reader.feed(b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:" + checksum + b"\r\n\r\n")
        reader.finish()
        told.add(said(reader))
    assert len(told) == 2
