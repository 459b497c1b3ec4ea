"""Services with rules of their own, judged by what their SDKs check."""

from __future__ import annotations

import base64
import hashlib
import json
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import boto3
import pytest
from masking_tools import alnum, call, github, headers, shipped
from moto import mock_aws
from ruamel.yaml import YAML as YamlReader

from flowwarden.masking import digests

RECEIVE = call("sqs:ReceiveMessage")


def test_masking_sqs_attribute_digest_is_the_services_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto's implementation of the algorithm gives the same digest."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    attributes = {
        "b": {"DataType": "String", "StringValue": "zwei"},
        "a": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
        "n": {"DataType": "Number.int", "StringValue": "5"},
    }
    with mock_aws():
        sqs = boto3.client("sqs", region_name="eu-west-1")
        url = sqs.create_queue(QueueName="q")["QueueUrl"]
        sent = sqs.send_message(QueueUrl=url, MessageBody="x", MessageAttributes=attributes)
    ours = digests.of_attributes(
        [("b", "String", b"zwei", False), ("a", "Binary", b"\x00\x01", True), ("n", "Number.int", b"5", False)]
    )
    assert ours == sent["MD5OfMessageAttributes"]


def test_masking_sqs_json_digests() -> None:
    """Body and attributes that were masked get new digests, the message beside them keeps its own."""
    token = github()
    attributes = {
        "t": {"DataType": "String", "StringValue": f"a {token}"},
        "b": {"DataType": "Binary", "BinaryValue": "AAE="},
    }
    body = {
        "Messages": [
            {"MessageId": "1", "Body": f"key {token}", "MD5OfBody": "old", "MessageAttributes": attributes, "MD5OfMessageAttributes": "old"},
            {"MessageId": "2", "Body": "clean", "MD5OfBody": "kept"},
        ]
    }  # fmt: skip
    out = json.loads(shipped().mask_answer(RECEIVE, 200, headers(), json.dumps(body).encode()).body)["Messages"]
    assert out[0]["Body"] == "key [MASKED:github-token]"
    assert out[0]["MD5OfBody"] == hashlib.md5(out[0]["Body"].encode()).hexdigest()
    assert out[0]["MD5OfMessageAttributes"] == digests.of_attributes(
        [("t", "String", b"a [MASKED:github-token]", False), ("b", "Binary", b"\x00\x01", True)]
    )
    assert out[1]["MD5OfBody"] == "kept"


def test_masking_sqs_xml_digests() -> None:
    """The query protocol's form."""
    token = github()
    body = (
        "<ReceiveMessageResponse><ReceiveMessageResult><Message><MD5OfBody>old</MD5OfBody>"
        f"<Body>a &lt;b&gt; {token}</Body><MD5OfMessageAttributes>old</MD5OfMessageAttributes><MessageAttribute><Name>n</Name>"
        "<Value><StringValue>v</StringValue><DataType>String</DataType></Value></MessageAttribute></Message>"
        "</ReceiveMessageResult></ReceiveMessageResponse>"
    ).encode()
    out = shipped().mask_answer(call("sqs:ReceiveMessage", "query"), 200, headers("text/xml"), body).body.decode()
    assert hashlib.md5(b"a <b> [MASKED:github-token]").hexdigest() in out
    assert digests.of_attributes([("n", "String", b"v", False)]) in out and "old" not in out


def test_masking_ssm_secure_strings() -> None:
    """SecureString values are hidden whatever they look like, other parameters are not."""
    body = {
        "Parameters": [
            {"Name": "a", "Type": "SecureString", "Value": "plain"},
            {"Name": "b", "Type": "String", "Value": "shown"},
        ]
    }
    out = json.loads(shipped().mask_answer(call("ssm:GetParameters"), 200, headers(), json.dumps(body).encode()).body)
    assert [p["Value"] for p in out["Parameters"]] == ["[MASKED:aws-members]", "shown"]


def test_masking_cloudformation_no_echo() -> None:
    """The default of a NoEcho parameter in a template, which is JSON in a string."""
    value = "Xy7" + alnum(9)
    template = {
        "Parameters": {
            "P": {"Type": "String", "NoEcho": True, "Default": value},
            "Q": {"Type": "String", "Default": "v"},
        }
    }
    body = json.dumps({"TemplateBody": json.dumps(template)}).encode()
    out = shipped().mask_answer(call("cloudformation:GetTemplate", "rest-json"), 200, headers(), body).body
    assert (
        value.encode() not in out and json.loads(json.loads(out)["TemplateBody"])["Parameters"]["Q"]["Default"] == "v"
    )


YAML = """Parameters:
  # the database
  Shown:
    Type: String
    Default: shown1
  Plain:
    Type: String
    Default: hidden1  # not for you
    NoEcho: true
  Behind:
    NoEcho: 'true'

    Description: x
    "Default": "hidden2"
  Folded:
    NoEcho: Yes
    Default: >-
      hidden3
      and hidden4
    Type: String
  Flow: {Type: String, NoEcho: true, Default: hidden5}
  FlowBefore: { Default: 'hidden6, it''s', "NoEcho": "true", AllowedPattern: "a{2}" }
  False:
    NoEcho: false
    Default: shown2
  Other: {Default: shown3}
Resources:
  A:
    Default: shown4
    Type: AWS::S3::Bucket
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("way", ["json", "xml", "text", "cdata"])
def test_masking_cloudformation_no_echo_in_yaml(way: str, end: str) -> None:
    """Defaults in any form of YAML, before and behind NoEcho, in every carrier of a template."""
    text = YAML.replace("\n", end)
    called = call("cloudformation:GetTemplate", "query")
    bodies = {
        "json": ("application/json", json.dumps({"TemplateBody": text})),
        "xml": ("text/xml", f"<R><TemplateBody>{escape(text)}</TemplateBody></R>"),
        "cdata": ("text/xml", f"<R><TemplateBody><![CDATA[{text}]]></TemplateBody></R>"),
        "text": ("application/yaml", text),
    }
    kind, body = bodies[way]
    out = shipped().mask_answer(called, 200, headers(kind), body.encode())
    assert b"hidden" not in out.body and all(b"shown%d" % n in out.body for n in range(1, 5))
    assert out.counts == {"aws-members": 5}
    made = {"json": lambda: json.loads(out.body)["TemplateBody"], "text": out.body.decode}.get(
        way,
        lambda: ElementTree.fromstring(out.body).findtext("TemplateBody"),  # noqa: S314
    )()
    read = YamlReader(typ="safe").load(made)["Parameters"]
    assert {name for name, parameter in read.items() if "MASKED" in parameter["Default"]} == {
        "Plain", "Behind", "Folded", "Flow", "FlowBefore",
    }  # fmt: skip


@pytest.mark.parametrize("order", ["{d}{n}", "{n}{d}"])
def test_masking_cloudformation_no_echo_in_xml(order: str) -> None:
    """GetTemplateSummary and ValidateTemplate tell of parameters as XML, in any order of their members."""
    member = "<member><ParameterKey>P</ParameterKey>" + order + "</member>"
    hidden = member.format(d="<DefaultValue>hidden &amp; plain</DefaultValue>", n="<NoEcho>true</NoEcho>")
    shown = member.format(d="<DefaultValue>shown</DefaultValue>", n="<NoEcho>false</NoEcho>")
    body = f"<R><Parameters>{hidden}{shown}</Parameters></R>".encode()
    out = shipped().mask_answer(call("cloudformation:GetTemplateSummary", "query"), 200, headers("text/xml"), body)
    assert [node.text for node in ElementTree.fromstring(out.body).iter("DefaultValue")] == [  # noqa: S314
        "[MASKED:aws-members]",
        "shown",
    ]


@pytest.mark.parametrize(
    ("operation", "body", "secrets"),
    [
        ("lambda:GetFunctionConfiguration", {"Environment": {"Variables": {"A": "one1", "B": "two2"}}}, ["one1", "two2"]),
        ("ecs:DescribeTaskDefinition", {"taskDefinition": {"containerDefinitions": [{"environment": [{"name": "A", "value": "one1"}]}]}}, ["one1"]),
        ("codebuild:BatchGetProjects", {"projects": [{"environment": {"environmentVariables": [{"name": "A", "value": "one1"}]}}]}, ["one1"]),
        ("ecr:GetAuthorizationToken", {"authorizationData": [{"authorizationToken": "one1"}]}, ["one1"]),
        ("codeartifact:GetAuthorizationToken", {"authorizationToken": "one1"}, ["one1"]),
        ("iot:CreateKeysAndCertificate", {"keyPair": {"PublicKey": "pub", "PrivateKey": "one1"}}, ["one1"]),
        ("ssm:StartSession", {"TokenValue": "one1", "SessionId": "s"}, ["one1"]),
        ("cognito-idp:InitiateAuth", {"AuthenticationResult": {"AccessToken": "one1", "IdToken": "two2"}}, ["one1", "two2"]),
        ("kms:Decrypt", {"Plaintext": "b25lMQ==", "KeyId": "k"}, ["b25lMQ=="]),
        ("sso:GetRoleCredentials", {"roleCredentials": {"accessKeyId": "id", "secretAccessKey": "one1", "sessionToken": "two2"}}, ["one1", "two2"]),
        ("apprunner:DescribeService", {"Service": {"SourceConfiguration": {"ImageRepository": {"ImageConfiguration": {"RuntimeEnvironmentVariables": {"A": "one1"}}}}}}, ["one1"]),
    ],
)  # fmt: skip
def test_masking_secret_bearing_members(operation: str, body: object, secrets: list[str]) -> None:
    """The members that the issue of secrets is about, without a list from the user."""
    out = shipped().mask_answer(call(operation), 200, headers(), json.dumps(body).encode())
    assert out.counts.total() == len(secrets)
    for secret in secrets:
        assert secret.encode() not in out.body
    json.loads(out.body)


XML = {
    "iam:CreateAccessKey": (
        "<AccessKey><AccessKeyId>AKIA</AccessKeyId><SecretAccessKey>{}</SecretAccessKey></AccessKey>",
        False,
    ),
    "ec2:DescribeInstanceAttribute": ("<instanceId>i</instanceId><userData><value>{}</value></userData>", True),
    "ec2:GetPasswordData": ("<passwordData>{}</passwordData>", False),
    "ec2:CreateKeyPair": ("<keyName>n</keyName><keyMaterial>{}</keyMaterial>", False),
}


@pytest.mark.parametrize("operation", XML)
def test_masking_secret_bearing_elements(operation: str) -> None:
    """The same for the XML protocols; what is base64 stays base64."""
    form, blob = XML[operation]
    secret = base64.b64encode(b"short and plain").decode() if blob else "one1"
    body = f"<R xmlns='urn:x'>{form.format(secret)}</R>".encode()
    out = shipped().mask_answer(call(operation, "query"), 200, headers("text/xml"), body)
    assert secret.encode() not in out.body and out.counts == {"aws-members": 1}


def test_masking_pagination_tokens_survive() -> None:
    """Tokens that page through results are marked sensitive by some services, and must not be masked."""
    body = json.dumps({"nextToken": alnum(300), "NextToken": alnum(90), "clientToken": alnum(36)}).encode()
    for operation in ("bedrock-agent:ListPrompts", "qconnect:ListAssistants", "logs:FilterLogEvents"):
        assert shipped().mask_answer(call(operation), 200, headers(), body).body is body
