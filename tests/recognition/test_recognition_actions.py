"""From operation to IAM action: the everyday ones spelled out, all of them judged by AWS's published table where it is at hand."""

from __future__ import annotations

import functools
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from flowwarden.recognition import iam, models
from flowwarden.recognition.conditions import roles, values_at
from flowwarden.recognition.recogniser import Recogniser
from flowwarden.types import Request

ACCOUNT = "123456789012"
TABLE = Path(
    os.environ.get("FLOWWARDEN_OPERATION_ACTIONS")
    or Path(__file__).parents[3] / "shared" / "data" / "operation-actions.json.gz"
)

# Where the table does not name the action that the gateway puts first, and why the gateway keeps its own.
DIFFERENCES = {
    "connect:CreateExtractionDefinition": "the table names the tagging only; what no source maps keeps its own name",
    "connect:CreateTestCase": "the table names the tagging only",
    "ec2:CreateIpamInternetRegistryAssociation": "the table names the tagging only",
    "mediatailor:PutFunction": "the table names the tagging only",
    "dynamodb:RestoreTableToPointInTime": "the table leaves out the action of the same name, which IAM has",
    "lambda:InvokeAsync": "the deprecated call needs lambda:InvokeFunction first, as its API page says",
    "s3control:DeletePublicAccessBlock": "the account's block is s3:PutAccountPublicAccessBlock; the table names the bucket's",
    "s3control:GetPublicAccessBlock": "the account's block is s3:GetAccountPublicAccessBlock; the table names the bucket's",
    "s3control:PutPublicAccessBlock": "the account's block is s3:PutAccountPublicAccessBlock; the table names the bucket's",
    "sso-oidc:CreateToken": "unsigned: the table names the signed twin's action",
    "waf-regional:DisassociateWebACL": "the table leaves out the action of the same name, which IAM has",
}


def ask(
    recogniser: Recogniser, method: str, host: str, target: str, *headers: tuple[str, str], body: bytes = b""
) -> Any:
    lines = tuple((name.encode(), value.encode()) for name, value in headers)
    return recogniser.recognise(Request(method, "https", host, 443, target, lines, body), account=ACCOUNT)


def names(call: Any) -> list[str]:
    return sorted(action.name for action in call.actions)


S3 = "b.s3.eu-west-1.amazonaws.com"
PUT = {
    (): ["s3:PutObject"],
    (("x-amz-tagging", "a=b"),): ["s3:PutObject", "s3:PutObjectTagging"],
    (("x-amz-acl", "public-read"),): ["s3:PutObject", "s3:PutObjectAcl"],
    (("x-amz-grant-read", "id=x"),): ["s3:PutObject", "s3:PutObjectAcl"],
    (("x-amz-object-lock-mode", "GOVERNANCE"),): ["s3:PutObject", "s3:PutObjectRetention"],
    (("x-amz-object-lock-legal-hold", "ON"),): ["s3:PutObject", "s3:PutObjectLegalHold"],
    (("x-amz-copy-source", "a/k"),): ["s3:GetObject", "s3:PutObject"],
    (("x-amz-copy-source", "a/k?versionId=1"), ("x-amz-tagging", "a=b")): [
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:PutObject",
        "s3:PutObjectTagging",
    ],
}


@pytest.mark.parametrize("headers", PUT)
def test_headers_of_a_put_add_actions(headers: tuple[tuple[str, str], ...], recogniser: Recogniser) -> None:
    """Tags, ACLs, locks and copy sources on one PUT need each their own action."""
    assert names(ask(recogniser, "PUT", S3, "/k", *headers)) == PUT[headers]


def test_a_presigned_acl_counts_like_a_header(recogniser: Recogniser) -> None:
    """Presigning moves headers into the query; they still mean what they mean."""
    assert names(ask(recogniser, "PUT", S3, "/k?x-amz-acl=public-read")) == ["s3:PutObject", "s3:PutObjectAcl"]


TARGETS: dict[str, tuple[str, str, Any, list[str]]] = {
    "version": ("DELETE", "/k?versionId=1", b"", ["s3:DeleteObject", "s3:DeleteObjectVersion"]),
    "read version": ("GET", "/k?versionId=1", b"", ["s3:GetObject", "s3:GetObjectVersion"]),
    "head": ("HEAD", "/k", b"", ["s3:GetObject"]),
    "list": ("GET", "/?list-type=2", b"", ["s3:ListBucket"]),
    "cors": ("DELETE", "/?cors", b"", ["s3:PutBucketCORS"]),
    "versions deleted": (
        "POST",
        "/?delete",
        b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key><VersionId>1</VersionId></Object></Delete>",
        ["s3:DeleteObject", "s3:DeleteObjectVersion"],
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_s3_names(name: str, recogniser: Recogniser) -> None:
    """S3's operations have other names in IAM, and versions other actions."""
    method, target, body, expected = TARGETS[name]
    assert names(ask(recogniser, method, S3, target, body=body)) == expected


def test_arns_of_deleted_objects(recogniser: Recogniser) -> None:
    """A batch is about each of its objects."""
    call = ask(recogniser, "POST", S3, "/?delete", body=TARGETS["versions deleted"][2])
    assert call.resources == ("arn:aws:s3:::b/a", "arn:aws:s3:::b/b")


def test_a_copy_is_about_both_objects(recogniser: Recogniser) -> None:
    """Its source is a resource, wherever the header's encoding hides it."""
    call = ask(recogniser, "PUT", S3, "/k", ("x-amz-copy-source", "%2Fother/some%20key"))
    assert set(call.resources) == {"arn:aws:s3:::b/k", "arn:aws:s3:::other/some key"}


def dynamo(recogniser: Recogniser, operation: str, body: Any) -> Any:
    headers = (("content-type", "application/x-amz-json-1.0"), ("x-amz-target", f"DynamoDB_20120810.{operation}"))
    return ask(recogniser, "POST", "dynamodb.eu-west-1.amazonaws.com", "/", *headers, body=json.dumps(body).encode())


def test_partiql_and_transactions(recogniser: Recogniser) -> None:
    """A statement needs the action of its verb; one whose verb cannot be seen needs all four."""
    assert names(dynamo(recogniser, "ExecuteStatement", {"Statement": 'SELECT * FROM "t"'})) == [
        "dynamodb:PartiQLSelect"
    ]
    assert names(dynamo(recogniser, "ExecuteStatement", {"Statement": ' \n delete FROM "t"'})) == [
        "dynamodb:PartiQLDelete"
    ]
    assert len(names(dynamo(recogniser, "ExecuteStatement", {"Statement": "--\nDELETE"}))) == 4
    batch = {"Statements": [{"Statement": "SELECT 1"}, {"Statement": "UPDATE t"}]}
    assert names(dynamo(recogniser, "BatchExecuteStatement", batch)) == [
        "dynamodb:PartiQLSelect",
        "dynamodb:PartiQLUpdate",
    ]
    batch["Statements"].append({"Statement": "/**/ DELETE"})
    assert len(names(dynamo(recogniser, "BatchExecuteStatement", batch))) == 4
    items = {"TransactItems": [{"Put": {"TableName": "t", "Item": {}}}, {"ConditionCheck": {"TableName": "u"}}]}
    call = dynamo(recogniser, "TransactWriteItems", items)
    assert names(call) == ["dynamodb:ConditionCheckItem", "dynamodb:PutItem"]
    table = "arn:aws:dynamodb:eu-west-1:123456789012:table/"
    assert set(call.resources) == {table + "t", table + "u"}


def query(recogniser: Recogniser, host: str, text: str) -> Any:
    return ask(recogniser, "POST", host, "/", ("content-type", "application/x-www-form-urlencoded"), body=text.encode())


def test_tags_and_roles_in_ec2(recogniser: Recogniser) -> None:
    """Tags on creation are ec2:CreateTags, an instance profile is a passed role."""
    text = "Action=RunInstances&Version=2016-11-15&ImageId=ami-1&MinCount=1&MaxCount=1"
    host = "ec2.eu-west-1.amazonaws.com"
    assert names(query(recogniser, host, text)) == ["ec2:RunInstances"]
    tagged = (
        text
        + "&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=b"
    )
    assert names(query(recogniser, host, tagged)) == ["ec2:CreateTags", "ec2:RunInstances"]
    call = query(recogniser, host, text + "&IamInstanceProfile.Name=admin")
    assert names(call) == ["ec2:RunInstances", "iam:PassRole"]
    assert None in call.resources  # the role in a profile is not known


def test_a_role_for_lambda_is_passed(recogniser: Recogniser) -> None:
    """CreateFunction passes its role, and the role is among the resources."""
    role = "arn:aws:iam::123456789012:role/strong"
    body = json.dumps({"FunctionName": "f", "Role": role, "Code": {}, "Tags": {"a": "b"}}).encode()
    call = ask(recogniser, "POST", "lambda.eu-west-1.amazonaws.com", "/2015-03-31/functions", body=body)
    assert names(call) == ["iam:PassRole", "lambda:CreateFunction", "lambda:TagResource"]
    assert role in call.resources and "arn:aws:lambda:eu-west-1:123456789012:function:f" in call.resources


def test_a_role_that_is_the_subject_is_not_passed(recogniser: Recogniser) -> None:
    """sts:AssumeRole names a role and passes none."""
    text = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::999999999999:role/x&RoleSessionName=s"
    call = query(recogniser, "sts.eu-west-1.amazonaws.com", text)
    assert names(call) == ["sts:AssumeRole"] and call.resources == ("arn:aws:iam::999999999999:role/x",)


def test_elsewhere_than_in_plain_s3(recogniser: Recogniser) -> None:
    """Directory buckets, Outposts and Object Lambda have actions of their own, beside those of S3."""
    call = ask(recogniser, "GET", "b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", "/k")
    assert names(call) == ["s3:GetObject", "s3express:CreateSession"]
    call = ask(recogniser, "DELETE", "s3express-control.us-east-1.amazonaws.com", "/b--use1-az4--x-s3")
    assert names(call) == ["s3:DeleteBucket", "s3express:DeleteBucket"]
    call = ask(recogniser, "GET", "fn-123456789012.s3-object-lambda.eu-west-1.amazonaws.com", "/k")
    assert names(call) == ["s3-object-lambda:GetObject", "s3:GetObject"]


def test_what_cannot_be_filled_is_none(recogniser: Recogniser) -> None:
    """An ARN without its account, an id that is an alias, and a partial ARN are not known."""
    text = b'{"KeyId": "alias/mine", "Plaintext": "AA=="}'
    headers = (("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "TrentService.Encrypt"))
    call = ask(recogniser, "POST", "kms.eu-west-1.amazonaws.com", "/", *headers, body=text)
    assert call.resources == (None,)
    call = ask(recogniser, "GET", "lambda.eu-west-1.amazonaws.com", "/2015-03-31/functions/999999999999%3Afunction%3Af")
    assert None in call.resources
    request = Request("GET", "https", "lambda.eu-west-1.amazonaws.com", 443, "/2015-03-31/functions/f")
    assert recogniser.recognise(request).resources == (None,)


def test_a_queue_belongs_to_the_account_in_its_url(recogniser: Recogniser) -> None:
    """A stranger's queue does not become one's own."""
    body = b'{"QueueUrl": "https://sqs.eu-west-1.amazonaws.com/999999999999/q", "MessageBody": "x"}'
    headers = (("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "AmazonSQS.SendMessage"))
    call = ask(recogniser, "POST", "sqs.eu-west-1.amazonaws.com", "/", *headers, body=body)
    assert call.resources == ("arn:aws:sqs:eu-west-1:999999999999:q",)


def test_levels_are_split_and_the_unknown_has_none() -> None:
    """A composite level is two; an action that no source knows has no level and an unknown resource."""
    assert iam.details("s3:PutObject")["levels"] == ["Write"]
    composite = iam.details("s3:PutObjectTagging")["levels"]
    assert composite and all("," not in level for level in composite)
    assert iam.details("nothing:Nothing") == {"levels": [], "arns": [["", True]]}


def test_paths_go_through_lists_and_maps() -> None:
    """A role in a list of structures or in a map is seen; a text that is none is not."""
    params = {"a": [{"roleArn": "arn:aws:iam::1:role/x"}, {"roleArn": "arn:aws:s3:::b"}], "m": {"k": {"Role": "name"}}}
    assert list(roles(["a.roleArn", "m.Role"], params)) == ["arn:aws:iam::1:role/x", "name"]
    assert list(values_at(params, ("x", "y"))) == []


def test_every_exception_is_used_and_cites_its_page() -> None:
    """The data file speaks of operations and actions that exist, and says where each group comes from."""
    data = json.loads(iam.EXCEPTIONS.read_text())
    for group in [
        *data["operations"],
        *data["conditions"],
        data["prefixes"],
        data["verbs"],
        data["passing"],
        data["tagging"],
    ]:
        assert group["page"].startswith("https://docs.aws.amazon.com/") and group["why"]
    for group in [*data["operations"], *data["conditions"]]:
        for service, operations in group["services"].items():
            assert set(operations) <= set(models.load(service, "service-2")["operations"]), service


@functools.cache
def mapping() -> dict[str, Any]:
    return {name: iam.map_service(models.strip_service(name)) for name in models.service_names()}


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, list[str]]]:
    if not TABLE.exists():
        pytest.skip(f"AWS's published table is not at hand: {TABLE} (set FLOWWARDEN_OPERATION_ACTIONS)")
    found: dict[str, dict[str, list[str]]] = json.loads(gzip.decompress(TABLE.read_bytes()))
    return found


def test_the_primary_action_is_the_published_one(published: dict[str, dict[str, list[str]]]) -> None:
    """At least 99 % of the table's operations contain the action that the gateway puts first; each difference is explained."""
    judged = 0
    different = set()
    for service, found in mapping().items():
        for operation, actions in found["operations"].items():
            listed = {action.lower() for action in published.get(service, {}).get(operation, ())}
            judged += bool(listed)
            if listed and actions[0].lower() not in listed:
                different.add(f"{service}:{operation}")
    share = 1 - len(different) / judged
    print(f"{judged} operations judged, {share:.2%} contain the primary action")
    assert share >= 0.99 and different == set(DIFFERENCES)


def test_passed_roles_and_tags_are_mostly_the_published_ones(published: dict[str, dict[str, list[str]]]) -> None:
    """Where the table says that a role is passed or a tag set, the gateway mostly looks for it (the rest carry none as such)."""
    wanted = {"iam:PassRole": [0, 0], "tag": [0, 0]}
    for service, found in mapping().items():
        for operation in found["operations"]:
            listed = published.get(service, {}).get(operation, ())
            own = {action for rule in found["when"].get(operation, ()) for action in rule["actions"]}
            own.update(found["operations"][operation])
            tags = [
                action for action in listed if action.endswith((":TagResource", ":CreateTags", ":AddTagsToResource"))
            ]
            for kind, there, seen in (
                ("iam:PassRole", "iam:PassRole" in listed, "iam:PassRole" in own),
                ("tag", bool(tags), bool(own & set(tags))),
            ):
                wanted[kind][0] += there
                wanted[kind][1] += there and seen
    print({kind: f"{seen}/{there}" for kind, (there, seen) in wanted.items()})
    assert wanted["iam:PassRole"][1] >= 0.88 * wanted["iam:PassRole"][0]
    assert wanted["tag"][1] >= 0.95 * wanted["tag"][0]


def secret(recogniser: Recogniser, name: str) -> Any:
    headers = (("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "secretsmanager.GetSecretValue"))
    body = json.dumps({"SecretId": name}).encode()
    return ask(recogniser, "POST", "secretsmanager.eu-west-1.amazonaws.com", "/", *headers, body=body).resources


def test_a_secret_by_name_has_six_unknown_characters(recogniser: Recogniser) -> None:
    """AWS's own way to write a secret's ARN whose suffix is not known; a whole ARN stays what it is."""
    whole = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf"
    assert secret(recogniser, "prod/db") == ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-??????",)
    assert secret(recogniser, whole) == (whole,)
    assert secret(recogniser, whole.replace("123456789012", "999999999999"))[0].split(":")[4] == "999999999999"


RESOURCES = {
    "ec2": ("Action=RevokeSecurityGroupIngress&Version=2016-11-15&GroupId=sg-1", "arn:aws:ec2:eu-west-1:123456789012:security-group/sg-1"),
    "rds": ("Action=DeleteDBCluster&Version=2014-10-31&DBClusterIdentifier=c", "arn:aws:rds:eu-west-1:123456789012:cluster:c"),
    "sns": ("Action=CreateTopic&Version=2010-03-31&Name=t", "arn:aws:sns:eu-west-1:123456789012:t"),
    "elasticloadbalancing": (
        "Action=DeleteLoadBalancer&Version=2012-06-01&LoadBalancerName=lb",
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/lb",
    ),
}  # fmt: skip


@pytest.mark.parametrize("service", RESOURCES)
def test_parameters_with_other_names(service: str, recogniser: Recogniser) -> None:
    """The ARN's variable and the parameter are often not called alike."""
    text, arn = RESOURCES[service]
    assert arn in query(recogniser, f"{service}.eu-west-1.amazonaws.com", text).resources


def test_batches_are_about_each_table(recogniser: Recogniser) -> None:
    """DynamoDB names tables in the keys of a map."""
    call = dynamo(recogniser, "BatchGetItem", {"RequestItems": {"a": {"Keys": []}, "b": {"Keys": []}}})
    table = "arn:aws:dynamodb:eu-west-1:123456789012:table/"
    assert set(call.resources) == {table + "a", table + "b"}


def test_calls_without_a_signature(recogniser: Recogniser) -> None:
    """Operations that need no credentials say so."""
    text = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=x&RoleSessionName=s&WebIdentityToken=t"
    assert query(recogniser, "sts.eu-west-1.amazonaws.com", text).unsigned is True
    assert (
        query(recogniser, "sts.eu-west-1.amazonaws.com", "Action=GetCallerIdentity&Version=2011-06-15").unsigned
        is False
    )


def test_a_parameter_of_ssm_has_one_slash(recogniser: Recogniser) -> None:
    """Its ARN leaves out the slash that its name begins with."""
    headers = (("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "AmazonSSM.GetParameters"))
    body = b'{"Names": ["/prod/db", "plain"]}'
    call = ask(recogniser, "POST", "ssm.eu-west-1.amazonaws.com", "/", *headers, body=body)
    base = "arn:aws:ssm:eu-west-1:123456789012:parameter/"
    assert call.resources == (base + "prod/db", base + "plain")
