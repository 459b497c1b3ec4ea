"""Evasions: each is refused, recognised as what it is, or left without an operation, so that no rule allows it."""

from __future__ import annotations

import dataclasses
import gzip

import cbor2
import pytest

from flowwarden.errors import Refusal
from flowwarden.recognition.recogniser import Recogniser
from flowwarden.types import Call, Request

ACCOUNT = "123456789012"
FORM = ("content-type", "application/x-www-form-urlencoded; charset=utf-8")
JSON = ("content-type", "application/x-amz-json-1.0")
IAM, EC2, S3 = "iam.amazonaws.com", "ec2.eu-west-1.amazonaws.com", "s3.eu-west-1.amazonaws.com"
DYNAMO, LAMBDA = "dynamodb.eu-west-1.amazonaws.com", "lambda.eu-west-1.amazonaws.com"
REGIONS = {IAM: "us-east-1"}
NAMES = {IAM: "iam", EC2: "ec2", S3: "s3", DYNAMO: "dynamodb", LAMBDA: "lambda"}


def signed(service: str, region: str = "eu-west-1") -> tuple[str, str]:
    scope = f"AKIDEXAMPLE/20261120/{region}/{service}/aws4_request"
    return "authorization", f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature=00"


def ask(
    method: str, host: str, target: str, *headers: tuple[str, str], body: bytes = b"", sign: bool = True
) -> Request:
    own = [signed(NAMES[host], REGIONS.get(host, "eu-west-1"))] if sign and host in NAMES else []
    lines = [(name.encode(), value.encode("latin-1")) for name, value in [*headers, *own]]
    return Request(method, "https", host, 443, target, tuple(lines), body)


def form(text: str, host: str = IAM) -> Request:
    return ask("POST", host, "/", FORM, body=text.encode())


def target(name: str, body: bytes = b"{}", *more: tuple[str, str]) -> Request:
    return ask("POST", DYNAMO, "/", JSON, ("x-amz-target", name), *more, body=body)


def understood(recogniser: Recogniser, request: Request) -> Call:
    """Everything that a rule could ask for, so that what is lazy is read too."""
    call = recogniser.recognise(request, account=ACCOUNT)
    if call.operation is not None:
        _ = call.params, call.actions, call.resources
    return call


REFUSED = {
    "Action in lower case": form("action=DeleteUser&Version=2010-05-08&UserName=x"),
    "Action in another case beside the right one": form("Action=GetUser&ACTION=DeleteUser&Version=2010-05-08"),
    "Action's value in another case": form("Action=deleteuser&Version=2010-05-08&UserName=x"),
    "Action with a space": form("Action=DeleteUser+&Version=2010-05-08"),
    "Action with a NUL": form("Action=DeleteUser%00&Version=2010-05-08"),
    "two Actions": form("Action=GetUser&Action=DeleteUser&Version=2010-05-08"),
    "two Actions, one encoded": form("Action=GetUser&%41ction=DeleteUser&Version=2010-05-08"),
    "two Actions, split by a semicolon": form("Action=GetUser;Action=DeleteUser&Version=2010-05-08"),
    "Action in query and body that differ": ask("POST", IAM, "/?Action=GetUser&Version=2010-05-08", FORM, body=b"Action=DeleteUser&Version=2010-05-08&UserName=x"),
    "another parameter in query and body that differs": ask("POST", IAM, "/?UserName=a", FORM, body=b"Action=DeleteUser&Version=2010-05-08&UserName=b"),
    "an Action of another service": form("Action=TerminateInstances&Version=2016-11-15"),
    "an Action of another version of the endpoint": form("Action=DeleteUser&Version=2016-11-15&UserName=x"),
    "a parameter twice": form("Action=DeleteUser&Version=2010-05-08&UserName=a&UserName=b"),
    "a parameter in another case": form("Action=DeleteUser&Version=2010-05-08&UserName=a&username=b"),
    "a list's place twice": form("Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1&InstanceId.01=i-2", EC2),
    "a list that is no list": form("Action=TerminateInstances&Version=2016-11-15&InstanceId.x=i-1", EC2),
    "a form that is no UTF-8": ask("POST", IAM, "/", FORM, body=b"Action=GetUser&Version=2010-05-08&UserName=\xff"),
    "a form with a broken escape": form("Action=GetUser&Version=2010-05-08&UserName=%4"),
    "a form in a JSON content type": ask("POST", IAM, "/", JSON, body=b"Action=DeleteUser&Version=2010-05-08&UserName=x"),
    "Action in the query, JSON in the body": ask("POST", IAM, "/?Action=DeleteUser&Version=2010-05-08", ("content-type", "application/json"), body=b"{}"),
    "a target at a service that has none": ask("POST", IAM, "/", FORM, ("x-amz-target", "DynamoDB_20120810.PutItem"), body=b"Action=GetUser&Version=2010-05-08"),
    "a target at S3": ask("PUT", S3, "/b/k", ("x-amz-target", "DynamoDB_20120810.PutItem")),
    "a target of another service": target("secretsmanager.GetSecretValue"),
    "a target in another case": target("dynamodb_20120810.PutItem"),
    "a target's operation in another case": target("DynamoDB_20120810.putitem"),
    "a target split at the first dot": target("DynamoDB_20120810.x.PutItem"),
    "a target with a space": target("DynamoDB_20120810.PutItem "),
    "two targets": target("DynamoDB_20120810.GetItem", b"{}", ("x-amz-target", "DynamoDB_20120810.DeleteItem")),
    "two targets in one header": target("DynamoDB_20120810.GetItem, DynamoDB_20120810.DeleteItem"),
    "two content types": target("DynamoDB_20120810.GetItem", b"{}", ("content-type", "text/plain")),
    "a target by GET": ask("GET", DYNAMO, "/", JSON, ("x-amz-target", "DynamoDB_20120810.GetItem")),
    "a target beside an Action": ask("POST", DYNAMO, "/?Action=DeleteTable", JSON, ("x-amz-target", "DynamoDB_20120810.GetItem"), body=b"{}"),
    "a target beside a smithy protocol": ask("POST", DYNAMO, "/service/DynamoDB_20120810/operation/DeleteTable", ("smithy-protocol", "rpc-v2-cbor"), ("x-amz-target", "DynamoDB_20120810.GetItem")),
    "a target on another path": ask("POST", DYNAMO, "/x", JSON, ("x-amz-target", "DynamoDB_20120810.GetItem"), body=b"{}"),
    "a JSON name twice": target("DynamoDB_20120810.DeleteTable", b'{"TableName": "a", "TableName": "b"}'),
    "a JSON name in another case": target("DynamoDB_20120810.DeleteTable", b'{"TableName": "a", "tablename": "b"}'),
    "a JSON value of another type": target("DynamoDB_20120810.DeleteTable", b'{"TableName": ["a"]}'),
    "JSON that is none": target("DynamoDB_20120810.DeleteTable", b"{"),
    "JSON that is a list": target("DynamoDB_20120810.DeleteTable", b"[]"),
    "JSON with NaN": target("DynamoDB_20120810.Scan", b'{"TableName": "a", "Limit": NaN}'),
    "JSON too deep": target("DynamoDB_20120810.PutItem", b'{"Item":{"a":' + b'{"M":{"a":' * 3000 + b"{}" + b"}}" * 3000 + b"}}"),
    "JSON in UTF-16": target("DynamoDB_20120810.DeleteTable", '{"TableName": "a"}'.encode("utf-16")),
    "a body in an unknown coding": target("DynamoDB_20120810.DeleteTable", b"x", ("content-encoding", "br")),
    "gzip that is none": target("DynamoDB_20120810.DeleteTable", b"x", ("content-encoding", "gzip")),
    "gzip with a second member": target("DynamoDB_20120810.DeleteTable", gzip.compress(b'{"TableName":"a"}') + gzip.compress(b"x"), ("content-encoding", "gzip")),
    "a method override": ask("POST", LAMBDA, "/2015-03-31/functions/f/invocations", ("x-http-method-override", "DELETE"), body=b"{}"),
    "another method override": ask("GET", S3, "/b/k", ("x-method-override", "DELETE")),
    "a path with a dot segment": ask("GET", LAMBDA, "/2015-03-31/functions/../event-source-mappings/"),
    "a path with an encoded dot segment": ask("GET", LAMBDA, "/2015-03-31/functions/%2e%2e/event-source-mappings/"),
    "a path with a twice encoded dot segment": ask("GET", LAMBDA, "/2015-03-31/functions/%252e%252e"),
    "a path with a dot segment and a parameter": ask("GET", LAMBDA, "/2015-03-31/functions/..;x/f"),
    "a path with an encoded letter of a literal": ask("DELETE", LAMBDA, "/2015-03-31/function%73/f"),
    "a path with an empty segment": ask("DELETE", LAMBDA, "/2015-03-31//functions/f"),
    "a path with an empty first segment": ask("DELETE", LAMBDA, "//2015-03-31/functions/f"),
    "a path with a semicolon": ask("DELETE", LAMBDA, "/2015-03-31/functions;x/f"),
    "a path with a NUL": ask("DELETE", LAMBDA, "/2015-03-31/functions/f%00"),
    "a path with a backslash": ask("GET", LAMBDA, "/2015-03-31\\functions/f"),
    "a path with an encoded backslash": ask("GET", LAMBDA, "/2015-03-31/functions/a%5c..%5cb"),
    "a path with a broken escape": ask("GET", LAMBDA, "/2015-03-31/functions/%zz"),
    "a path that is no UTF-8": ask("GET", LAMBDA, "/2015-03-31/functions/%ff"),
    "a label that decodes to another operation": ask("GET", LAMBDA, "/2015-03-31/functions/f%2Fpolicy"),
    "a target that is absolute": ask("GET", LAMBDA, "https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions/f"),
    "a target with a fragment": ask("GET", S3, "/b/k#?acl"),
    "an Action at a REST service": ask("GET", LAMBDA, "/2015-03-31/functions/f?Action=DeleteFunction"),
    "a body where the operation has none": ask("DELETE", LAMBDA, "/2015-03-31/functions/f", body=b'{"x":1}'),
    "S3's dot segment": ask("GET", S3, "/b/../c/k"),
    "S3's encoded dot segment": ask("GET", S3, "/b/%2e%2e/c/k"),
    "S3's empty bucket": ask("GET", S3, "//b/k"),
    "S3's sub-resource twice": ask("GET", S3, "/b/k?versionId=1&versionId=2"),
    "S3's copy source twice": ask("PUT", S3, "/b/k", ("x-amz-copy-source", "a/k"), ("x-amz-copy-source", "b/k")),
    "a header in the query as well": ask("PUT", S3, "/b/k?x-amz-acl=private", ("x-amz-acl", "public-read")),
    "XML with a DTD": ask("PUT", S3, "/b?versioning", body=b'<!DOCTYPE x [<!ENTITY a "b">]><VersioningConfiguration/>'),
    "XML with an unknown element": ask("PUT", S3, "/b?versioning", body=b"<VersioningConfiguration><X/></VersioningConfiguration>"),
    "XML with an element twice": ask("PUT", S3, "/b?versioning", body=b"<VersioningConfiguration><Status>a</Status><Status>b</Status></VersioningConfiguration>"),
    "XML in UTF-16": ask("PUT", S3, "/b?versioning", body="<VersioningConfiguration/>".encode("utf-16")),
    "XML in signed chunks": ask("PUT", S3, "/b?policy", ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), body=b"{}"),
    "signed for another service": ask("GET", IAM, "/?Action=GetUser&Version=2010-05-08", signed("s3", "us-east-1"), sign=False),
    "signed for another region": ask("GET", S3, "/b/k", signed("s3", "us-east-1"), sign=False),
    "signed for another partition": ask("GET", "s3.amazonaws.com", "/b/k", signed("s3", "cn-north-1"), sign=False),
    "signed twice": ask("GET", S3, "/b/k", signed("s3")),
    "signed in header and query": ask("GET", S3, "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A/20261120/eu-west-1/s3/aws4_request"),
    "a scope that is none": ask("GET", S3, "/b/k", ("authorization", "AWS4-HMAC-SHA256 Credential=A/B, SignedHeaders=host, Signature=0"), sign=False),
    "two credentials in one header": ask("GET", S3, "/b/k", ("authorization", "AWS4-HMAC-SHA256 Credential=A/20261120/eu-west-1/s3/aws4_request, Credential=A/20261120/eu-west-1/iam/aws4_request"), sign=False),
    "host and header with different accounts": ask("GET", "999999999999.s3-control.eu-west-1.amazonaws.com", "/v20180820/jobs/j", ("x-amz-account-id", ACCOUNT)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, recogniser: Recogniser) -> None:
    """A request that contradicts itself, or is not what its model says, is refused with a code of its protocol."""
    with pytest.raises(Refusal) as caught:
        understood(recogniser, REFUSED[name])
    assert caught.value.station == "recognise" and caught.value.status in {400, 403} and caught.value.code


UNKNOWN = {
    "an unknown sub-resource": ask("GET", S3, "/b/k?unknown"),
    "an unknown sub-resource with a value": ask("DELETE", S3, "/b?foo=bar"),
    "a sub-resource in another case": ask("GET", S3, "/b?ACL"),
    "a sub-resource with a value": ask("GET", S3, "/b?acl=x"),
    "a known and an unknown sub-resource": ask("GET", S3, "/b?acl&unknown"),
    "two sub-resources": ask("GET", S3, "/b?acl&policy"),
    "an Action at S3": ask("GET", S3, "/b/k?Action=DeleteObject"),
    "a version where there is none": ask("GET", S3, "/b?acl&versionId=1"),
    "a list type that is none": ask("GET", S3, "/b?list-type=3"),
    "the name of another operation": ask("GET", S3, "/b/k?x-id=HeadObject"),
    "a header of no operation in the query": ask("GET", S3, "/b/k?x-amz-unknown=1"),
    "POST for GET": ask("POST", S3, "/b?acl"),
    "POST for PUT": ask("POST", S3, "/b/k"),
    "a form upload": ask("POST", S3, "/b", ("content-type", "multipart/form-data; boundary=x"), body=b"--x--"),
    "an unknown method": ask("PATCH", S3, "/b/k"),
    "a method in lower case": ask("get", S3, "/b/k"),
    "POST for GET at Lambda": ask("POST", LAMBDA, "/2015-03-31/functions/f", body=b"{}"),
    "an unknown path": ask("GET", LAMBDA, "/2015-03-31/functionz/f"),
    "a path with a slash too many": ask("GET", LAMBDA, "/2015-03-31/event-source-mappings/"),
    "a path in another case": ask("GET", LAMBDA, "/2015-03-31/Functions/f"),
    "no Action": form("Version=2010-05-08"),
    "an Action on another path": ask("POST", IAM, "/x", FORM, body=b"Action=GetUser&Version=2010-05-08"),
    "PUT for POST": ask("PUT", IAM, "/", FORM, body=b"Action=GetUser&Version=2010-05-08"),
    "no target": ask("POST", DYNAMO, "/", JSON, body=b"{}"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_left_without_an_operation(name: str, recogniser: Recogniser) -> None:
    """What is not known has no operation and no action: only a rule that names the host exactly can match it."""
    call = understood(recogniser, UNKNOWN[name])
    assert (call.aws, call.operation, call.actions) == (True, None, ())


KNOWN = {
    "DELETE through POST ?delete": (ask("POST", S3, "/b?delete", body=b"<Delete><Object><Key>k</Key></Object></Delete>"), "DeleteObjects"),
    "?delete with an equals sign": (ask("POST", S3, "/b?delete=", body=b"<Delete><Object><Key>k</Key></Object></Delete>"), "DeleteObjects"),
    "an encoded sub-resource": (ask("GET", S3, "/b?%61cl"), "GetBucketAcl"),
    "an encoded ?delete": (ask("POST", S3, "/b?%64elete", body=b"<Delete><Object><Key>k</Key></Object></Delete>"), "DeleteObjects"),
    "?acl": (ask("PUT", S3, "/b/k?acl", ("x-amz-acl", "public-read")), "PutObjectAcl"),
    "?policy": (ask("PUT", S3, "/b?policy", body=b"{}"), "PutBucketPolicy"),
    "?versionId": (ask("DELETE", S3, "/b/k?versionId=3"), "DeleteObject"),
    "?uploads": (ask("POST", S3, "/b/k?uploads"), "CreateMultipartUpload"),
    "a part": (ask("PUT", S3, "/b/k?partNumber=1&uploadId=x"), "UploadPart"),
    "an abort": (ask("DELETE", S3, "/b/k?uploadId=x"), "AbortMultipartUpload"),
    "a copy": (ask("PUT", S3, "/b/k", ("x-amz-copy-source", "/a/k")), "CopyObject"),
    "a copy, its source in the query": (ask("PUT", S3, "/b/k?X-Amz-Copy-Source=a%2Fk"), "CopyObject"),
    "a bucket with a slash": (ask("GET", S3, "/b/"), "ListObjects"),
    "a bucket called like Lambda's path": (ask("GET", S3, "/2015-03-31/functions/f"), "GetObject"),
    "a key with empty segments": (ask("GET", S3, "/b//k//"), "GetObject"),
    "a key with an encoded slash": (ask("GET", S3, "/b/a%2Fb"), "GetObject"),
    "a key like a sub-resource": (ask("GET", S3, "/b/%3Facl"), "GetObject"),
    "presigned": (ask("GET", S3, "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20261120%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20261120T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00", sign=False), "GetObject"),
    "a query call by GET": (ask("GET", IAM, "/?Action=DeleteUser&Version=2010-05-08&UserName=x"), "DeleteUser"),
    "an encoded Action": (form("%41ction=%44eleteUser&Version=2010-05-08&UserName=x"), "DeleteUser"),
    "Action in the query of a POST": (ask("POST", IAM, "/?Action=DeleteUser&Version=2010-05-08", FORM, body=b"UserName=x"), "DeleteUser"),
    "an ARN as a label": (ask("GET", LAMBDA, "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Af"), "ListTags"),
    "an ARN as a label before another operation's path": (ask("GET", "s3tables.eu-west-1.amazonaws.com", "/namespaces/arn%3Aaws%3As3tables%3Aeu-west-1%3A123456789012%3Abucket%2Fb"), "ListNamespaces"),
    "a literal percent sign": (ask("GET", LAMBDA, "/2015-03-31/functions/100%25"), "GetFunction"),
    "gzip": (target("DynamoDB_20120810.DeleteTable", gzip.compress(b'{"TableName":"a"}'), ("content-encoding", "gzip")), "DeleteTable"),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_recognised_as_what_it_is(name: str, recogniser: Recogniser) -> None:
    """Encodings and disguises that AWS itself understands are understood alike."""
    request, operation = KNOWN[name]
    call = understood(recogniser, request)
    assert call.operation is not None and call.operation.name == operation


def test_a_gzip_bomb_is_bounded(recogniser: Recogniser) -> None:
    """33 MiB of zeros in 32 KiB are refused, not unpacked without end."""
    bomb = gzip.compress(b"0" * (33 * 1024 * 1024))
    with pytest.raises(Refusal):
        understood(recogniser, target("DynamoDB_20120810.DeleteTable", bomb, ("content-encoding", "gzip")))


def test_cbor_evasions(recogniser: Recogniser) -> None:
    """Duplicate keys and foreign tags in CBOR are refused; what cbor2 writes is read."""
    host = "monitoring.eu-west-1.amazonaws.com"
    headers = (("smithy-protocol", "rpc-v2-cbor"), ("content-type", "application/cbor"), signed("monitoring"))
    path = "/service/GraniteServiceVersion20100801/operation/DeleteAlarms"
    call = understood(recogniser, ask("POST", host, path, *headers, body=cbor2.dumps({"AlarmNames": ["a"]})))
    assert str(call.operation) == "cloudwatch:DeleteAlarms" and call.params == {"AlarmNames": ["a"]}
    twice = b"\xa2" + 2 * (cbor2.dumps("AlarmNames") + cbor2.dumps(["a"]))
    for body in (
        twice,
        cbor2.dumps({"AlarmNames": cbor2.CBORTag(37, b"x")}),
        b"\xff",
        b"\xa1",
        cbor2.dumps([]),
        b"\x9f" * 500,
    ):
        with pytest.raises(Refusal):
            understood(recogniser, ask("POST", host, path, *headers, body=body))
    for wrong in (path.replace("Delete", "delete"), path + "/", path.replace("Granite", "Other"), path + "?x=1"):
        with pytest.raises(Refusal):
            understood(recogniser, ask("POST", host, wrong, *headers))


def test_codes_are_the_protocols_own(recogniser: Recogniser) -> None:
    """SDKs print the code: each protocol gets the one that its services use."""
    expected = {
        "an Action of another service": "InvalidAction",
        "a target of another service": "UnknownOperationException",
        "JSON that is none": "SerializationException",
        "XML with a DTD": "MalformedXML",
        "signed for another region": "SignatureDoesNotMatch",
        "a list that is no list": "InvalidParameterValue",
    }
    for name, code in expected.items():
        with pytest.raises(Refusal) as caught:
            understood(recogniser, REFUSED[name])
        assert caught.value.code == code, name


def test_an_aws_call_to_a_host_that_is_not_aws(recogniser: Recogniser) -> None:
    """Whatever it looks like, it is plain HTTPS to a stranger: no operation, no action, nothing to sign."""
    headers = (JSON, ("x-amz-target", "DynamoDB_20120810.GetItem"), signed("dynamodb"))
    call = recogniser.recognise(ask("POST", "dynamodb.eu-west-1.amazonaws.com.example.com", "/", *headers, body=b"{}"))
    assert (call.aws, call.operation, call.actions, call.signing_name) == (False, None, (), "")


def test_a_call_can_be_replaced_in_part(recogniser: Recogniser) -> None:
    """A lazy call is a Call: `dataclasses.replace` reads what is to be read, and keeps it."""
    call = recogniser.recognise(ask("GET", S3, "/b/k"))
    other = dataclasses.replace(call, account="111122223333")
    assert (other.account, other.params, other.actions) == ("111122223333", {"Bucket": "b", "Key": "k"}, call.actions)


def test_the_account_in_the_host_is_a_parameter(recogniser: Recogniser) -> None:
    """S3 Control's host carries the account even where the header is left out."""
    call = recogniser.recognise(ask("GET", "123456789012.s3-control.eu-west-1.amazonaws.com", "/v20180820/jobs/j"))
    assert call.params == {"JobId": "j", "AccountId": "123456789012"} and call.account == ACCOUNT
