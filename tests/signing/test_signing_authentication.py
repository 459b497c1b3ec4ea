"""What is an AWS authentication, what is none, and what is refused with AWS's own code or a clear reason."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import awscrt.auth
import awscrt.http
import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st
from signing_helpers import NOW, botocore_signed, credentials, crt_signed, to_request

from flowwarden.errors import Refusal
from flowwarden.signing import shapes
from flowwarden.signing.authentication import Kind, Scope, amz_time, parse
from flowwarden.types import Call, Request

PHANTOM = credentials()
S3 = "https://b.s3.us-east-1.amazonaws.com/k"


def refusal(request: Request) -> Refusal:
    with pytest.raises(Refusal) as refused:
        parse(request)
    assert refused.value.station == "identify"
    return refused.value


def with_header(request: Request, name: str, value: str | None) -> Request:
    fields = [field for field in request.headers if field[0].lower() != name.lower().encode()]
    if value is not None:
        fields.append((name.encode(), value.encode()))
    return replace(request, headers=tuple(fields))


def with_authorization(change) -> Request:
    request = botocore_signed(PHANTOM)
    return with_header(request, "Authorization", change(request.header("authorization")))


def test_header():
    """Every part of header authentication."""
    request = botocore_signed(PHANTOM, "POST", body=b"x", service="iam", region="us-gov-west-1")
    auth = parse(request)
    assert (auth.access_key_id, auth.date) == (PHANTOM.access_key_id, "20261120T120000Z")
    assert auth.scope == Scope("20261120", "us-gov-west-1", "iam")
    assert (auth.region, auth.service, auth.s3) == ("us-gov-west-1", "iam", False)
    assert auth.signed_headers == ("host", "x-amz-date", "x-amz-security-token")
    assert len(auth.signature) == 64 and auth.session_token == PHANTOM.session_token
    assert (auth.content_sha256, auth.kind, auth.presigned, auth.expires) == (None, Kind.ABSENT_HASH, False, 0)
    assert PHANTOM.session_token not in repr(auth)


def test_query():
    """Every part of query authentication."""
    auth = parse(botocore_signed(PHANTOM, url=S3, service="s3", presigned=77))
    assert (auth.presigned, auth.expires, auth.kind, auth.s3) == (True, 77, Kind.UNSIGNED, True)
    assert auth.session_token == PHANTOM.session_token and auth.signed_headers == ("host",)
    request = botocore_signed(PHANTOM, presigned=77)
    assert parse(request).kind is Kind.ABSENT_HASH
    assert parse(replace(request, target=request.target.replace("&X-Amz-Expires=77", ""))).expires == 300
    request = botocore_signed(PHANTOM, url=S3, service="s3", presigned=5)
    hoisted = replace(request, target=request.target + "&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD")
    assert parse(hoisted).content_sha256 == "UNSIGNED-PAYLOAD"


@pytest.mark.parametrize("spacing", [", ", ",", ",  "])
def test_spellings_of_the_header(spacing):
    """Clients differ in spaces and order; the parts are the same."""
    expected = parse(botocore_signed(PHANTOM))

    def respaced(text):
        return text.replace(", ", spacing)

    def reordered(text):
        algorithm, rest = text.split(" ", 1)
        return f"{algorithm} {spacing.join(reversed(rest.split(', ')))}"

    for change in (respaced, reordered):
        auth = parse(with_authorization(change))
        assert (auth.signature, auth.signed_headers, auth.scope) == (
            expected.signature,
            expected.signed_headers,
            expected.scope,
        )


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "https", "example.com", 443, "/"),
        Request("GET", "https", "example.com", 443, "/?a=1&signature=x&X-Amz-Date=1"),
        Request("GET", "https", "api.anthropic.com", 443, "/", ((b"Authorization", b"Bearer abc"),)),
        Request("GET", "https", "index.example.com", 443, "/", ((b"authorization", b"Basic abc"),)),
        Request("POST", "https", "up.example.com", 443, "/", ((b"Content-Type", b"multipart/form-data; boundary=x"),)),
    ],
)
def test_no_aws_authentication(request_):
    """What has nothing of AWS is None."""
    assert parse(request_) is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text.replace("Credential=", "Credentials="), "IncompleteSignature"),
        (lambda text: text.replace("SignedHeaders=", "x="), "IncompleteSignature"),
        (lambda text: text.rsplit(",", 1)[0], "IncompleteSignature"),
        (lambda text: text[:-1], "IncompleteSignature"),
        (lambda text: text[:-1] + "G", "IncompleteSignature"),
        (lambda text: text + ", Signature=" + "0" * 64, "IncompleteSignature"),
        (lambda text: text + ", Region=x", "IncompleteSignature"),
        (lambda text: text.replace("aws4_request", "aws4"), "IncompleteSignature"),
        (lambda text: text.replace("/sts/", "/"), "IncompleteSignature"),
        (lambda text: text.replace("/us-east-1/", "/us east/"), "IncompleteSignature"),
        (lambda text: text.replace("/20261120/", "/20261121/"), "IncompleteSignature"),
        (lambda text: text.replace("host;x-amz-date", "x-amz-date;host"), "IncompleteSignature"),
        (lambda text: text.replace("host;", "host;host;"), "IncompleteSignature"),
        (lambda text: text.replace("host;", "Host;"), "IncompleteSignature"),
        (lambda text: text.replace("host;", ";"), "IncompleteSignature"),
        (lambda text: text.replace("host;", f"{'a' * 5000};host;"), "IncompleteSignature"),
        (lambda text: text.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), "IncompleteSignature"),
        (lambda text: "AWS4-HMAC-SHA256", "IncompleteSignature"),
        (lambda text: "AWS4-HMAC-SHA256 ", "IncompleteSignature"),
        (lambda text: "AWS AKIAEXAMPLE:c2ln", "InvalidRequest"),
        (lambda text: "AWS3-HTTPS AWSAccessKeyId=x", "InvalidRequest"),
    ],
)
def test_malformed_header(change, code):
    """AWS's own code for a header that is broken, double, unsorted, of another date or version."""
    found = refusal(with_authorization(change))
    assert (found.code, found.status) == (code, 400)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("X-Amz-Date", None, "IncompleteSignature"),
        ("X-Amz-Date", "20261120T12000Z", "IncompleteSignature"),
        ("X-Amz-Date", "20261320T120000Z", "IncompleteSignature"),
        ("X-Amz-Date", "Fri, 20 Nov 2026 12:00:00 GMT", "IncompleteSignature"),
        ("X-Amz-Content-Sha256", "abc", "InvalidRequest"),
        ("X-Amz-Content-Sha256", "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", "InvalidRequest"),
        ("X-Amz-Content-Sha256", "STREAMING-SOMETHING", "InvalidRequest"),
    ],
)
def test_malformed_fields(name, value, code):
    """A missing or wrong date, an unknown payload word."""
    assert refusal(with_header(botocore_signed(PHANTOM), name, value)).code == code


def test_the_date_header():
    """Date counts only where X-Amz-Date is missing, in either form, and has to be one."""
    request = with_header(botocore_signed(PHANTOM), "X-Amz-Date", None)
    for text in ("Fri, 20 Nov 2026 12:00:00 GMT", "Fri, 20 Nov 2026 13:00:00 +0100", "20261120T120000Z"):
        auth = parse(with_header(request, "Date", text))
        assert (auth.date, auth.date_header) == ("20261120T120000Z", True)
    for text in ("yesterday", "", "20269920T120000Z"):
        assert refusal(with_header(request, "Date", text)).code == "IncompleteSignature"
    assert amz_time("20261120T120000Z") == NOW.timestamp()


@pytest.mark.parametrize("name", [b"X-Amz-Date", b"x-amz-security-token", b"X-Amz-Content-SHA256", b"authorization"])
def test_double_headers(name):
    """What decides about a signature comes once."""
    request = botocore_signed(PHANTOM, url=S3, service="s3")
    value = next(value for field, value in request.headers if field.lower() == name.lower())
    found = refusal(replace(request, headers=(*request.headers, (name, value))))
    assert found.code in {"AuthorizationHeaderMalformed", "InvalidArgument"}


def test_s3_needs_its_hash_header():
    """S3 answers InvalidRequest where x-amz-content-sha256 is missing."""
    assert refusal(with_header(botocore_signed(PHANTOM, url=S3, service="s3"), "x-amz-content-sha256", None)).code == (
        "InvalidRequest"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Algorithm=AWS4-HMAC-SHA1"),
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256&", ""),
        ("X-Amz-Expires=60", "X-Amz-Expires=0"),
        ("X-Amz-Expires=60", "X-Amz-Expires=604801"),
        ("X-Amz-Expires=60", "X-Amz-Expires=-5"),
        ("X-Amz-Expires=60", "X-Amz-Expires=1e3"),
        ("X-Amz-Expires=60", "X-Amz-Expires=%D9%A1"),
        ("&X-Amz-Expires=60", ""),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=Host"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders="),
        ("X-Amz-Date=20261120T120000Z", "X-Amz-Date=20261121T120000Z"),
        ("X-Amz-Date=20261120T120000Z", "X-Amz-Date=now"),
        ("X-Amz-Date=20261120T120000Z&", ""),
        ("&X-Amz-Signature=", "&X-Amz-Signature=Z"),
        ("aws4_request", "aws5_request"),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&x-amz-expires=61"),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&X%2DAmz-Expires=61"),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Content-Sha256=STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
    ],
)
def test_malformed_query(old, new):
    """Query authentication that lacks something, has it twice, or out of bounds."""
    request = botocore_signed(PHANTOM, url=S3, service="s3", presigned=60)
    assert old in request.target
    found = refusal(replace(request, target=request.target.replace(old, new, 1)))
    assert found.status == 400
    assert found.code in {"AuthorizationQueryParametersError", "AuthorizationHeaderMalformed", "IncompleteSignature"}


@pytest.mark.parametrize("old", ["X-Amz-Credential", "X-Amz-Signature", "X-Amz-Security-Token"])
@pytest.mark.parametrize("spell", ["{}+", "+{}", "{}%20", "%58{}"])
def test_a_parameter_that_is_spelt_oddly(old, spell):
    """One reader would take it for the parameter, another not: a phantom could leave beside the real one."""
    request = botocore_signed(PHANTOM, url=S3, service="s3", presigned=60)
    new = spell.format(old[1:] if spell.startswith("%58") else old)
    changed = replace(request, target=request.target.replace(old, new, 1))
    assert refusal(changed).code == "AuthorizationQueryParametersError"


@pytest.mark.parametrize(
    "parameter", ["X-Amz-Signature=" + "0" * 64, "x-amz-algorithm=x", "X-%41mz-Credential=x", "X-Amz-Security-Token=x"]
)
def test_header_and_query_at_once(parameter):
    """AWS allows one mechanism."""
    request = botocore_signed(PHANTOM)
    assert refusal(replace(request, target=f"/?{parameter}")).code == "InvalidArgument"
    presigned = botocore_signed(PHANTOM, presigned=60)
    for value in ("Basic eA==", "Bearer x"):
        assert refusal(with_header(presigned, "Authorization", value)).code == "InvalidArgument"
    assert refusal(with_header(presigned, "X-Amz-Security-Token", "x")).code == "InvalidArgument"


def test_sigv4a():
    """Signed by awscrt with ECDSA, in header and query."""
    kind = awscrt.auth.AwsSignatureType
    for signature_type in (kind.HTTP_REQUEST_HEADERS, kind.HTTP_REQUEST_QUERY_PARAMS):
        request = awscrt.http.HttpRequest("GET", "/k")
        request.headers.add("Host", "b.accesspoint.s3-global.amazonaws.com")
        config = awscrt.auth.AwsSigningConfig(
            algorithm=awscrt.auth.AwsSigningAlgorithm.V4_ASYMMETRIC,
            signature_type=signature_type,
            credentials_provider=awscrt.auth.AwsCredentialsProvider.new_static(
                PHANTOM.access_key_id, PHANTOM.secret_access_key, PHANTOM.session_token
            ),
            region="*",
            service="s3",
            date=NOW,
            expiration_in_seconds=60 if signature_type is kind.HTTP_REQUEST_QUERY_PARAMS else None,
        )
        signed = awscrt.auth.aws_sign_request(request, config).result(10)
        url = "https://b.accesspoint.s3-global.amazonaws.com" + signed.path
        found = refusal(to_request("GET", url, list(signed.headers), b""))
        assert "SigV4A" in found.message and found.status == 403
    regions = with_header(botocore_signed(PHANTOM, url=S3, service="s3"), "X-Amz-Region-Set", "*")
    assert "SigV4A" in refusal(regions).message
    chunks = botocore_signed(PHANTOM, url=S3, service="s3", payload="STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER")
    assert "SigV4A" in refusal(chunks).message


def test_event_streams():
    """HTTP/2 event streams sign every event."""
    request = botocore_signed(
        PHANTOM,
        "POST",
        "https://transcribestreaming.us-east-1.amazonaws.com/stream-transcription",
        service="transcribe",
        headers={"X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-EVENTS"},
    )
    assert "event stream" in refusal(request).message


def test_s3_express():
    """By its session token, its host, or its scope."""
    request = botocore_signed(PHANTOM, url=S3, service="s3")
    bucket = "https://b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/k"
    for wrong in (
        with_header(request, "x-amz-s3session-token", "x"),
        botocore_signed(PHANTOM, url=bucket, service="s3express"),
        Request("GET", "https", "b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", 443, "/k"),
        crt_signed(PHANTOM, service="s3express"),
        botocore_signed(PHANTOM, service="s3express", presigned=60),
        replace(request, headers=(), target="/?X-Amz-S3session-Token=x"),
    ):
        assert "S3 Express" in refusal(wrong).message


def test_post_policy():
    """A browser form, as botocore's presign makes it."""
    request = AWSRequest("POST", S3)
    request.context.update({"s3-presign-post-fields": {}, "s3-presign-post-policy": {}})
    signer = botocore.auth.S3SigV4PostAuth(BotoCredentials("x", "y"), "s3", "us-east-1")
    signer.add_auth(request)
    assert "policy" in request.context["s3-presign-post-fields"]
    kind = (b"Content-Type", b"multipart/form-data; boundary=b")
    for host in ("b.s3.us-east-1.amazonaws.com", "s3.amazonaws.com", "b.s3-accelerate.amazonaws.com"):
        form = Request("POST", "https", host, 443, "/", (kind,), b"--b")
        assert "POST policy" in refusal(form).message


def test_sigv2_query():
    """S3's old presigned form."""
    request = Request("GET", "https", "b.s3.amazonaws.com", 443, "/k?AWSAccessKeyId=AK&Expires=1&Signature=x%3D")
    assert refusal(request).code == "InvalidRequest"


@pytest.mark.parametrize(
    ("service", "action", "kind"),
    [
        ("rds-db", "connect", "RDS"),
        ("elasticache", "connect", "ElastiCache"),
        ("dsql", "DbConnectAdmin", "DSQL"),
        ("dsql", "DbConnect", "DSQL"),
        ("kafka-cluster", "kafka-cluster:Connect", "MSK"),
    ],
)
def test_local_tokens_in_the_form_of_urls(service, action, kind):
    """Database and broker tokens are presigned URLs that no API takes."""
    url = f"https://db.example.us-east-1.rds.amazonaws.com/?Action={quote(action)}&DBUser=x"
    assert kind in refusal(botocore_signed(PHANTOM, url=url, service=service, presigned=60)).message


def test_local_tokens_in_headers():
    """EKS bearer tokens, CodeCommit's basic authentication, and a service that only tokens are for."""
    eks = Request(
        "GET",
        "https",
        "x.gr7.us-east-1.eks.amazonaws.com",
        443,
        "/api",
        ((b"Authorization", b"Bearer k8s-aws-v1.aHR0"),),
    )
    assert "EKS" in refusal(eks).message
    git = Request(
        "GET", "https", "git-codecommit.eu-west-1.amazonaws.com", 443, "/v1", ((b"authorization", b"Basic QUs6eA=="),)
    )
    assert "CodeCommit" in refusal(git).message
    assert "RDS" in refusal(botocore_signed(PHANTOM, service="rds-db")).message


def test_calls_without_a_signature():
    """An AWS call needs one, unless a rule or its own definition says otherwise; a bearer token gets a word of its own."""
    plain = Request("POST", "https", "dynamodb.us-east-1.amazonaws.com", 443, "/")
    bearer = replace(plain, headers=((b"Authorization", b"Bearer abc"),))
    aws, other = Call(aws=True), Call(aws=False)
    with pytest.raises(Refusal) as refused:
        shapes.require_unsigned_allowed(plain, aws, allowed=False)
    assert (refused.value.code, refused.value.status) == ("MissingAuthenticationToken", 403)
    with pytest.raises(Refusal, match="bearer token"):
        shapes.require_unsigned_allowed(bearer, aws, allowed=False)
    for request in (plain, bearer):
        shapes.require_unsigned_allowed(request, aws, allowed=True)
        shapes.require_unsigned_allowed(request, other, allowed=False)


@given(
    authorization=st.text(max_size=60) | st.text(max_size=60).map(lambda text: "AWS4-HMAC-SHA256 " + text),
    target=st.text(max_size=60).map(lambda text: "/?X-Amz-Signature=" + text) | st.just("/"),
    date=st.text(max_size=20),
)
def test_nothing_gives_a_traceback(authorization, target, date):
    """Any header and query is an authentication, none, or a Refusal."""
    headers = tuple(
        (name, value.encode("utf-8", "replace"))
        for name, value in ((b"authorization", authorization), (b"x-amz-date", date), (b"date", date))
    )
    for fields in (headers, headers[1:]):
        request = Request(
            "GET", "https", "x.amazonaws.com", 443, target.encode("utf-8", "replace").decode("latin-1"), fields
        )
        try:
            parse(request)
        except Refusal:
            continue
