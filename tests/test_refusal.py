"""Every form of a refusal is read back by botocore's own parsers, the judge of what an SDK prints."""

from __future__ import annotations

import json

import pytest
from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from flowwarden.errors import Refusal
from flowwarden.refusal import render
from flowwarden.types import Call, Headers, Operation, Request

ID = "0198f0c0-0000-7000-8000-000000000001"
REASON = "Identity changes go through <Terraform> & nowhere else."
PROTOCOLS = ["query", "ec2", "json", "rest-json", "rest-xml", "smithy-rpc-v2-cbor"]


def refusal(message: str = REASON, **changes: object) -> Refusal:
    fields: dict[str, object] = {"station": "policy", "rule": "keep-iam-users"}
    return Refusal(message, **(fields | changes))  # type: ignore[arg-type]


def call(protocol: str, service: str = "any", version: str = "") -> Call:
    return Call(aws=True, operation=Operation(service, "Op"), protocol=protocol, json_version=version)


def request(method: str = "POST", target: str = "/", host: str = "x.us-east-1.amazonaws.com", **fields: str) -> Request:
    headers = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in fields.items())
    return Request(method, "https", host, 443, target, headers)


def parse(protocol: str, answer: tuple[int, Headers, bytes]) -> dict[str, dict[str, str]]:
    status, headers, body = answer
    fields = HeadersDict({name.decode(): value.decode() for name, value in headers})
    found = create_parser(protocol).parse({"status_code": status, "headers": fields, "body": body}, None)
    assert found["ResponseMetadata"]["HTTPStatusCode"] == status
    return found


def header(answer: tuple[int, Headers, bytes], name: str) -> str:
    found = [value.decode() for key, value in answer[1] if key.decode().lower() == name.lower()]
    assert len(found) <= 1, f"{name} stands there {len(found)} times"
    return found[0] if found else ""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("service", ["any", "s3"])
def test_every_protocol_is_read_by_botocore(protocol: str, service: str) -> None:
    """Code, message with rule and reason, and request id come through in every protocol."""
    answer = render(refusal(), call(protocol, service), request(), ID)
    found = parse(protocol, answer)
    assert found["Error"]["Code"] == "AccessDenied"
    assert found["Error"]["Message"] == f"Refused by flowwarden (rule keep-iam-users): {REASON}"
    assert found["ResponseMetadata"]["RequestId"] == ID
    assert header(answer, "x-flowwarden-rule") == "keep-iam-users"
    assert header(answer, "x-flowwarden-reason") == REASON
    assert header(answer, "x-flowwarden-station") == "policy"
    assert header(answer, "content-length") == str(len(answer[2]))


@pytest.mark.parametrize(("status", "fault"), [(403, "Sender"), (503, "Receiver")])
def test_the_fault_is_the_gateways_from_500_on(status: int, fault: str) -> None:
    answer = render(refusal(status=status, code="ServiceUnavailable"), call("query"), request(), ID)
    found = parse("query", answer)
    assert found["Error"]["Type"] == fault
    assert found["Error"]["Code"] == "ServiceUnavailable"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_json_answers_in_the_version_of_the_request(version: str) -> None:
    answer = render(refusal(), call("json", "dynamodb", version), request(), ID)
    assert header(answer, "content-type") == f"application/x-amz-json-{version}"
    assert header(answer, "x-amzn-errortype") == "AccessDenied"


def test_query_compatible_json_names_the_old_code_too() -> None:
    """SQS in JSON sends x-amzn-query-mode and reads the code from x-amzn-query-error."""
    asked = request(x_amzn_query_mode="true")
    found = parse("json", render(refusal(code="InvalidToken"), call("json", "sqs"), asked, ID))
    assert found["Error"]["QueryErrorCode"] == "InvalidToken"
    assert found["Error"]["Type"] == "Sender"


def test_s3_has_its_own_form() -> None:
    _, _, body = answer = render(refusal(), call("rest-xml", "s3"), request(), ID)
    assert b"<ErrorResponse>" not in body
    assert header(answer, "x-amz-request-id") == ID
    assert b"<ErrorResponse>" in render(refusal(), call("rest-xml", "s3control"), request(), ID)[2]


@pytest.mark.parametrize("protocol", [*PROTOCOLS, ""])
def test_a_head_has_no_body(protocol: str) -> None:
    answer = render(refusal(), call(protocol), request("HEAD"), ID)
    assert answer[2] == b""
    assert header(answer, "content-length") == "0"
    assert header(answer, "x-flowwarden-reason") == REASON


SCOPE = "AWS4-HMAC-SHA256 Credential=AKID/20261120/eu-west-1/{}/aws4_request, SignedHeaders=host, Signature=00"
FORM = "application/x-www-form-urlencoded; charset=utf-8"
GUESSES = [
    ("query", request(content_type=FORM, authorization=SCOPE.format("iam"))),
    ("ec2", request(content_type=FORM, authorization=SCOPE.format("ec2"))),
    ("ec2", request(content_type=FORM, host="ec2.eu-west-1.amazonaws.com")),
    ("query", request("GET", "/?Action=GetCallerIdentity&Version=2011-06-15")),
    ("json", request(x_amz_target="DynamoDB_20120810.GetItem", content_type="application/x-amz-json-1.0")),
    ("json", request(x_amz_target="Logs_20140328.PutLogEvents")),
    ("smithy-rpc-v2-cbor", request(smithy_protocol="rpc-v2-cbor", content_type="application/cbor")),
    ("rest-xml", request("GET", "/key", authorization=SCOPE.format("s3"))),
    ("rest-xml", request("GET", "/key?X-Amz-Credential=A%2F20261120%2Feu-west-1%2Fs3%2Faws4_request")),
    ("rest-xml", request("GET", "/2013-04-01/hostedzone", authorization=SCOPE.format("route53"))),
    ("rest-json", request("GET", "/2015-03-31/functions", authorization=SCOPE.format("lambda"))),
]


@pytest.mark.parametrize(("protocol", "asked"), GUESSES)
@pytest.mark.parametrize("known", [None, Call(aws=True)])
def test_a_call_refused_before_it_was_recognised_is_answered_by_its_marks(
    protocol: str, asked: Request, known: Call | None
) -> None:
    found = parse(protocol, render(refusal(code="ExpiredToken"), known, asked, ID))
    assert found["Error"]["Code"] == "ExpiredToken"
    assert REASON in found["Error"]["Message"]


def test_what_is_not_aws_gets_text_or_json() -> None:
    plain = render(refusal(), Call(aws=False), request(host="example.com"), ID)
    assert plain[2].decode() == f"AccessDenied: Refused by flowwarden (rule keep-iam-users): {REASON}\n"
    asked = request(host="api.example.com", accept="application/json")
    error = json.loads(render(refusal(), Call(aws=False), asked, ID)[2])["error"]
    assert error["code"] == "AccessDenied" and REASON in error["message"]
    assert header(render(refusal(), None, None, ID), "content-type").startswith("text/plain")


def test_407_asks_for_a_proxy_credential() -> None:
    answer = render(refusal(status=407, code="ProxyAuthenticationRequired"), None, request(), ID)
    assert answer[0] == 407
    assert header(answer, "proxy-authenticate").startswith("Basic ")


@given(
    text=st.text(st.characters(exclude_categories=())),
    rule=st.text(),
    code=st.text(),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_no_text_breaks_out_of_its_place(text: str, rule: str, code: str, protocol: str) -> None:
    """Reasons may quote what the agent sent: no CR or LF in a header, no markup in a body, and the form stays readable."""
    answer = render(refusal(text, rule=rule, code=code), call(protocol, "s3"), request(), ID)
    for _, value in answer[1]:
        assert all(0x20 <= byte < 0x7F for byte in value)
    parse(protocol, answer)
