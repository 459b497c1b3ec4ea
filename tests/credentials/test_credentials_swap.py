"""Credentials in answers become phantoms; everything else stays byte for byte; botocore's parsers are the judges."""

from __future__ import annotations

import json
import os
import secrets
from datetime import UTC, datetime

import botocore.session
import cbor2
import pytest
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from flowwarden.credentials import phantoms, swap
from flowwarden.errors import Refusal
from flowwarden.types import Credentials, Operation, Phantom

KEY, SECRET, TOKEN = (
    "ASIA" + "QNZGKIQY56JQ7WML",
    secrets.token_urlsafe(30),
    "IQoJ+/" + secrets.token_urlsafe(300) + "==",
)
INNER = (
    f"<Credentials>\n  <AccessKeyId>{KEY}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>\n"
    f"<SessionToken>{TOKEN}</SessionToken><Expiration>2026-11-20T12:00:00Z</Expiration></Credentials>"
)
MODELS = botocore.session.get_session()
ASSUME = Operation("sts", "AssumeRole")
WHEN = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Mint:
    """Keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Credentials] = []
        self.given = []

    def __call__(self, credentials):
        self.asked.append(credentials)
        self.given.append(
            phantoms.mint(token_length=len(credentials.session_token), secret_length=len(credentials.secret_access_key))
        )
        return self.given[-1]


def parsed(service, operation, body):
    """The answer as botocore reads it."""
    model = MODELS.get_service_model(service)
    shape = model.operation_model(operation).output_shape
    return create_parser(model.metadata["protocol"]).parse({"headers": {}, "body": body, "status_code": 200}, shape)


def xml(operation: str) -> bytes:
    return (
        f'<{operation}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">\n<{operation}Result><AssumedRoleUser>'
        f"<AssumedRoleId>AROA3XFRBF535PLBIFPI4:s</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/demo/s</Arn>"
        f"</AssumedRoleUser>{INNER}</{operation}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>"
        f"</{operation}Response>\n"
    ).encode()


@pytest.mark.parametrize(
    "operation",
    [
        "AssumeRole",
        "AssumeRoleWithSAML",
        "AssumeRoleWithWebIdentity",
        "AssumeRoot",
        "GetSessionToken",
        "GetFederationToken",
    ],
)
def test_sts(operation):
    """The phantom stands where the real ones stood; every other byte is the same."""
    mint, body = Mint(), xml(operation)
    out, count = swap.swap(Operation("sts", operation), "text/xml", body, mint)
    real, phantom = mint.asked[0], mint.given[0]
    assert count == 1
    assert real == Credentials(KEY, SECRET, TOKEN, WHEN.timestamp())
    shown = parsed("sts", operation, out)["Credentials"]
    assert (shown["AccessKeyId"], shown["SecretAccessKey"]) == (phantom.access_key_id, phantom.secret_access_key)
    assert shown["SessionToken"] == phantom.session_token
    back = out
    for new, old in ((phantom.access_key_id, KEY), (phantom.secret_access_key, SECRET), (phantom.session_token, TOKEN)):
        back = back.replace(new.encode(), old.encode())
    assert back == body and len(out) == len(body)


def sso(**changes):
    return {
        "roleCredentials": {
            "accessKeyId": KEY,
            "secretAccessKey": SECRET,
            "sessionToken": TOKEN,
            "expiration": 1795262400000,
            **changes,
        }
    }


COGNITO = {
    "Credentials": {"AccessKeyId": KEY, "Expiration": 1795262400.0, "SecretKey": SECRET, "SessionToken": TOKEN},
    "IdentityId": "eu-west-1:x",
}


@pytest.mark.parametrize(
    ("service", "operation", "document", "member"),
    [
        ("sso", "GetRoleCredentials", sso(), "roleCredentials"),
        ("cognito-identity", "GetCredentialsForIdentity", COGNITO, "Credentials"),
    ],
)
def test_json(service, operation, document, member):
    """SSO and Cognito in JSON, escaped slashes included."""
    for body in (
        json.dumps(document).encode(),
        json.dumps(document, indent=2).encode(),
        json.dumps(document).replace("/", "\\/").encode(),
        json.dumps(document).replace("+", "\\u002b").replace("=", "\\u003d").encode(),
    ):
        mint = Mint()
        out, count = swap.swap(Operation(service, operation), "application/x-amz-json-1.1", body, mint)
        assert count == 1 and mint.asked == [Credentials(KEY, SECRET, TOKEN, 1795262400.0)]
        shown = parsed(service, operation, out)[member]
        phantom = mint.given[0]
        values = {str(value) for value in shown.values()}
        assert {phantom.access_key_id, phantom.secret_access_key, phantom.session_token} <= values
        for text in (KEY, SECRET, TOKEN):
            assert text.encode() not in out and text not in str(json.loads(out))


def test_cbor():
    """The same document in CBOR."""
    mint, body = Mint(), cbor2.dumps(COGNITO)
    out, count = swap.swap(Operation("cognito-identity", "GetCredentialsForIdentity"), "application/cbor", body, mint)
    shown = cbor2.loads(out)
    assert count == 1 and shown["Credentials"]["SecretKey"] == mint.given[0].secret_access_key
    assert len(out) == len(body) and shown["IdentityId"] == COGNITO["IdentityId"]


LONG_LIVED = {"iam:CreateAccessKey", "lightsail:CreateBucketAccessKey", "lightsail:GetBucketAccessKeys"}


def members(shape, seen=frozenset()):
    """The names of the members of every structure in a shape."""
    if shape is None or shape.name in seen:
        return
    seen |= {shape.name}
    if shape.type_name == "structure":
        yield {name.lower() for name in shape.members}
        inner = list(shape.members.values())
    else:
        inner = [getattr(shape, name) for name in ("member", "value") if hasattr(shape, name)]
    for one in inner:
        yield from members(one, seen)


def vending_operations(services):
    for service in services:
        model = MODELS.get_service_model(service)
        for name in model.operation_names:
            for found in members(model.operation_model(name).output_shape):
                if found & {"secretaccesskey", "secretkey"} and "accesskeyid" in found:
                    yield f"{service}:{name}"


@pytest.mark.parametrize("service", sorted(swap._VENDING))
def test_every_operation_of_these_services(service):
    """What botocore's models say of credentials in answers, and what is swapped, is the same."""
    assert set(vending_operations([service])) == {f"{service}:{name}" for name in swap._VENDING[service]}


@pytest.mark.skipif(not os.environ.get("FLOWWARDEN_SOAK"), reason="reads all 439 models, 10 s: FLOWWARDEN_SOAK=1")
def test_every_operation_of_aws():
    """No other service of botocore's has short-lived credentials in an answer."""
    known = {f"{service}:{name}" for service, names in swap._VENDING.items() for name in names}
    assert set(vending_operations(MODELS.get_available_services())) == known | LONG_LIVED


def test_top_level_and_nested_credentials():
    """Lake Formation's stand at the top, CodePipeline's in a list; several at once are each replaced."""
    glue = {"AccessKeyId": KEY, "SecretAccessKey": SECRET, "SessionToken": TOKEN, "Expiration": 1795262400.0}
    table = Operation("lakeformation", "GetTemporaryGlueTableCredentials")
    assert swap.swap(table, "application/json", json.dumps(glue).encode(), Mint())[1] == 1
    others = [{k: v[:-6] + f"{i:06d}" if isinstance(v, str) else v for k, v in glue.items()} for i in range(3)]
    jobs = {
        "jobs": [{"data": {"artifactCredentials": {k[0].lower() + k[1:]: v for k, v in one.items()}}} for one in others]
    }
    for kind, body in (("application/json", json.dumps(jobs).encode()), ("application/cbor", cbor2.dumps(jobs))):
        mint = Mint()
        out, count = swap.swap(Operation("codepipeline", "PollForJobs"), kind, body, mint)
        shown = (json.loads if "json" in kind else cbor2.loads)(out)
        keys = {job["data"]["artifactCredentials"]["accessKeyId"] for job in shown["jobs"]}
        assert count == 3 and keys == {one.access_key_id for one in mint.given}


def test_other_operations_are_not_touched():
    """Only the answers of operations that vend short-lived credentials are looked at."""
    body = xml("AssumeRole")
    assert swap.swap(Operation("iam", "CreateAccessKey"), "text/xml", body, Mint()) == (body, 0)
    assert swap.swap(ASSUME, "text/xml", b"", Mint()) == (b"", 0)
    assert swap.vends(ASSUME) and not swap.vends(Operation("s3", "GetObject"))


def test_errors_pass():
    """An error has no credentials; phantoms in it may stay."""
    error = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    assert swap.swap(ASSUME, "text/xml", error, Mint()) == (error, 0)
    named = error.replace(b"no", phantoms.mint().access_key_id.encode())
    assert swap.swap(ASSUME, "text/xml", named, Mint()) == (named, 0)
    assert swap.swap(Operation("sso", "GetRoleCredentials"), "application/json", b'{"message":"no"}', Mint())[1] == 0
    assert swap.swap(Operation("sso", "GetRoleCredentials"), "", b'{"roleCredentials":null}', Mint())[1] == 0


@pytest.mark.parametrize(
    "body",
    [
        xml("AssumeRole")[:-5],
        xml("AssumeRole") + b"<x/>",
        b"\x00\x01" + SECRET.encode(),
        xml("AssumeRole").replace(b"SessionToken>", b"Other>").replace(b"SecretAccessKey>", b"Another>"),
        xml("AssumeRole")
        .replace(b"AccessKeyId>", b"KeyId>")
        .replace(b"SecretAccessKey>", b"X>")
        .replace(b"SessionToken>", b"Y>"),
        b'<!DOCTYPE x [<!ENTITY k "v">]>' + xml("AssumeRole"),
        xml("AssumeRole").replace(SECRET[:4].encode(), "".join(f"&#{ord(c)};" for c in SECRET[:4]).encode()),
        xml("AssumeRole").replace(SECRET.encode(), b"<![CDATA[" + SECRET[:5].encode() + b"]]>" + SECRET[5:].encode()),
        xml("AssumeRole").replace(b"<Expiration>", f"<AccessKeyId>{KEY}</AccessKeyId><Expiration>".encode()),
        xml("AssumeRole").decode().encode("utf-16"),
        b"<a>" * 100 + b"</a>" * 100,
        json.dumps(sso()).encode()[:-1],
        json.dumps(sso()).replace("{", '{"accessKeyId": "x", "accessKeyId": "y", ', 1).encode(),
        json.dumps(sso()).replace("{", '{"roleCredentials": {}, ', 1).encode(),
        json.dumps(sso(sessionToken=5)).encode(),
        json.dumps(sso(secretAccessKey="")).encode(),
        json.dumps(sso(secretKey=SECRET)).encode(),
        json.dumps({"Key": KEY}).encode(),
        json.dumps(sso()).replace(SECRET[:2], "".join(f"\\u{ord(c):04x}" for c in SECRET[:2])).encode(),
        b"[" * 100_000,
    ],
    ids=lambda _body: "body",  # the bodies hold what is generated anew at each run
)
def test_what_cannot_be_read_is_refused(body):
    """Anything unreadable, incomplete, ambiguous or spelled so that it cannot be replaced: 502, and no credentials."""
    with pytest.raises(Refusal) as refused:
        swap.swap(ASSUME, "text/xml", body, Mint())
    assert (refused.value.status, refused.value.station) == (502, "swap")
    for text in (KEY, SECRET, TOKEN):
        assert text not in str(refused.value)


def test_the_result_is_checked():
    """A second spelling of a secret elsewhere, or a replacement that does not read back, is refused."""
    twice = json.dumps(sso()).replace("{", '{"note": "' + TOKEN.replace("/", "\\/") + '", ', 1).encode()
    with pytest.raises(Refusal, match="still shows"):
        swap.swap(Operation("sso", "GetRoleCredentials"), "", twice, Mint())
    for spoilt in ("<" * 40, " " + "x" * 39):
        phantom = phantoms.mint(token_length=len(TOKEN))
        wrong = Phantom(phantom.access_key_id, spoilt, phantom.session_token)
        with pytest.raises(Refusal, match="cannot be rewritten"):
            swap.swap(ASSUME, "text/xml", xml("AssumeRole"), lambda _real, wrong=wrong: wrong)
    deep = {"roleCredentials": {}}
    for _ in range(100):
        deep = {"a": deep}
    with pytest.raises(Refusal, match="cannot be read"):
        swap.swap(Operation("sso", "GetRoleCredentials"), "", json.dumps(deep).encode(), Mint())


@pytest.mark.parametrize(
    "expiration", [WHEN, WHEN.timestamp(), WHEN.timestamp() * 1000, "2026-11-20T12:00:00Z", "2026-11-20T13:00:00+01:00"]
)
def test_expiration(expiration):
    """Every form that AWS gives an end in; an unknown one is no end that the gateway knows."""
    mint, answer = Mint(), {"Credentials": {**COGNITO["Credentials"], "Expiration": expiration}}
    get = Operation("cognito-identity", "GetCredentialsForIdentity")
    swap.swap(get, "application/cbor", cbor2.dumps(answer), mint)
    assert mint.asked[0].expires == WHEN.timestamp()
    swap.swap(get, "application/cbor", cbor2.dumps({"Credentials": {**answer["Credentials"], "Expiration": "?"}}), mint)
    assert mint.asked[1].expires == 0.0


def test_a_bad_cbor_is_refused():
    """CBOR that does not decode, or whose text is in pieces."""
    body = cbor2.dumps(COGNITO)
    for broken in (body[:-3], b"\xff", b"\x1c"):
        with pytest.raises(Refusal):
            swap.swap(ASSUME, "application/cbor", broken, Mint())


@given(st.binary(max_size=300))
def test_no_bytes_give_a_traceback(body):
    """Whatever comes, the worst is a Refusal."""
    for kind in ("text/xml", "application/json", "application/cbor"):
        try:
            out, _ = swap.swap(ASSUME, kind, body, Mint())
        except Refusal:
            continue
        assert out == body


def test_the_role_of_an_answer():
    """Who the credentials are, for the record."""
    assert swap.role_of(xml("AssumeRole")) == "arn:aws:iam::123456789012:role/demo"
    assert swap.role_of(json.dumps(sso()).encode()) == ""
