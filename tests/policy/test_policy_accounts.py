"""Account pinning: what names a stranger is refused, in every place where a call can name one (fault 52)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from policykit import call, request

from flowwarden.policy.accounts import amendments, outside
from flowwarden.types import Call, Operation

OWN, STRANGER = "123456789012", "999988887777"
PINNED = frozenset({OWN})


def named(what: Call, asked=None, accounts: frozenset[str] = PINNED) -> str | None:
    return outside(what, asked or request(), accounts)


def policy(principal: Any, condition: Any = None, **more: Any) -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "*", "Resource": "*", **more}
    return json.dumps({"Statement": [statement | ({"Condition": condition} if condition else {})]})


STRANGERS: list[tuple[str, dict[str, Any]]] = [
    ("sts:AssumeRole", {"RoleArn": f"arn:aws:iam::{STRANGER}:role/x"}),
    ("sts:AssumeRole", {"RoleArn": f"arn:aws-us-gov:iam::{STRANGER}:role/x"}),
    ("events:PutTargets", {"Targets": [{"Id": "1", "Arn": f"arn:aws:sqs:eu-west-1:{STRANGER}:q"}]}),
    ("sns:Subscribe", {"Protocol": "sqs", "Endpoint": f"arn:aws:sqs:eu-west-1:{STRANGER}:q"}),
    ("sqs:SendMessage", {"QueueUrl": f"https://sqs.eu-west-1.amazonaws.com/{STRANGER}/q", "MessageBody": "x"}),
    ("sqs:SendMessage", {"QueueUrl": f"https://eu-west-1.queue.amazonaws.com/{STRANGER}/q", "MessageBody": "x"}),
    ("logs:PutSubscriptionFilter", {"destinationArn": f"arn:aws:logs:eu-west-1:{STRANGER}:destination:d"}),
    ("kms:CreateGrant", {"KeyId": "k", "GranteePrincipal": f"arn:aws:iam::{STRANGER}:root"}),
    ("kms:PutKeyPolicy", {"KeyId": "k", "Policy": policy({"AWS": STRANGER})}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": policy("*")}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": policy({"AWS": ["*"]})}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": policy({"CanonicalUser": "79a5"})}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": policy("*", {"StringEquals": {"aws:SourceAccount": [STRANGER]}})}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": policy("*", {"StringNotEquals": {"aws:PrincipalAccount": OWN}})}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": policy(None, NotPrincipal={"AWS": OWN})}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": policy({"aws": STRANGER}).replace("Statement", "statement")}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": '{"Statement": [}'}),
    ("s3:PutBucketAcl", {"Bucket": "b", "GrantRead": 'id="79a5"'}),
    ("s3:PutBucketAcl", {"AccessControlPolicy": {"Grants": [{"Grantee": {"Type": "CanonicalUser", "ID": "79a5"}}]}}),
    ("s3:PutObject", {"Bucket": "b", "Key": "k", "GrantFullControl": 'emailAddress="x@example.com"'}),
    ("s3:PutObject", {"Bucket": f"arn:aws:s3:eu-west-1:{STRANGER}:accesspoint/ap", "Key": "k"}),
    ("s3:CopyObject", {"CopySource": f"arn:aws:s3:eu-west-1:{STRANGER}:accesspoint/ap/object/k"}),
    (
        "s3:PutBucketReplication",
        {"ReplicationConfiguration": {"Rules": [{"Destination": {"Bucket": "arn:aws:s3:::x"}}]}},
    ),
    (
        "s3:PutBucketReplication",
        {"ReplicationConfiguration": {"Rules": [{"Destination": {"Bucket": "arn:aws:s3:::x", "Account": STRANGER}}]}},
    ),
    ("dynamodb:ExportTableToPointInTime", {"TableArn": f"arn:aws:dynamodb:eu-west-1:{OWN}:table/t", "S3Bucket": "x"}),
    ("ec2:ModifySnapshotAttribute", {"CreateVolumePermission": {"Add": [{"UserId": STRANGER}]}}),
    ("ec2:ModifySnapshotAttribute", {"CreateVolumePermission": {"Add": [{"Group": "all"}]}}),
    ("ec2:ModifyImageAttribute", {"LaunchPermission": {"Add": [{"OrganizationArn": "arn:aws:organizations::1:o/x"}]}}),
    ("ec2:CreateVpcPeeringConnection", {"VpcId": "vpc-1", "PeerOwnerId": STRANGER, "PeerVpcId": "vpc-2"}),
    ("rds:ModifyDBSnapshotAttribute", {"AttributeName": "restore", "ValuesToAdd": ["all"]}),
    ("rds:ModifyDBSnapshotAttribute", {"AttributeName": "restore", "ValuesToAdd": [OWN, STRANGER]}),
    ("redshift:AuthorizeSnapshotAccess", {"AccountWithRestoreAccess": STRANGER}),
    ("ram:CreateResourceShare", {"name": "x", "principals": [STRANGER]}),
    ("ram:AssociateResourceShare", {"principals": ["arn:aws:organizations::1:organization/o-1"]}),
    ("lambda:AddPermission", {"FunctionName": "f", "Principal": STRANGER}),
    ("lambda:AddPermission", {"FunctionName": "f", "Principal": "*"}),
    ("lambda:AddLayerVersionPermission", {"Principal": "*"}),
    ("sns:AddPermission", {"AWSAccountId": [STRANGER]}),
    ("sqs:AddPermission", {"AWSAccountIds": [STRANGER]}),
    ("sqs:SetQueueAttributes", {"Attributes": {"Policy": policy("*")}}),
    ("events:PutPermission", {"Principal": "*"}),
    ("ssm:ModifyDocumentPermission", {"AccountIdsToAdd": ["all"]}),
    ("ecr:SetRepositoryPolicy", {"policyText": policy({"AWS": f"arn:aws:iam::{STRANGER}:root"})}),
    ("cloudformation:CreateStack", {"TemplateBody": f"Principal: arn:aws:iam::{STRANGER}:root"}),
]


@pytest.mark.parametrize(("name", "params"), STRANGERS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(STRANGERS)])
def test_a_call_that_names_a_stranger_is_refused(name: str, params: dict[str, Any]) -> None:
    assert "none of this session's accounts" in str(named(call(name, params=params)))


OWN_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("sts:AssumeRole", {"RoleArn": f"arn:aws:iam::{OWN}:role/x"}),
    ("lambda:AddPermission", {"FunctionName": "f", "Principal": "events.amazonaws.com"}),
    ("kms:CreateGrant", {"KeyId": "k", "GranteePrincipal": f"arn:aws:iam::{OWN}:role/x"}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": policy({"AWS": OWN})}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": policy({"Service": "cloudtrail.amazonaws.com"})}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": policy("*", {"StringEquals": {"aws:PrincipalAccount": OWN}})}),
    ("s3:PutBucketPolicy", {"Bucket": "b", "Policy": policy("*", Effect="Deny")}),
    ("s3:PutObject", {"Bucket": "b", "Key": f"{STRANGER}/report", "Metadata": {"owner": STRANGER}}),
    (
        "s3:PutBucketReplication",
        {"ReplicationConfiguration": {"Rules": [{"Destination": {"Bucket": "arn:aws:s3:::x", "Account": OWN}}]}},
    ),
    ("ec2:ModifySnapshotAttribute", {"CreateVolumePermission": {"Add": [{"UserId": OWN}]}}),
    ("dynamodb:PutItem", {"TableName": "t", "Item": {"owner": {"S": f"arn:aws:iam::{STRANGER}:root"}}}),
    ("sqs:SendMessage", {"QueueUrl": f"https://sqs.eu-west-1.amazonaws.com/{OWN}/q", "MessageBody": f"arn:aws:sns:x:{STRANGER}:t"}),
    ("s3:PutObject", {"Bucket": f"arn:aws:s3:eu-west-1:{OWN}:accesspoint/ap", "Key": "k"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "params"), OWN_CALLS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(OWN_CALLS)])
def test_a_call_that_stays_at_home_passes(name: str, params: dict[str, Any]) -> None:
    assert named(call(name, params=params)) is None


@pytest.mark.parametrize(("name", "params"), [STRANGERS[0], STRANGERS[4], STRANGERS[8], STRANGERS[32]])
def test_a_named_exception_passes(name: str, params: dict[str, Any]) -> None:
    assert named(call(name, params=params), accounts=PINNED | {STRANGER}) is None


def test_awss_own_arns_pass_only_where_aws_is_named() -> None:
    managed = call("iam:GetPolicy", params={"PolicyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess"})
    assert "account aws" in str(named(managed))
    assert named(managed, accounts=PINNED | {"aws"}) is None


def test_resources_hosts_and_headers_count_too() -> None:
    assert STRANGER in str(named(call("s3:GetObject", resources=(f"arn:aws:s3:eu-west-1:{STRANGER}:accesspoint/a",))))
    assert STRANGER in str(named(call("s3:ListJobs"), request(f"{STRANGER}.s3-control.eu-west-1.amazonaws.com")))
    assert STRANGER in str(named(call("s3:X"), request(f"ap-{STRANGER}.s3-accesspoint.eu-west-1.amazonaws.com")))
    assert STRANGER in str(named(call("s3:PutObject"), request(x_amz_expected_bucket_owner=STRANGER)))
    assert named(call("s3:PutObject"), request(x_amz_expected_bucket_owner=OWN)) is None


def test_a_filter_of_a_read_may_name_other_accounts() -> None:
    images = call("ec2:DescribeImages", levels="List", params={"Owners": ["099720109477"]})
    assert named(images) is None


def test_parameters_that_were_not_read_are_judged_by_the_bytes_and_sharing_calls_are_refused() -> None:
    assert "were not read" in str(named(call("ram:CreateResourceShare", params=None)))
    asked = request()
    body = type(asked)(asked.method, "https", asked.host, 443, "/", (), f"arn:aws:iam::{STRANGER}:role/x".encode())
    assert STRANGER in str(named(call("ec2:X", params=None), body))


def test_s3_calls_carry_the_owner_of_their_bucket_and_of_the_copy_source() -> None:
    target, source = "x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"
    assert amendments(call("s3:PutObject"), request(), OWN) == {target: OWN}
    copy = Call(True, Operation("s3", "CopyObject"), params={"Bucket": "b"})
    assert amendments(copy, request(), OWN) == {target: OWN, source: OWN}
    assert amendments(copy, request(x_amz_expected_bucket_owner=OWN), OWN) == {source: OWN}
    assert amendments(call("s3:ListBuckets"), request(), OWN) == {}
    assert amendments(call("s3:CreateBucket"), request(), OWN) == {}
    assert amendments(call("ec2:RunInstances"), request(), OWN) == {}
    assert amendments(call("s3:PutObject"), request(), "") == {}


def test_every_s3_operation_that_takes_an_expected_owner_in_botocore_gets_it() -> None:
    import botocore.session

    model = botocore.session.get_session().get_service_model("s3")
    for name in model.operation_names:
        shape = model.operation_model(name).input_shape
        takes = bool(shape) and "ExpectedBucketOwner" in shape.members
        got = amendments(Call(True, Operation("s3", name)), request(), OWN)
        assert ("x-amz-expected-bucket-owner" in got) == takes, name
