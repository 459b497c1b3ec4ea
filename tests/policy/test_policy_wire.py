"""Account pinning, SQL, shell and the shipped rules on requests as botocore itself serialises them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.config import Config

from flowwarden.policy.accounts import outside
from flowwarden.policy.ruleset import RuleSet, load
from flowwarden.recognition.recogniser import Recogniser
from flowwarden.types import Call, Principal, Request

OWN, STRANGER = "123456789012", "999988887777"
PINNED = frozenset({OWN})
ROLE = f"arn:aws:iam::{STRANGER}:role/x"
QUEUE = f"arn:aws:sqs:eu-west-1:{STRANGER}:q"
OPEN = json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]})


class _Sent(Exception):
    """Carries the prepared request out of botocore before anything is sent."""


@cache
def _recogniser() -> Recogniser:
    return Recogniser()


@cache
def _shipped() -> RuleSet:
    return load(Path(__file__).parents[2] / "rules")


def sent(service: str, operation: str, params: dict[str, Any]) -> Request:
    """The request that botocore would send."""
    session = botocore.session.Session()
    session.set_credentials("A" * 20, "s" * 40)
    client = session.create_client(
        service, region_name="eu-west-1", config=Config(retries={"max_attempts": 0}, parameter_validation=False)
    )
    caught: list[Any] = []

    def catch(request: Any, **_: Any) -> None:
        caught.append(request)
        raise _Sent

    client.meta.events.register("before-send", catch)
    with pytest.raises(_Sent):
        client._make_api_call(operation, params)
    prepared = caught[0]
    url = urlsplit(prepared.url)
    body = prepared.body or b""
    body = body.read() if hasattr(body, "read") else body
    headers = [(str(k), v.decode() if isinstance(v, bytes) else str(v)) for k, v in prepared.headers.items()]
    if not any(name.lower() == "host" for name, _ in headers):
        headers.insert(0, ("host", url.hostname or ""))
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return Request(
        prepared.method, "https", url.hostname or "", 443, target,
        tuple((name.encode(), value.encode()) for name, value in headers),
        body.encode() if isinstance(body, str) else bytes(body),
    )  # fmt: skip


def recognised(service: str, operation: str, params: dict[str, Any]) -> tuple[Call, Request]:
    request = sent(service, operation, params)
    return _recogniser().recognise(request, OWN), request


STRANGERS = [
    ("sts", "AssumeRole", {"RoleArn": ROLE, "RoleSessionName": "x"}),
    ("s3", "PutObject", {"Bucket": f"arn:aws:s3:eu-west-1:{STRANGER}:accesspoint/ap", "Key": "k", "Body": b"x"}),
    ("s3", "PutObject", {"Bucket": "b", "Key": "k", "Body": b"x", "ExpectedBucketOwner": STRANGER}),
    ("s3", "PutObject", {"Bucket": "b", "Key": "k", "Body": b"x", "GrantRead": 'id="79a5"'}),
    ("s3", "CopyObject", {"Bucket": "b", "Key": "k", "CopySource": f"arn:aws:s3:eu-west-1:{STRANGER}:accesspoint/ap/object/k"}),
    ("s3", "PutBucketPolicy", {"Bucket": "b", "Policy": OPEN}),
    ("s3", "PutBucketAcl", {"Bucket": "b", "AccessControlPolicy": {
        "Owner": {"ID": "o"}, "Grants": [{"Grantee": {"Type": "CanonicalUser", "ID": "z"}, "Permission": "READ"}]}}),
    ("s3", "PutBucketReplication", {"Bucket": "b", "ReplicationConfiguration": {"Role": f"arn:aws:iam::{OWN}:role/r", "Rules": [
        {"Status": "Enabled", "Destination": {"Bucket": "arn:aws:s3:::theirs"}}]}}),
    ("sns", "Subscribe", {"TopicArn": f"arn:aws:sns:eu-west-1:{OWN}:t", "Protocol": "sqs", "Endpoint": QUEUE}),
    ("sns", "AddPermission", {"TopicArn": f"arn:aws:sns:eu-west-1:{OWN}:t", "Label": "x", "AWSAccountId": [STRANGER],
                              "ActionName": ["Publish"]}),
    ("sns", "Publish", {"TopicArn": f"arn:aws:sns:eu-west-1:{STRANGER}:t", "Message": "x"}),
    ("sqs", "SendMessage", {"QueueUrl": f"https://sqs.eu-west-1.amazonaws.com/{STRANGER}/q", "MessageBody": "x"}),
    ("sqs", "AddPermission", {"QueueUrl": f"https://sqs.eu-west-1.amazonaws.com/{OWN}/q", "Label": "x",
                              "AWSAccountIds": [STRANGER], "Actions": ["*"]}),
    ("sqs", "SetQueueAttributes", {"QueueUrl": f"https://sqs.eu-west-1.amazonaws.com/{OWN}/q", "Attributes": {"Policy": OPEN}}),
    ("kms", "CreateGrant", {"KeyId": "k", "GranteePrincipal": ROLE, "Operations": ["Decrypt"]}),
    ("kms", "PutKeyPolicy", {"KeyId": "k", "PolicyName": "default", "Policy": OPEN}),
    ("kms", "Encrypt", {"KeyId": f"arn:aws:kms:eu-west-1:{STRANGER}:key/k", "Plaintext": b"x"}),
    ("ram", "CreateResourceShare", {"name": "x", "principals": [STRANGER]}),
    ("ram", "AssociateResourceShare", {"resourceShareArn": f"arn:aws:ram:eu-west-1:{OWN}:resource-share/x", "principals": [STRANGER]}),
    ("lambda", "AddPermission", {"FunctionName": "f", "StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": STRANGER}),
    ("lambda", "AddPermission", {"FunctionName": "f", "StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"}),
    ("lambda", "AddLayerVersionPermission", {"LayerName": "l", "VersionNumber": 1, "StatementId": "s",
                                             "Action": "lambda:GetLayerVersion", "Principal": "*"}),
    ("lambda", "Invoke", {"FunctionName": f"arn:aws:lambda:eu-west-1:{STRANGER}:function:f", "Payload": b"x"}),
    ("events", "PutTargets", {"Rule": "r", "Targets": [{"Id": "1", "Arn": QUEUE}]}),
    ("events", "PutPermission", {"Action": "events:PutEvents", "Principal": "*", "StatementId": "x"}),
    ("events", "PutEvents", {"Entries": [{"Source": "s", "Detail": "{}", "EventBusName": f"arn:aws:events:eu-west-1:{STRANGER}:event-bus/x"}]}),
    ("logs", "PutSubscriptionFilter", {"logGroupName": "g", "filterName": "f", "filterPattern": "",
                                       "destinationArn": f"arn:aws:logs:eu-west-1:{STRANGER}:destination:d"}),
    ("ec2", "ModifySnapshotAttribute", {"SnapshotId": "snap-1", "CreateVolumePermission": {"Add": [{"UserId": STRANGER}]}}),
    ("ec2", "ModifySnapshotAttribute", {"SnapshotId": "snap-1", "GroupNames": ["all"], "OperationType": "add"}),
    ("ec2", "ModifyImageAttribute", {"ImageId": "ami-1", "LaunchPermission": {"Add": [{"Group": "all"}]}}),
    ("ec2", "CreateVpcPeeringConnection", {"VpcId": "vpc-1", "PeerVpcId": "vpc-2", "PeerOwnerId": STRANGER}),
    ("rds", "ModifyDBSnapshotAttribute", {"DBSnapshotIdentifier": "s", "AttributeName": "restore", "ValuesToAdd": ["all"]}),
    ("redshift", "AuthorizeSnapshotAccess", {"SnapshotIdentifier": "s", "AccountWithRestoreAccess": STRANGER}),
    ("ssm", "ModifyDocumentPermission", {"Name": "d", "PermissionType": "Share", "AccountIdsToAdd": ["all"]}),
    ("ecr", "SetRepositoryPolicy", {"repositoryName": "r", "policyText": OPEN}),
    ("secretsmanager", "PutResourcePolicy", {"SecretId": "s", "ResourcePolicy": OPEN}),
    ("dynamodb", "ExportTableToPointInTime", {"TableArn": f"arn:aws:dynamodb:eu-west-1:{OWN}:table/t", "S3Bucket": "x"}),
    ("dynamodb", "PutItem", {"TableName": f"arn:aws:dynamodb:eu-west-1:{STRANGER}:table/t", "Item": {"a": {"S": "x"}}}),
    ("kinesis", "PutRecord", {"StreamARN": f"arn:aws:kinesis:eu-west-1:{STRANGER}:stream/s", "Data": b"x", "PartitionKey": "k"}),
    ("iam", "AttachRolePolicy", {"RoleName": "r", "PolicyArn": f"arn:aws:iam::{STRANGER}:policy/p"}),
    ("s3control", "ListJobs", {"AccountId": STRANGER}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("service", "operation", "params"), STRANGERS, ids=[f"{s}-{o}-{n}" for n, (s, o, _) in enumerate(STRANGERS)]
)
def test_a_stranger_in_a_real_request_is_seen(service: str, operation: str, params: dict[str, Any]) -> None:
    call, request = recognised(service, operation, params)
    found = outside(call, request, PINNED)
    assert found is not None and "none of this session's accounts" in found


HOME = [
    ("s3", "PutObject", {"Bucket": "b", "Key": "k", "Body": ROLE.encode()}),
    ("s3", "PutObject", {"Bucket": "b", "Key": "k", "Body": b"x", "ExpectedBucketOwner": OWN}),
    ("dynamodb", "PutItem", {"TableName": "t", "Item": {"a": {"S": ROLE}}}),
    ("sqs", "SendMessage", {"QueueUrl": f"https://sqs.eu-west-1.amazonaws.com/{OWN}/q", "MessageBody": ROLE}),
    ("lambda", "AddPermission", {"FunctionName": "f", "StatementId": "s", "Action": "lambda:InvokeFunction",
                                 "Principal": "events.amazonaws.com", "SourceArn": f"arn:aws:events:eu-west-1:{OWN}:rule/r"}),
    ("ec2", "DescribeImages", {"Owners": ["099720109477"]}),
    ("ec2", "RunInstances", {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1}),
    ("sts", "GetCallerIdentity", {}),
    ("events", "PutEvents", {"Entries": [{"Source": "s", "DetailType": "t", "Detail": json.dumps({"who": ROLE})}]}),
    ("iam", "GetRole", {"RoleName": "r"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("service", "operation", "params"), HOME, ids=[f"{s}-{o}-{n}" for n, (s, o, _) in enumerate(HOME)]
)
def test_a_real_request_at_home_passes(service: str, operation: str, params: dict[str, Any]) -> None:
    call, request = recognised(service, operation, params)
    assert outside(call, request, PINNED) is None


SHIPPED = [
    ("developers", "sts", "GetCallerIdentity", {}, "allow"),
    ("developers", "s3", "CreateBucket", {"Bucket": "b", "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}, "allow"),
    ("developers", "s3", "PutObject", {"Bucket": "b", "Key": "k", "Body": b"x"}, "allow"),
    ("developers", "s3", "PutObject", {"Bucket": "b", "Key": "k", "Body": b"x", "ACL": "public-read"}, "deny"),
    ("developers", "s3", "GetObject", {"Bucket": "b", "Key": "k"}, "allow"),
    ("developers", "s3", "HeadObject", {"Bucket": "b", "Key": "k"}, "allow"),
    ("developers", "s3", "ListObjectsV2", {"Bucket": "b"}, "allow"),
    ("developers", "s3", "ListBuckets", {}, "allow"),
    ("developers", "s3", "DeleteBucket", {"Bucket": "b"}, "deny"),
    ("developers", "s3", "DeleteObjects", {"Bucket": "b", "Delete": {"Objects": [{"Key": "k"}]}}, "approve"),
    ("developers", "ec2", "DescribeInstances", {}, "allow"),
    ("developers", "ec2", "TerminateInstances", {"InstanceIds": ["i-1"]}, "approve"),
    ("guests", "ec2", "TerminateInstances", {"InstanceIds": ["i-1"]}, "deny"),
    ("developers", "dynamodb", "PutItem", {"TableName": "t", "Item": {"a": {"S": "x"}}}, "allow"),
    ("developers", "dynamodb", "GetItem", {"TableName": "t", "Key": {"a": {"S": "x"}}}, "allow"),
    ("developers", "secretsmanager", "GetSecretValue", {"SecretId": "s"}, "deny"),
    ("secrets-readers", "secretsmanager", "GetSecretValue", {"SecretId": "s"}, "allow"),
    ("developers", "ssm", "GetParameter", {"Name": "/a"}, "allow"),
    ("developers", "ssm", "GetParameter", {"Name": "/a", "WithDecryption": True}, "deny"),
    ("platform", "iam", "DeleteUser", {"UserName": "u"}, "deny"),
    ("developers", "iam", "CreateAccessKey", {"UserName": "u"}, "deny"),
    ("audit", "iam", "ListUsers", {}, "allow"),
    ("platform", "lambda", "UpdateFunctionCode", {"FunctionName": "f", "S3Bucket": "b", "S3Key": "k"}, "deny"),
    ("platform", "cloudtrail", "StopLogging", {"Name": "t"}, "deny"),
    ("sre", "ssm", "StartSession", {"Target": "i-1"}, "deny"),
    ("sre", "ecs", "ExecuteCommand", {"cluster": "c", "task": "t", "command": "ls", "interactive": True}, "deny"),
    ("sre", "ssm", "SendCommand", {"DocumentName": "AWS-RunShellScript", "Targets": [{"Key": "tag:a", "Values": ["b"]}],
                                   "Parameters": {"commands": ["uptime"]}}, "approve"),
    ("sre", "ssm", "SendCommand", {"DocumentName": "AWS-RunShellScript", "InstanceIds": ["i-1"],
                                   "Parameters": {"commands": ["echo ok", "sudo bash -c 'rm -fr /'"]}}, "deny"),
    ("developers", "rds-data", "ExecuteStatement", {"resourceArn": f"arn:aws:rds:eu-west-1:{OWN}:cluster:c",
     "secretArn": f"arn:aws:secretsmanager:eu-west-1:{OWN}:secret:s", "sql": "select * from t"}, "allow"),
    ("developers", "rds-data", "ExecuteStatement", {"resourceArn": f"arn:aws:rds:eu-west-1:{OWN}:cluster:c",
     "secretArn": f"arn:aws:secretsmanager:eu-west-1:{OWN}:secret:s", "sql": "select 1; drop/**/table t"}, "deny"),
    ("developers", "redshift-data", "BatchExecuteStatement", {"ClusterIdentifier": "c", "Database": "d",
     "Sqls": ["select 1", "truncate t"]}, "deny"),
    ("developers", "athena", "StartQueryExecution", {"QueryString": "SELECT * FROM t"}, "allow"),
    ("developers", "athena", "StartQueryExecution", {"QueryString": "INSERT INTO t SELECT * FROM u"}, "approve"),
    ("developers", "dynamodb", "ExecuteStatement", {"Statement": "SELECT * FROM t WHERE a = 1"}, "allow"),
    ("developers", "dynamodb", "ExecuteStatement", {"Statement": "DELETE FROM t WHERE a = 1"}, "approve"),
    ("developers", "sqs", "ReceiveMessage", {"QueueUrl": f"https://sqs.eu-west-1.amazonaws.com/{OWN}/q"}, "deny"),
    ("developers", "sts", "GetSessionToken", {}, "deny"),
    ("developers", "ecr", "GetAuthorizationToken", {}, "deny"),
    ("developers", "bedrock-runtime", "Converse", {"modelId": "m", "messages": []}, "allow"),
    ("developers", "cloudwatch", "PutMetricData", {"Namespace": "n", "MetricData": [{"MetricName": "m", "Value": 1.0}]}, "allow"),
]  # fmt: skip


@pytest.mark.parametrize(("group", "service", "operation", "params", "effect"), SHIPPED,
                         ids=[f"{g}-{o}-{n}" for n, (g, _, o, _, _) in enumerate(SHIPPED)])  # fmt: skip
def test_the_shipped_rules_on_real_requests(
    group: str, service: str, operation: str, params: dict[str, Any], effect: str
) -> None:
    call, request = recognised(service, operation, params)
    who = Principal("https://idp", "me", groups=frozenset({group}))
    decision = _shipped().decide(who, call, request, None)
    assert decision.effect == effect, (decision, call.actions, call.params)
    if effect == "approve":
        assert decision.terms is not None and decision.terms.approver_groups == {"sre"}
