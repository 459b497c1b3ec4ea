"""The demo's agent: stock boto3 (and the AWS CLI where it is installed), with nothing but its environment.

It is run as a script, and imports nothing of the gateway. Each step prints one line: what it did, and what came back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import boto3
import botocore.exceptions

Step = Callable[[], Any]


def say(step: str, run: Step) -> None:
    try:
        text = str(run())
    except botocore.exceptions.ClientError as error:
        text = f"{error.response['Error']['Code']}: {error}"
    except botocore.exceptions.BotoCoreError as error:
        text = f"{type(error).__name__}: {error}"
    print(f"{step} | {' '.join(text.split())}", flush=True)  # noqa: T201 its output is its purpose


def client(service: str) -> Any:
    return boto3.client(service)


def work() -> None:
    """What agents do all day."""
    s3, table = client("s3"), client("dynamodb")
    region = os.environ["AWS_REGION"]
    say("sts get-caller-identity", lambda: client("sts").get_caller_identity()["Arn"])
    say(
        "s3 create-bucket",
        lambda: s3.create_bucket(Bucket="agent-work", CreateBucketConfiguration={"LocationConstraint": region})[
            "Location"
        ],
    )
    say(
        "s3 put-object",
        lambda: s3.put_object(Bucket="agent-work", Key="notes/today.txt", Body=b"hello from the agent")["ETag"],
    )
    say("s3 get-object", lambda: s3.get_object(Bucket="agent-work", Key="notes/today.txt")["Body"].read().decode())
    say("s3 list-objects-v2", lambda: [each["Key"] for each in s3.list_objects_v2(Bucket="agent-work")["Contents"]])
    say(
        "ec2 describe-instances",
        lambda: [i["InstanceId"] for r in client("ec2").describe_instances()["Reservations"] for i in r["Instances"]],
    )
    say(
        "dynamodb put-item",
        lambda: table.put_item(TableName="orders", Item={"id": {"S": "42"}, "state": {"S": "new"}})["ResponseMetadata"][
            "HTTPStatusCode"
        ],
    )
    say("dynamodb get-item", lambda: table.get_item(TableName="orders", Key={"id": {"S": "42"}})["Item"]["state"]["S"])
    if shutil.which("aws"):
        say(
            "aws sts get-caller-identity",
            lambda: cli("sts", "get-caller-identity", "--query", "Arn", "--output", "text"),
        )
        say("aws s3 ls", lambda: cli("s3", "ls", "s3://agent-work/notes/"))
    else:
        print("aws | the AWS CLI is not installed; boto3 alone is shown", flush=True)  # noqa: T201
    say(
        "secretsmanager get-secret-value",
        lambda: client("secretsmanager").get_secret_value(SecretId="prod/database")["SecretString"],
    )
    say(
        "s3 get-object export.csv",
        lambda: s3.get_object(Bucket="customer-exports", Key="2026/export.csv")["Body"].read().decode(),
    )
    say("iam delete-user", lambda: client("iam").delete_user(UserName="alice"))
    say("iam create-access-key", lambda: client("iam").create_access_key(UserName="alice"))
    say("s3 delete-bucket", lambda: s3.delete_bucket(Bucket="customer-exports"))


def cli(*arguments: str) -> str:
    """The AWS CLI as it is installed."""
    done = subprocess.run(
        [shutil.which("aws") or "aws", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip() or done.stderr.strip()


def terminate(instance: str) -> None:
    say(
        f"ec2 terminate-instances {instance}",
        lambda: client("ec2").terminate_instances(InstanceIds=[instance])["TerminatingInstances"][0]["CurrentState"][
            "Name"
        ],
    )


def main(arguments: list[str]) -> None:
    if arguments == ["work"]:
        work()
    elif arguments == ["whoami"]:
        say("sts get-caller-identity", lambda: client("sts").get_caller_identity()["Arn"])
    elif len(arguments) == 2 and arguments[0] == "terminate":
        terminate(arguments[1])
    else:
        raise SystemExit("usage: agent.py work | whoami | terminate INSTANCE")


if __name__ == "__main__":
    main(sys.argv[1:])
