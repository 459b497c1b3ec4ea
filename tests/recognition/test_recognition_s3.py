"""S3 as botocore itself addresses it: path and virtual style, dual-stack, acceleration, every kind of access point ARN."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from recognition_requests import ACCOUNT, Sender

from flowwarden.recognition.recogniser import Recogniser
from flowwarden.types import Request

ROUTES: dict[str, tuple[str, dict[str, Any] | None, str]] = {
    "virtual": ("a-bucket", None, "arn:aws:s3:::a-bucket/k"),
    "path": ("a-bucket", {"addressing_style": "path"}, "arn:aws:s3:::a-bucket/k"),
    "dotted": ("a.dotted.bucket", None, "arn:aws:s3:::a.dotted.bucket/k"),
    "dual-stack": ("a-bucket", {"use_dualstack_endpoint": True}, "arn:aws:s3:::a-bucket/k"),
    "accelerated": ("a-bucket", {"use_accelerate_endpoint": True}, "arn:aws:s3:::a-bucket/k"),
    "legacy": ("a-bucket", {"us_east_1_regional_endpoint": "legacy"}, "arn:aws:s3:::a-bucket/k"),
    "access point": (
        f"arn:aws:s3:us-east-1:{ACCOUNT}:accesspoint/ap",
        None,
        f"arn:aws:s3:us-east-1:{ACCOUNT}:accesspoint/ap/object/k",
    ),
    "access point elsewhere": (
        f"arn:aws:s3:eu-west-1:{ACCOUNT}:accesspoint/ap",
        {"use_arn_region": True},
        f"arn:aws:s3:eu-west-1:{ACCOUNT}:accesspoint/ap/object/k",
    ),
    "outpost": (
        f"arn:aws:s3-outposts:us-east-1:{ACCOUNT}:outpost/op-01234567890123456/accesspoint/ap",
        None,
        f"arn:aws:s3-outposts:us-east-1:{ACCOUNT}:outpost/op-01234567890123456/accesspoint/ap/object/k",
    ),
    "object lambda": (
        f"arn:aws:s3-object-lambda:us-east-1:{ACCOUNT}:accesspoint/fn",
        None,
        f"arn:aws:s3-object-lambda:us-east-1:{ACCOUNT}:accesspoint/fn/object/k",
    ),
    "directory bucket": (
        "a-bucket--use1-az4--x-s3",
        {"disable_s3_express_session_auth": True},
        f"arn:aws:s3express:us-east-1:{ACCOUNT}:bucket/a-bucket--use1-az4--x-s3",
    ),
}


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("operation", ["GetObject", "PutObject", "DeleteObject", "GetObjectTagging", "ListParts"])
def test_every_way_to_a_bucket(name: str, operation: str, recogniser: Recogniser) -> None:
    """Bucket comes back as it was given, and the object's ARN is the one that policies use."""
    bucket, options, arn = ROUTES[name]
    client = Sender(s3=options).client("s3")
    params: dict[str, Any] = {"Bucket": bucket, "Key": "k"}
    if operation == "ListParts":
        params["UploadId"] = "u"
    call = recogniser.recognise(Sender.send(client, operation, dict(params)), account=ACCOUNT)
    assert str(call.operation) == f"s3:{operation}"
    assert call.params is not None and call.params["Bucket"] == bucket and call.params["Key"] == "k"
    assert arn in call.resources and None not in call.resources


def test_a_multi_region_access_point_may_be_anybodys(recogniser: Recogniser) -> None:
    """Its host holds an alias, not an account: the ARN stays unknown, which never allows."""
    bucket = f"arn:aws:s3::{ACCOUNT}:accesspoint/mfzwi23gnjvgw.mrap"
    request = Sender.send(Sender().client("s3"), "GetObject", {"Bucket": bucket, "Key": "k"})
    call = recogniser.recognise(request, account=ACCOUNT)
    assert str(call.operation) == "s3:GetObject" and call.resources == (None,)
    assert call.params is not None and call.params["Bucket"] == "arn:aws:s3:::accesspoint/mfzwi23gnjvgw.mrap"


def test_keys_of_all_kinds(recogniser: Recogniser) -> None:
    """Whatever a key holds, it comes back, in path and virtual style."""
    keys = [
        "a b",
        "ü",
        "a+b",
        "a%2Fb",
        "a//b",
        "/a",
        "a/",
        "?acl",
        "a&b=c",
        "~",
        "a;b",
        "😀",
        "a'b(c)*!",
        "a\nb",
        "..a",
        "a..",
    ]
    for style in ("path", "virtual"):
        client = Sender(s3={"addressing_style": style}).client("s3")
        for key in keys:
            call = recogniser.recognise(Sender.send(client, "GetObject", {"Bucket": "a-bucket", "Key": key}))
            assert call.params == {"Bucket": "a-bucket", "Key": key, "ChecksumMode": "ENABLED"}, (style, key)


def test_the_accounts_own_side(recogniser: Recogniser) -> None:
    """S3 Control carries the account in its host, Outposts' buckets in a header."""
    client = Sender().client("s3control")
    call = recogniser.recognise(Sender.send(client, "GetPublicAccessBlock", {"AccountId": ACCOUNT}))
    assert str(call.operation) == "s3control:GetPublicAccessBlock" and call.account == ACCOUNT
    bucket = f"arn:aws:s3-outposts:us-east-1:{ACCOUNT}:outpost/op-01234567890123456/bucket/b"
    call = recogniser.recognise(
        Sender.send(client, "GetBucket", {"AccountId": ACCOUNT, "Bucket": bucket}), account=ACCOUNT
    )
    assert str(call.operation) == "s3control:GetBucket" and call.signing_name == "s3-outposts"


def test_presigned_by_botocore(recogniser: Recogniser) -> None:
    """A presigned URL is the call that it will make."""
    client = Sender(signature_version="s3v4").client("s3")
    url = client.generate_presigned_url("put_object", Params={"Bucket": "a-bucket", "Key": "k", "ACL": "public-read"})
    parts = urlsplit(url)
    headers = ((b"x-amz-acl", b"public-read"),)  # what the URL's signature asks for
    request = Request("PUT", "https", parts.hostname or "", 443, f"{parts.path}?{parts.query}", headers, b"")
    call = recogniser.recognise(request)
    assert str(call.operation) == "s3:PutObject"
    assert {action.name for action in call.actions} == {"s3:PutObject", "s3:PutObjectAcl"}
