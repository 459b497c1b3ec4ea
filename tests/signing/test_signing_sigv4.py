"""Signatures of botocore and awscrt verify; what the gateway signs, botocore computes to the same signature."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signing_helpers import (
    NOW,
    botocore_signature,
    botocore_signed,
    credentials,
    crt_signed,
    shown_credential,
    shown_signature,
)

from flowwarden.errors import Refusal
from flowwarden.signing import keys, sigv4
from flowwarden.signing.authentication import Kind, parse
from flowwarden.types import Credentials, Phantom, Request
from support import sigv4_judge

SIGNERS = [botocore_signed, crt_signed]
TIME = NOW.timestamp()
PHANTOM = credentials()
KEY_NAMES = [
    "a b",
    "a+b",
    "a=b",
    "100%",
    "x:y",
    "me@home",
    "wow!",
    "it's",
    "(x)",
    "st*r",
    "~tilde",
    "ha#sh",
    "what?",
    "[x]",
    "über/日本",
    "a//b",
    "./a",
    "../a",
    "a/./b/../c",
    "a%2Fb",
    "dir/",
    "&amp;x,y;z$",
]


def sha(body: bytes | None) -> str:
    return hashlib.sha256(body or b"").hexdigest()


def check(request: Request, phantom: Credentials | Phantom = PHANTOM, now: float = TIME):
    """Parses and verifies; the Authentication."""
    auth = parse(request)
    assert auth is not None
    assert auth.access_key_id == phantom.access_key_id
    sigv4.verify(
        request,
        auth,
        phantom.secret_access_key,
        now=now,
        body_sha256=None if request.body is None else sha(request.body),
        session_token=phantom.session_token,
    )
    return auth


def resigned(request: Request, auth, real: Credentials, **more) -> Request:
    """What goes on the wire, checked by botocore's own computation and by the tests' strict AWS."""
    signed = sigv4.sign(request, auth, real, **{"now": TIME, **more})
    out = replace(request, target=signed.target, headers=signed.headers)
    names, signature = shown_signature(out)
    assert signature == signed.signature == botocore_signature(out, real.secret_access_key)
    assert shown_credential(out)[0] == real.access_key_id
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in out.headers]
    secret = sigv4_judge.Secret(real.access_key_id, real.secret_access_key, real.session_token)
    judged = sigv4_judge.check_head(
        out.method,
        out.target,
        fields,
        lookup={real.access_key_id: secret}.get,
        now=more.get("now", TIME),
        body_hash=lambda: sha(out.body),
    )
    assert (judged.signature, judged.presigned) == (signature, auth.presigned)
    whole = out.target.encode() + b"".join(name + value for name, value in out.headers)
    for secret in (PHANTOM.access_key_id, PHANTOM.session_token):
        assert secret.encode() not in whole
    for name in out.fields:
        assert not name.startswith("x-amz-") or name in names
    return out


CASES = {
    "query": {
        "method": "POST",
        "url": "https://ec2.eu-west-1.amazonaws.com/",
        "service": "ec2",
        "region": "eu-west-1",
        "body": b"Action=DescribeInstances&Version=2016-11-15",
        "headers": {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
    },
    "json": {
        "method": "POST",
        "url": "https://dynamodb.us-east-1.amazonaws.com/",
        "service": "dynamodb",
        "body": b'{"TableName":"t"}',
        "headers": {"X-Amz-Target": "DynamoDB_20120810.DescribeTable", "Content-Type": "application/x-amz-json-1.0"},
    },
    "gzip body": {
        "method": "POST",
        "url": "https://monitoring.us-east-1.amazonaws.com/",
        "service": "monitoring",
        "body": bytes.fromhex("1f8b08000000000000ff") + b"\x00\xff",
        "headers": {"Content-Encoding": "gzip"},
    },
    "double encoded": {
        "url": "https://bedrock-runtime.us-east-1.amazonaws.com/model/arn%3Aaws%3Abedrock%3A%3A%3Ax%2Fy/converse",
        "service": "bedrock",
    },
    "trailing slash": {"url": "https://x.amazonaws.com/2015-03-31/functions/", "service": "lambda"},
    "lambda query": {
        "url": "https://lambda.us-east-1.amazonaws.com/f/?Marker=a%2Bb&Marker=a&B=&empty&a=%20x",
        "service": "lambda",
    },
    "port": {"url": "https://sts.us-east-1.amazonaws.com:8443/", "service": "sts"},
    "spaced header": {"headers": {"X-Amz-Meta-A": "  a   b c ", "X-Custom": "1  2"}},
    "s3 get": {"url": "https://b.s3.amazonaws.com/key?versionId=1&prefix=a%2Fb&list-type=2", "service": "s3"},
    "s3 put": {"method": "PUT", "url": "https://b.s3.amazonaws.com/k", "service": "s3", "body": b"hello"},
    "s3 unsigned": {
        "method": "PUT",
        "url": "https://b.s3.amazonaws.com/k",
        "service": "s3",
        "body": b"hello",
        "payload": "UNSIGNED-PAYLOAD",
    },
    "s3 trailer": {
        "method": "PUT",
        "url": "https://b.s3.amazonaws.com/k",
        "service": "s3",
        "body": b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n",
        "payload": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "headers": {
            "Content-Encoding": "aws-chunked",
            "X-Amz-Trailer": "x-amz-checksum-crc32",
            "X-Amz-Decoded-Content-Length": "5",
        },
    },
    "s3 presigned get": {
        "url": "https://b.s3.amazonaws.com/a%20b?response-content-type=x",
        "service": "s3",
        "presigned": 900,
    },
    "s3 presigned hoisted": {  # as the JavaScript SDK presigns
        "url": "https://b.s3.amazonaws.com/k?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD&x-id=GetObject&x-amz-checksum-mode=ENABLED",
        "service": "s3",
        "presigned": 900,
    },
    "s3 presigned put": {
        "method": "PUT",
        "url": "https://b.s3.amazonaws.com/k",
        "service": "s3",
        "presigned": 60,
        "body": b"anything",
    },
    "sts presigned": {
        "url": "https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15",
        "presigned": 60,
    },
}


@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("token", [True, False])
def test_what_others_sign_verifies_and_is_signed_again(signer, name, token):
    """Every shape of a request: in as botocore or awscrt sign it, out as botocore computes it."""
    phantom = credentials(token)
    request = signer(phantom, **CASES[name])
    auth = check(request, phantom)
    assert auth.presigned == ("presigned" in name)
    for real in (credentials(True), credentials(False)):
        out = resigned(request, auth, real)
        assert len(out.headers) >= len(request.headers) - 1
        if real.session_token:
            shown = out.header("x-amz-security-token") or out.query
            assert real.session_token in shown
        else:
            assert "security-token" not in (out.target + repr(out.headers)).lower()


@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize("key", KEY_NAMES)
@pytest.mark.parametrize("presigned", [0, 300])
def test_s3_key_names(signer, key, presigned):
    """S3 signs the path encoded once and never normalised, whatever the key."""
    from urllib.parse import quote

    url = "https://b.s3.eu-central-1.amazonaws.com/" + quote(key, safe="/~")
    request = signer(PHANTOM, url=url, service="s3", region="eu-central-1", presigned=presigned)
    out = resigned(request, check(request), credentials())
    assert out.path == request.path


@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize("key", KEY_NAMES)
def test_path_names_elsewhere(signer, key):
    """Every other service normalises and encodes again; the path itself leaves as it came."""
    from urllib.parse import quote

    url = "https://lambda.us-east-1.amazonaws.com/p/" + quote(key, safe="/~")
    request = signer(PHANTOM, url=url, service="lambda")
    out = resigned(request, check(request), credentials())
    assert out.path == request.path


@settings(max_examples=150, deadline=None)
@given(
    segments=st.lists(st.text(max_size=8), max_size=5),
    query=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=5),
    s3=st.booleans(),
    crt=st.booleans(),
)
def test_any_path_and_query(segments, query, s3, crt):
    """Whatever the names, the canonical form is that of both independent signers."""
    from urllib.parse import quote

    def encoded(text):
        return quote(text.encode("utf-8", "surrogatepass"), safe="~")

    if s3:  # S3 takes %2F for a slash, the SDKs never send it: see test_spellings_of_other_signers
        segments = [segment.replace("/", "") for segment in segments]
    path = "/" + "/".join(map(encoded, segments))
    pairs = "&".join(f"{encoded(n)}={encoded(v)}" for n, v in query if not n.lower().startswith("x-amz"))
    url = f"https://host.example.com{path}" + (f"?{pairs}" if pairs else "")
    request = (crt_signed if crt else botocore_signed)(PHANTOM, url=url, service="s3" if s3 else "x")
    resigned(request, check(request), credentials())


@settings(max_examples=100)
@given(
    fields=st.lists(
        st.tuples(
            st.sampled_from(["X-Amz-Meta-A", "X-Custom", "x-amz-meta-b"]),
            st.text(alphabet=" abc,;=\"'()ü~", max_size=12),
        ),
        max_size=5,
    ),
    s3=st.booleans(),
)
def test_any_headers(fields, s3):
    """Repeated, spaced, empty and quoted header values."""
    request = botocore_signed(PHANTOM, url="https://h.example.com/", headers=fields, service="s3" if s3 else "x")
    auth = check(request)
    signed = sigv4.sign(request, auth, PHANTOM, now=TIME)
    assert signed.signature == auth.signature
    assert signed.headers == request.headers


def test_headers_beyond_ascii():
    """A value that was signed as UTF-8 and sent as Latin-1 (Node), or sent as it was signed: AWS's text allows both."""
    request = botocore_signed(PHANTOM, headers={"X-Amz-Meta-A": "grüße"})
    assert b"gr\xfc\xdfe" in dict(request.headers).values()
    assert check(request).spelling.text == "utf-8"
    fields = tuple((name, value.decode("latin-1").encode()) for name, value in request.headers)
    assert check(replace(request, headers=fields)).spelling.text == "latin-1"


@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize("name", CASES)
def test_any_change_is_noticed(signer, name):
    """Method, path, query, every signed header, body and key are all bound by the signature."""
    request = signer(PHANTOM, **CASES[name])
    auth = parse(request)
    changed = [
        replace(request, method="DELETE"),
        replace(request, target="/other" + request.target),
        replace(request, target=request.target + ("&" if "?" in request.target else "?") + "more=1"),
    ]
    for signed in auth.signed_headers:
        if signed not in {"x-amz-security-token", "x-amz-date"}:
            fields = tuple((n, v + b"x" if n.lower() == signed.encode() else v) for n, v in request.headers)
            changed.append(replace(request, headers=fields))
    if auth.kind in {Kind.HASHED, Kind.ABSENT_HASH}:
        changed.append(replace(request, body=(request.body or b"") + b"x"))
    for wrong in changed:
        with pytest.raises(Refusal) as refused:
            check(wrong)
        assert refused.value.code in {"SignatureDoesNotMatch", "XAmzContentSHA256Mismatch", "InvalidRequest"}
        assert refused.value.station == "identify"
    with pytest.raises(Refusal, match="does not match"):
        check(request, replace(PHANTOM, secret_access_key=credentials().secret_access_key))


@pytest.mark.parametrize(
    ("service", "seconds", "code"),
    [
        ("sts", 299, None),
        ("sts", 301, "RequestTimeTooSkewed"),
        ("sts", -301, "RequestTimeTooSkewed"),
        ("s3", 899, None),
        ("s3", 901, "RequestTimeTooSkewed"),
        ("s3", -901, "RequestTimeTooSkewed"),
    ],
)
def test_skew(service, seconds, code):
    """A date may differ by five minutes, for S3 by fifteen."""
    request = botocore_signed(PHANTOM, service=service)
    if code is None:
        check(request, now=TIME + seconds)
        return
    with pytest.raises(Refusal) as refused:
        check(request, now=TIME + seconds)
    assert refused.value.code == code


@pytest.mark.parametrize(("service", "code"), [("s3", "AccessDenied"), ("sts", "RequestExpired")])
def test_presigned_expiry(service, code):
    """A presigned URL lives from its date for X-Amz-Expires seconds, and not before its date."""
    request = botocore_signed(PHANTOM, service=service, presigned=3600)
    check(request, now=TIME + 3600)
    with pytest.raises(Refusal, match="expired") as refused:
        check(request, now=TIME + 3601)
    assert refused.value.code == code
    with pytest.raises(Refusal, match="not valid yet"):
        check(request, now=TIME - 1000)


@pytest.mark.parametrize(("service", "code"), [("s3", "InvalidToken"), ("sts", "InvalidClientTokenId")])
@pytest.mark.parametrize("presigned", [0, 60])
def test_the_token_is_the_phantoms(service, code, presigned):
    """A foreign, missing or unexpected session token is refused."""
    for token in ("", PHANTOM.session_token[:-1] + "?", PHANTOM.session_token + "x", "é"):
        phantom = replace(PHANTOM, session_token=token if token != "é" else "")
        request = botocore_signed(phantom, service=service, presigned=presigned)
        auth = parse(request)
        with pytest.raises(Refusal) as refused:
            sigv4.verify(
                request,
                auth,
                PHANTOM.secret_access_key,
                now=TIME,
                body_sha256=sha(b""),
                session_token=PHANTOM.session_token,
            )
        assert refused.value.code == code


def test_unsigned_headers_are_refused():
    """Host and every x-amz-* that came have to be signed; other headers need not be."""
    request = botocore_signed(PHANTOM)
    check(replace(request, headers=(*request.headers, (b"User-Agent", b"x"), (b"X-Amzn-Trace-Id", b"y"))))
    with pytest.raises(Refusal, match="x-amz-acl"):
        check(replace(request, headers=(*request.headers, (b"X-Amz-ACL", b"public-read"))))
    s3 = botocore_signed(PHANTOM, service="s3", presigned=60)
    with pytest.raises(Refusal) as refused:
        check(replace(s3, headers=(*s3.headers, (b"x-amz-acl", b"public-read"))))
    assert refused.value.code == "AccessDenied"
    missing = replace(request, headers=tuple(f for f in request.headers if f[0] != b"X-Amz-Date"))
    auth = parse(request)
    with pytest.raises(Refusal, match="'x-amz-date', which the request does not have"):
        sigv4.verify(
            missing,
            auth,
            PHANTOM.secret_access_key,
            now=TIME,
            body_sha256=sha(b""),
            session_token=PHANTOM.session_token,
        )
    fields = tuple((n, v.replace(b"host;", b"")) for n, v in request.headers)
    with pytest.raises(Refusal, match="Host"):
        check(replace(request, headers=fields))


def test_the_gateways_own_headers_are_signed():
    """Amendments are added or replace, and are signed; dropped ones are neither sent nor signed."""
    request = botocore_signed(
        PHANTOM, url="https://b.s3.amazonaws.com/k", service="s3", headers={"Accept-Encoding": "gzip"}
    )
    auth = check(request)
    assert "accept-encoding" in auth.signed_headers
    out = resigned(
        request,
        auth,
        credentials(),
        set_headers={"x-amz-expected-bucket-owner": "123456789012", "Accept-Encoding": "identity"},
    )
    assert out.fields["x-amz-expected-bucket-owner"] == ["123456789012"]
    assert out.fields["accept-encoding"] == ["identity"]
    out = resigned(request, auth, credentials(), drop_headers=frozenset({"accept-encoding"}))
    assert "accept-encoding" not in out.fields
    assert "accept-encoding" not in shown_signature(out)[0]
    url = botocore_signed(PHANTOM, url="https://b.s3.amazonaws.com/k", service="s3", presigned=60)
    out = resigned(url, check(url), credentials(), set_headers={"x-amz-expected-bucket-owner": "123456789012"})
    assert shown_signature(out)[0] == ["host", "x-amz-expected-bucket-owner"]


def test_order_and_spelling_of_headers_stay():
    """The wire's order and spelling are the client's, repeated headers included."""
    request = botocore_signed(PHANTOM, headers={"X-CuStOm": "1", "accept": "*/*"})
    request = replace(request, headers=(*request.headers, (b"Set-Thing", b"a"), (b"set-thing", b"b")))
    out = resigned(request, check(request), credentials())
    assert [name for name, _ in out.headers] == [name for name, _ in request.headers]


@pytest.mark.parametrize("signer", SIGNERS)
def test_tabs(signer):
    """AWS's text speaks of spaces; both signers take a tab for one."""
    check(signer(PHANTOM, headers={"X-Amz-Meta-A": "a\tb \t c"}))


def test_hop_by_hop_headers_are_never_signed():
    """A client that signs `connection` or `te` is served; the gateway does not sign what proxies change."""
    hop = {"x-custom": "1"}
    request = crt_signed(PHANTOM, headers=hop)
    auth = parse(request)
    auth.signed_headers = tuple(sorted({*auth.signed_headers, "te"}))
    request = replace(request, headers=(*request.headers, (b"TE", b"trailers"), (b"Connection", b"keep-alive")))
    out = resigned(request, auth, credentials())
    assert {"te", "connection"}.isdisjoint(shown_signature(out)[0])
    assert out.fields["te"] == ["trailers"]


def test_date_is_kept_while_it_is_fresh_and_renewed_after():
    """A held call's date is renewed when it is signed; a fresh one and a presigned one stay."""
    request = botocore_signed(PHANTOM)
    auth = check(request)
    assert resigned(request, auth, credentials(), now=TIME + 60).fields["x-amz-date"] == ["20261120T120000Z"]
    late = resigned(request, auth, credentials(), now=TIME + 3600 * 14)
    assert late.fields["x-amz-date"] == ["20261121T020000Z"]
    assert shown_credential(late)[1] == "20261121"
    url = botocore_signed(PHANTOM, presigned=3600)
    assert "X-Amz-Date=20261120T120000Z" in resigned(url, check(url), credentials(), now=TIME + 3000).target


def test_date_header_instead_of_x_amz_date():
    """AWS takes Date where X-Amz-Date is missing; botocore signs that way if the caller set Date."""
    request = botocore_signed(PHANTOM, headers={"Date": "x"})
    assert "x-amz-date" not in request.fields
    auth = check(request)
    assert auth.date == "20261120T120000Z"
    signed = sigv4.sign(request, auth, credentials(), now=TIME + 600)
    assert (b"Date", b"Fri, 20 Nov 2026 12:10:00 GMT") in signed.headers
    assert signed.date == "20261120T121000Z"


def test_streaming_bodies_are_checked_when_they_are_known():
    """A body that is not read yet passes on its signed hash, and `check_payload` still decides at its end."""
    request = replace(botocore_signed(PHANTOM, method="PUT", service="s3", body=b"hello"), body=None)
    auth = check(request)
    assert auth.kind is Kind.HASHED
    sigv4.check_payload(auth, sha(b"hello"))
    with pytest.raises(Refusal) as refused:
        sigv4.check_payload(auth, sha(b"other"))
    assert refused.value.code == "XAmzContentSHA256Mismatch"
    other = parse(botocore_signed(PHANTOM, body=b"hello", headers={"X-Amz-Content-SHA256": sha(b"hello")}))
    with pytest.raises(Refusal) as refused:
        sigv4.check_payload(other, sha(b"other"))
    assert refused.value.code == "SignatureDoesNotMatch"
    absent = botocore_signed(PHANTOM, method="POST", body=b"Action=x")
    auth = parse(absent)
    assert sigv4.needs_body(auth)
    with pytest.raises(Refusal, match="whole body"):
        sigv4.verify(absent, auth, "x", now=TIME, body_sha256=None, session_token=PHANTOM.session_token)
    with pytest.raises(Refusal, match="whole body"):
        sigv4.sign(replace(absent, body=None), auth, credentials())


def test_http2_has_no_host_header():
    """Over HTTP/2 the host comes as :authority: the canonical host is that of the request."""
    for url in ("https://sts.us-east-1.amazonaws.com/", "https://sts.us-east-1.amazonaws.com:8443/"):
        request = botocore_signed(PHANTOM, url=url)
        request = replace(request, headers=tuple(f for f in request.headers if f[0] != b"Host"))
        out = sigv4.sign(request, check(request), credentials(), now=TIME)
        assert b"host" not in {name.lower() for name, _ in out.headers}


@pytest.mark.parametrize(
    ("sent", "signed", "service"),
    [
        ("/?a=1+2", "/?a=1%202", "x"),
        ("/?a=1+2", "/?a=1%2B2", "x"),
        ("/?b=x/y&a", "/?b=x%2Fy&a=", "x"),
        ("/?b=x/y&&a=1&", "/?b=x%2Fy&a=1", "x"),
        ("/k(1)!", "/k%281%29%21", "s3"),
        ("/k%2Fx", "/k/x", "s3"),
    ],
)
def test_spellings_of_other_signers(sent, signed, service):
    """What one signer encodes and another does not verifies, and is signed as its client spelled it."""
    request = replace(botocore_signed(PHANTOM, url="https://h.example.com" + signed, service=service), target=sent)
    auth = check(request)
    real = credentials()
    out = sigv4.sign(request, auth, real, now=TIME)
    assert out.target == sent
    again = replace(request, target=signed, headers=out.headers)
    assert out.signature == botocore_signature(again, real.secret_access_key)


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("https://b.s3.amazonaws.com/k(1)!?prefix=a+b&delimiter=/&x", "s3"),
        ("https://lambda.us-east-1.amazonaws.com/f/a:b?Marker=a+b&c", "lambda"),
    ],
)
def test_a_signature_that_was_not_checked(url, service):
    """With a key whose secret nobody knows the client's spelling is not known: AWS's own is used, as its text has it."""
    request = botocore_signed(PHANTOM, url=url, service=service)
    real = credentials()
    signed = sigv4.sign(request, parse(request), real, now=TIME)
    assert signed.target == request.target
    secret = sigv4_judge.Secret(real.access_key_id, real.secret_access_key, real.session_token)
    sigv4_judge.check_head(
        "GET",
        signed.target,
        [(name.decode(), value.decode()) for name, value in signed.headers],
        lookup={real.access_key_id: secret}.get,
        now=TIME,
        body_hash=lambda: sha(b""),
    )


def test_host_is_always_signed():
    """Even if a client whose signature cannot be checked did not; and no repr shows a real credential."""
    auth = parse(botocore_signed(PHANTOM))
    auth.signed_headers = ("x-amz-date", "x-amz-security-token")
    real = credentials()
    signed = sigv4.sign(botocore_signed(PHANTOM), auth, real, now=TIME)
    assert b"SignedHeaders=host;x-amz-date;x-amz-security-token" in dict(signed.headers)[b"Authorization"]
    for text in (real.access_key_id, real.secret_access_key, real.session_token, signed.signature):
        assert text not in repr(signed) + repr(real) + repr(auth)


def test_scope_of_the_endpoint():
    """The scope has to be the endpoint's own."""
    auth = parse(botocore_signed(PHANTOM))
    sigv4.check_scope(auth, "sts", "us-east-1")
    sigv4.check_scope(auth, "", "")
    for wrong in (("iam", "us-east-1"), ("sts", "eu-west-1")):
        with pytest.raises(Refusal) as refused:
            sigv4.check_scope(auth, *wrong)
        assert refused.value.code == "SignatureDoesNotMatch"
    with pytest.raises(Refusal) as refused:
        sigv4.check_scope(parse(botocore_signed(PHANTOM, service="s3")), "s3", "eu-west-1")
    assert refused.value.code == "AuthorizationHeaderMalformed"


def test_unknown_keys():
    """S3 has a code of its own for a key id that is not known."""
    assert sigv4.unknown_key(parse(botocore_signed(PHANTOM))).code == "InvalidClientTokenId"
    assert sigv4.unknown_key(parse(botocore_signed(PHANTOM, service="s3"))).code == "InvalidAccessKeyId"


def test_signing_keys_are_cached_and_forgotten():
    """Derived keys are bounded, and go when their secret's lease does."""
    secret = credentials().secret_access_key
    first = keys.signing_key(secret, "20261120", "us-east-1", "s3")
    assert keys.signing_key(secret, "20261120", "us-east-1", "s3") is first
    for i in range(200):
        keys.signing_key(secret, "20261120", f"r{i}", "s3")
    assert len(keys._keys[secret]) <= 64
    keys.forget(secret)
    assert secret not in keys._keys
    for i in range(5000):
        keys.signing_key(f"s{i}", "20261120", "r", "s3")
    assert len(keys._keys) <= 4096
    for i in range(5000):
        keys.forget(f"s{i}")
