"""An agent runs again against its recording: real boto3 clients, no network but loopback, misses refused and listed."""

from __future__ import annotations

import socket

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from replay_helpers import SESSION, Tape, sandbox

from flowwarden import replay
from flowwarden.errors import StoreError
from flowwarden.recognition.recogniser import Recogniser


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser()


def clients(url: str):
    def client(service: str):
        return boto3.client(
            service, region_name="eu-west-1", endpoint_url=url, aws_access_key_id="AKIDOTHER", aws_secret_access_key="other",
            config=Config(retries={"max_attempts": 0}),
        )  # fmt: skip

    return client


def story(client) -> list[object]:
    """What the agent does: several protocols, the same call twice with different answers."""
    ec2, s3, sqs, dynamodb, sts = (client(name) for name in ("ec2", "s3", "sqs", "dynamodb", "sts"))
    seen: list[object] = [sts.get_caller_identity()["Account"]]
    s3.create_bucket(Bucket="orders", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="orders", Key="a b/ü", Body=b"1")
    seen.append(len(s3.list_objects_v2(Bucket="orders").get("Contents", [])))
    s3.put_object(Bucket="orders", Key="c", Body=b"2")
    seen.append(len(s3.list_objects_v2(Bucket="orders").get("Contents", [])))
    seen.append(s3.get_object(Bucket="orders", Key="a b/ü")["Body"].read())
    instance = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    seen.append(instance)
    seen.append(ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["State"]["Name"])
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    seen.append(sqs.send_message(QueueUrl=queue, MessageBody="hi")["MessageId"])
    seen.append(dynamodb.list_tables()["TableNames"])
    try:
        s3.get_object(Bucket="orders", Key="missing")
    except ClientError as error:
        seen.append(error.response["Error"]["Code"])
    return seen


@pytest.fixture(scope="module")
def recorded_story(tmp_path_factory):
    with sandbox() as url:
        requests.post(f"{url}/moto-api/reset", timeout=10)
        tape = Tape(url)
        seen = story(tape.client)
        return tape.record(tmp_path_factory.mktemp("serve")), seen


def test_the_agent_sees_what_it_saw(recorded_story, recogniser, monkeypatch):
    """The same answers in the same order, though keys, signatures and dates differ; nothing is dialled."""
    folder, seen = recorded_story
    with replay.serving(folder, SESSION, recogniser=recogniser) as server:
        allowed = socket.socket.connect

        def connect(self, address):
            assert address[0] == "127.0.0.1" and f":{address[1]}" in server.url, address
            return allowed(self, address)

        monkeypatch.setattr(socket.socket, "connect", connect)
        assert story(clients(server.url)) == seen
        assert server.answers.misses == []
        assert server.answers.left == []


def test_a_miss_is_refused_in_the_protocols_form(recorded_story, recogniser):
    """What was not recorded, or not so often: an error that the SDK prints, and a list at the end."""
    folder, _ = recorded_story
    with replay.serving(folder, SESSION, recogniser=recogniser) as server:
        client = clients(server.url)
        for service, call, params in (
            ("ec2", "describe_vpcs", {}),
            ("s3", "get_object", {"Bucket": "orders", "Key": "other"}),
            ("dynamodb", "get_item", {"TableName": "t", "Key": {"k": {"S": "1"}}}),
            ("lambda", "list_functions", {}),
        ):
            with pytest.raises(ClientError) as caught:
                getattr(client(service), call)(**params)
            assert caught.value.response["Error"]["Code"] == "FlowwardenReplayMiss"
        client("sts").get_caller_identity()
        with pytest.raises(ClientError, match="more often than it was recorded"):
            client("sts").get_caller_identity()
        assert [miss.operation for miss in server.answers.misses] == [
            "ec2:DescribeVpcs", "s3:GetObject", "dynamodb:GetItem", "lambda:ListFunctions", "sts:GetCallerIdentity",
        ]  # fmt: skip
        assert server.answers.hits == 1
        assert "ec2:RunInstances" in server.answers.left


def test_what_is_not_an_aws_call(recorded_story, recogniser):
    """Other requests miss; a tunnel to nowhere and a broken length do not hurt."""
    folder, _ = recorded_story
    with replay.serving(folder, SESSION, recogniser=recogniser) as server:
        answer = requests.get(f"{server.url}/anything", timeout=5)
        assert answer.status_code == 404 and "not in the recording" in answer.text
        host, port = server.url.removeprefix("http://").split(":")
        for raw in (
            b"CONNECT :443 HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ):
            with socket.create_connection((host, int(port)), timeout=5) as link:
                link.sendall(raw)
                assert link.recv(1000).split(b" ")[1][:1] == b"4"


def test_unknown_session(recorded_story, recogniser):
    with pytest.raises(StoreError, match="no session"):
        replay.Answers(recorded_story[0], "nobody", recogniser=recogniser)


def test_taken_port(recorded_story, recogniser):
    folder, _ = recorded_story
    answers = replay.Answers(folder, SESSION, recogniser=recogniser)
    server = replay.Server(answers)
    with pytest.raises(StoreError, match="cannot be listened on"):
        replay.Server(answers, int(server.url.rsplit(":", 1)[1]))
    server.close()
