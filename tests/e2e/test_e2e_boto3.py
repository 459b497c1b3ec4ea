"""boto3, unmodified, through the gateway to the strict AWS: allowed, denied, held, masked, swapped."""

from __future__ import annotations

import io
import json
import random
import string
import threading
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from support.clients import boto_client, eventually
from support.gateway import ROLE
from support.strict_aws import Answer, Exchange
from support.way import Way

KEYS = [
    "plain",
    "a b+c=d%e:f@g!h'i(j)k*l~m#n?o[p]",
    "grüße/日本",
    "double//slash",
    "a%2Fb",
    "trailing/",
    "./dot",
    "a/../dot",
]


def s3(env: dict[str, str], **options: Any) -> Any:
    return boto_client("s3", env, **options)


def test_a_call_leaves_with_the_lease_and_without_the_phantom(way: Way, alice: dict[str, str]) -> None:
    """What AWS sees is signed with credentials that STS gave for this session; nothing of the agent's own is in it."""
    arn = boto_client("sts", alice).get_caller_identity()["Arn"]
    (seen,) = way.calls
    lease = next(lease for lease in way.aws.sts.leases if lease.made and lease.made.key_id == seen.key_id)
    assert lease.role == ROLE and arn.endswith(f"/{lease.session_name}")
    assert 900 <= lease.duration <= 3600
    assert "alice" in json.dumps(lease.tags) + lease.session_name + lease.source_identity
    text = json.dumps(seen.fields)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "FLOWWARDEN_HANDLE"):
        assert alice[name] not in text
    assert not any(name.lower().startswith("proxy") for name, _ in seen.fields)


@pytest.mark.parametrize("key", KEYS)
def test_s3_keys(way: Way, alice: dict[str, str], key: str) -> None:
    """Every key arrives as it was meant, with today's default upload (an unsigned body with a trailer)."""
    body = key.encode() * 100
    client = s3(alice)
    client.put_object(Bucket="bucket", Key=key, Body=body)
    assert way.calls[-1].payload == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    assert way.aws.s3.buckets["bucket"].objects[key].data == body
    assert client.get_object(Bucket="bucket", Key=key)["Body"].read() == body
    assert client.head_object(Bucket="bucket", Key=key)["ContentLength"] == len(body)
    assert key in [row["Key"] for row in client.list_objects_v2(Bucket="bucket", Prefix=key[:3])["Contents"]]
    assert not way.aws.refused
    client.delete_object(Bucket="bucket", Key=key)


def test_other_protocols(way: Way, alice: dict[str, str]) -> None:
    boto_client("dynamodb", alice).put_item(TableName="t", Item={"k": {"S": "v"}})
    boto_client("lambda", alice).get_function(FunctionName="arn:aws:lambda:eu-central-1:123456789012:function:f")
    boto_client("ec2", alice).describe_instances(Filters=[{"Name": "tag:a b", "Values": ["*+~"]}])
    boto_client("iam", alice).list_users()
    assert [seen.service for seen in way.calls] == ["dynamodb", "lambda", "ec2", "iam"]
    assert not way.aws.refused


def test_multipart_and_empty_and_checksums(way: Way, alice: dict[str, str]) -> None:
    data = random.Random(1).randbytes(10 << 20)
    client = s3(alice)
    client.upload_fileobj(io.BytesIO(data), "bucket", "big")
    assert way.aws.s3.buckets["bucket"].objects["big"].data == data
    client.put_object(Bucket="bucket", Key="empty", Body=b"")
    for kind in ("CRC32C", "SHA1", "SHA256", "CRC64NVME"):
        client.put_object(Bucket="bucket", Key="sum", Body=b"x" * 3000, ChecksumAlgorithm=kind)
    s3(
        alice, config=Config(s3={"payload_signing_enabled": True}, request_checksum_calculation="when_required")
    ).put_object(Bucket="bucket", Key="hashed", Body=b"hashed")
    assert way.aws.s3.buckets["bucket"].objects["hashed"].data == b"hashed"
    assert not way.aws.refused


DENIED = [
    ("iam", "delete_user", {"UserName": "u"}, "keep-iam-users", "Identity changes go through Terraform."),
    ("iam", "create_access_key", {"UserName": "u"}, "keep-iam-users", "Identity changes go through Terraform."),
    ("s3", "delete_bucket", {"Bucket": "bucket"}, "keep-buckets", "Buckets are for ever."),
    ("kms", "list_keys", {}, "", ""),
    ("cloudwatch", "list_metrics", {}, "", ""),
    ("efs", "describe_file_systems", {}, "", ""),
]


@pytest.mark.parametrize(("service", "method", "parameters", "rule", "reason"), DENIED)
def test_denied(
    way: Way, alice: dict[str, str], service: str, method: str, parameters: dict[str, Any], rule: str, reason: str
) -> None:
    """An SDK shows a normal AccessDenied that names the rule and the reason, and AWS sees nothing."""
    with pytest.raises(ClientError) as caught:
        getattr(boto_client(service, alice), method)(**parameters)
    error = caught.value.response
    assert error["Error"]["Code"] == "AccessDenied"
    assert rule in error["Error"]["Message"] and reason in error["Error"]["Message"]
    headers = error["ResponseMetadata"]["HTTPHeaders"]
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert not rule or headers["x-flowwarden-rule"] == rule
    assert reason in headers["x-flowwarden-reason"]
    assert way.calls == []


def test_a_denied_head_says_why_in_its_header(way: Way, bob: dict[str, str]) -> None:
    outsider = way.gateway.session(subject="dave", groups=("sre",))
    with pytest.raises(ClientError) as caught:
        s3(outsider).head_object(Bucket="bucket", Key="k")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["x-flowwarden-reason"]
    assert way.calls == []


class Held:
    """A call that waits in a thread."""

    def __init__(self, env: dict[str, str], method: str = "terminate_instances", instance: str = "i-0abc") -> None:
        self.result: Any = None

        def run() -> None:
            try:
                self.result = getattr(boto_client("ec2", env), method)(InstanceIds=[instance])
            except ClientError as error:
                self.result = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def wait(self) -> Any:
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.result


def question(way: Way, approver: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = eventually(lambda: way.gateway.questions(approver), what="an open question")
    assert len(found) == 1
    return found[0]


def test_held_and_approved(way: Way, alice: dict[str, str], approver: str) -> None:
    """The call waits, a second principal approves it, and it is carried out once."""
    held = Held(alice, instance="i-0approved")
    asked = question(way, approver)
    assert way.calls == [] and held.thread.is_alive()
    status, answer = way.gateway.operators("POST", f"/approvals/{asked['id']}/answer", approver, {"approve": True})
    assert status == 200, answer
    assert not isinstance(held.wait(), ClientError), held.result
    assert [seen.action for seen in way.calls] == ["TerminateInstances"]


def test_held_and_denied(way: Way, alice: dict[str, str], approver: str) -> None:
    held = Held(alice, instance="i-0denied")
    asked = question(way, approver)
    body = {"approve": False, "reason": "not on a Friday"}
    assert way.gateway.operators("POST", f"/approvals/{asked['id']}/answer", approver, body)[0] == 200
    error = held.wait()
    assert isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert "not on a Friday" in str(error)
    assert way.calls == []


def test_the_requester_and_the_owner_cannot_approve(way: Way, approver: str) -> None:
    """Nobody answers a question of their own, by whatever group."""
    env = way.gateway.session(subject="erin", groups=("developers", "sre"), owner="frank")
    held = Held(env, instance="i-0own")
    asked = question(way, approver)
    path = f"/approvals/{asked['id']}/answer"
    for token in (
        way.issuer.token("erin", ("sre",), owner="else"),
        way.issuer.token("frank", ("sre",)),
        way.issuer.token("alice", ("developers",)),
    ):
        status, _ = way.gateway.operators("POST", path, token, {"approve": True})
        assert status in {403, 404, 409}
    assert way.calls == [] and held.thread.is_alive()
    way.gateway.operators("POST", path, approver, {"approve": False, "reason": "no"})
    assert isinstance(held.wait(), ClientError)


def test_a_question_without_an_answer_is_denied(way: Way, alice: dict[str, str]) -> None:
    error = Held(alice, "stop_instances").wait()
    assert isinstance(error, ClientError)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert way.calls == []


def test_masked_in_json(way: Way, alice: dict[str, str]) -> None:
    """The agent gets the mask; AWS's answer was not touched on its way to the gateway."""
    secret = "hunter" + "".join(random.choices(string.ascii_letters, k=20))

    def answer(exchange: Exchange) -> Answer | None:
        if exchange.seen.action != "GetSecretValue":
            return None
        body = json.dumps({"Name": "n", "ARN": "arn:aws:secretsmanager:x", "SecretString": secret})
        return 200, {"content-type": "application/x-amz-json-1.1"}, body.encode()

    way.aws.answer(answer)
    found = boto_client("secretsmanager", alice).get_secret_value(SecretId="n")
    assert found["Name"] == "n" and secret not in json.dumps(found, default=str)
    assert found["SecretString"]
    assert len(way.calls) == 1


@pytest.mark.parametrize("checksum", ["when_supported", "when_required"])
def test_masked_in_an_object(way: Way, alice: dict[str, str], checksum: str) -> None:
    """An object that holds a token is read masked, with the length that HEAD says, and no SDK checksum breaks."""
    token = "ghp_" + "".join(random.choices(string.ascii_letters + string.digits, k=36))
    text = f"line one\nexport TOKEN={token}\nline three\n".encode()
    client = s3(alice, config=Config(response_checksum_validation=checksum))

    def answer(exchange: Exchange) -> Answer | None:
        if exchange.method != "GET" or not exchange.path.endswith("with-token"):
            return None
        return 200, {"content-type": "text/plain", "x-amz-checksum-crc32": "AAAAAA==", "etag": '"1"'}, text

    way.aws.answer(answer)
    found = client.get_object(Bucket="bucket", Key="with-token")["Body"].read()
    assert token.encode() not in found and b"line one" in found and b"line three" in found


def test_credentials_in_an_answer_are_swapped_and_work(way: Way, alice: dict[str, str]) -> None:
    """AssumeRole's real credentials stay in the gateway; what the agent gets works through it and nowhere else."""
    leases = len(way.aws.sts.leases)
    made = boto_client("sts", alice).assume_role(RoleArn=ROLE, RoleSessionName="mine")["Credentials"]
    real = next(lease.made for lease in way.aws.sts.leases[leases:] if lease.session_name == "mine")
    assert real is not None
    assert made["AccessKeyId"] != real.key_id and made["SecretAccessKey"] != real.secret
    assert made["SessionToken"] != real.token
    env = alice | {
        "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
        "AWS_SESSION_TOKEN": made["SessionToken"],
    }
    assert boto_client("sts", env).get_caller_identity()["Arn"].endswith("/mine")
    assert way.calls[-1].key_id == real.key_id
    with pytest.raises(ClientError, match="keep-buckets"):
        s3(env).delete_bucket(Bucket="bucket")


def test_a_redirect_is_the_clients_to_follow(way: Way, alice: dict[str, str]) -> None:
    """A 307 to another region comes back as it is; the gateway follows nothing."""
    elsewhere = "https://sts.us-west-2.amazonaws.com/"
    way.aws.answer(lambda exchange: (307, {"location": elsewhere}, b"") if exchange.method == "GET" else None)
    url = "https://lambda.eu-central-1.amazonaws.com/2015-03-31/functions"
    reply = way.raw(alice, "GET", url, service="lambda")
    assert reply.status == 307 and reply.header("location") == elsewhere
    assert len(way.calls) == 1
