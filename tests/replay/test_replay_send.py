"""A recorded session against a sandbox: requests that fit, ids that are mapped, answers compared, AWS never called."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import requests
from replay_helpers import SESSION, Tape, sandbox

from flowwarden import replay
from flowwarden.errors import ConfigError, StoreError
from flowwarden.recording import records
from flowwarden.replay.target import is_aws, target


@pytest.fixture(scope="module")
def url():
    with sandbox() as url:
        yield url


@pytest.fixture(autouse=True)
def clean(url):
    requests.post(f"{url}/moto-api/reset", timeout=10)


def reset(url: str) -> None:
    requests.post(f"{url}/moto-api/reset", timeout=10)


def verdicts(compared) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.verdict, one.diff) for one in compared]


def test_instances_keep_their_story(tmp_path, url):
    """Instance ids are the sandbox's own in the second run, and later requests follow them."""
    tape = Tape(url)
    ec2 = tape.client("ec2")
    ids = [
        instance["InstanceId"]
        for instance in ec2.run_instances(ImageId="ami-12c6146b", MinCount=2, MaxCount=2)["Instances"]
    ]
    ec2.create_tags(Resources=ids[:1], Tags=[{"Key": "a", "Value": "b"}])
    ec2.describe_instances(InstanceIds=ids)
    ec2.terminate_instances(InstanceIds=ids[1:])
    folder = tape.record(tmp_path)
    reset(url)
    compared = replay.replay_to(folder, SESSION, url)
    assert [one.verdict for one in compared] == ["same"] * 4, verdicts(compared)
    assert [one.answered for one in compared] == [200] * 4


def test_uploads_queues_tables_and_functions(tmp_path, url):
    """Upload ids, queue URLs, receipt handles, chunked bodies, JSON and REST protocols."""
    tape = Tape(url)
    s3, sqs, dynamodb = tape.client("s3"), tape.client("sqs"), tape.client("dynamodb")
    s3.create_bucket(Bucket="orders", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    upload = s3.create_multipart_upload(Bucket="orders", Key="a b/ü.bin")["UploadId"]
    part = s3.upload_part(Bucket="orders", Key="a b/ü.bin", UploadId=upload, PartNumber=1, Body=b"x" * 1000)
    s3.complete_multipart_upload(
        Bucket="orders",
        Key="a b/ü.bin",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    s3.put_object(Bucket="orders", Key="plain", Body=io.BytesIO(b"hello"), ChecksumAlgorithm="SHA256")
    s3.get_object(Bucket="orders", Key="plain")["Body"].read()
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="hi")
    handle = sqs.receive_message(QueueUrl=queue)["Messages"][0]["ReceiptHandle"]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=handle)
    dynamodb.create_table(
        TableName="t", KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}], BillingMode="PAY_PER_REQUEST",
    )  # fmt: skip
    dynamodb.put_item(TableName="t", Item={"k": {"S": "1"}})
    dynamodb.get_item(TableName="t", Key={"k": {"S": "1"}})
    folder = tape.record(tmp_path)
    reset(url)
    compared = replay.replay_to(folder, SESSION, url)
    assert [one.verdict for one in compared] == ["same"] * 13, verdicts(compared)


def test_what_is_different_is_shown(tmp_path, url):
    """Another state of the sandbox gives other answers; the table says which and how."""
    tape = Tape(url)
    s3 = tape.client("s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="bucket", Key="k", Body=b"1")
    s3.list_objects_v2(Bucket="bucket")
    tape.flows.pop(1)  # the second run will not put it
    folder = tape.record(tmp_path)
    reset(url)
    create, listing = replay.replay_to(folder, SESSION, url)
    assert create.verdict == "same"
    assert listing.verdict == "different"
    assert any("KeyCount" in line for line in listing.diff)


def test_refused_calls_are_not_sent(tmp_path, url):
    tape = Tape(url)
    tape.client("sts").get_caller_identity()
    about = {**tape.flows[0][1], "flow": "refused"}
    end = records.outcome("refused", "refused", intent=None, session=SESSION, status=403, code="AccessDenied")
    folder = tape.record(tmp_path, (about, end))
    sent, refused = replay.replay_to(folder, SESSION, url)
    assert sent.verdict == "same", sent
    assert (refused.verdict, refused.answered) == ("skipped", None)


def test_sandbox_that_does_not_answer(tmp_path, url):
    tape = Tape(url)
    tape.client("sts").get_caller_identity()
    folder = tape.record(tmp_path)
    (one,) = replay.replay_to(folder, SESSION, "http://127.0.0.1:1", timeout=2)
    assert one.verdict == "failed" and "refused" in one.diff[0].lower()


def test_unknown_session(tmp_path, url):
    folder = Tape(url).record(tmp_path)
    with pytest.raises(StoreError, match="no session"):
        replay.replay_to(folder, "nobody", url)


@pytest.mark.parametrize(
    "bad",
    [
        "https://ec2.eu-west-1.amazonaws.com", "http://s3.cn-north-1.amazonaws.com.cn.", "https://x.lambda-url.eu-west-1.on.aws",
        "http://S3.AMAZONAWS.COM:80", "ftp://127.0.0.1", "http://", "nonsense", "http://user@127.0.0.1", "http://[::1",
    ],
)  # fmt: skip
def test_aws_and_nonsense_are_refused_even_if_allowed(bad):
    with pytest.raises(ConfigError):
        target(bad, allow_host=["ec2.eu-west-1.amazonaws.com", "s3.amazonaws.com", "x.lambda-url.eu-west-1.on.aws"])


def test_other_machines_have_to_be_named():
    with pytest.raises(ConfigError, match=r"--allow-host 192\.0\.2\.1"):
        target("http://192.0.2.1:5000")
    assert target("http://192.0.2.1:5000", allow_host="192.0.2.1").address == "192.0.2.1"
    assert target("http://localhost:5000").address in ("127.0.0.1", "::1")
    assert not is_aws("notamazonaws.com")


def test_a_function_with_its_code(tmp_path, url):
    """A zip in JSON and an ARN in a path."""
    tape = Tape(url)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.py", "def b(e, c): return 1")
    iam, functions = tape.client("iam"), tape.client("lambda")
    role = iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    arn = functions.create_function(
        FunctionName="f", Runtime="python3.12", Role=role, Handler="a.b", Code={"ZipFile": buffer.getvalue()}
    )["FunctionArn"]
    functions.get_function_configuration(FunctionName=arn)
    folder = tape.record(tmp_path)
    reset(url)
    compared = replay.replay_to(Path(folder), SESSION, url)
    assert [one.verdict for one in compared] == ["same"] * 3, verdicts(compared)
