"""Copies of ranges on the whole way: what SDKs and the AWS CLI do works byte for byte, and half a secret becomes no object."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from masking_tools import SHIPPED, github

from support.clients import Keys, boto_client, sign
from support.gateway import REGION, GatewayProcess
from support.issuer import OidcIssuer
from support.strict_aws import Answer, Exchange, StrictAws
from support.strict_aws_s3 import Bucket, Stored
from support.tools import AwsCli
from support.way import Way

MIB = 1 << 20
TOKEN = github(4242).encode()
SPLIT = 6 * MIB + 17
DATA = random.Random(5).randbytes(SPLIT - 20) + b" " + TOKEN + b"\n" + random.Random(6).randbytes(6 * MIB)
OPEN: Mapping[str, Any] = {
    "default": "deny",
    "rules": [
        {"id": "all", "effect": "allow", "groups": ["developers"], "actions": ["s3:*"]},
        {
            "id": "open",
            "effect": "allow",
            "groups": ["developers"],
            "actions": ["s3:*"],
            "resources": ["arn:aws:s3:::source/*", "arn:aws:s3:::bucket/open/*"],
            "mask": "off",
        },
    ],
}
PARTS = TransferConfig(multipart_threshold=MIB, multipart_chunksize=5 * MIB)


@pytest.fixture
def source(masked_way: Way) -> str:
    return _put(masked_way.aws, "big", DATA)


def _put(aws: StrictAws, key: str, data: bytes) -> str:
    etag = hashlib.md5(data).hexdigest()
    stored = Stored(len(data), etag, hashlib.sha256(data).hexdigest(), data)
    aws.s3.buckets.setdefault("source", Bucket()).objects[key] = stored
    return etag


def _objects(aws: StrictAws) -> dict[str, Stored]:
    return aws.s3.buckets.setdefault("bucket", Bucket()).objects


class Upload:
    """A multipart upload of ranges of `source/big`."""

    def __init__(self, s3: Any, key: str) -> None:
        self.s3, self.where = s3, {"Bucket": "bucket", "Key": key}
        self.where["UploadId"] = s3.create_multipart_upload(**self.where)["UploadId"]
        self.parts: list[dict[str, Any]] = []

    def copy(self, number: int, span: str = "", source: str = "source/big", **more: Any) -> None:
        chosen = {"CopySourceRange": f"bytes={span}"} if span else {}
        made = self.s3.upload_part_copy(**self.where, PartNumber=number, CopySource=source, **chosen, **more)
        self.parts.append({"PartNumber": number, "ETag": made["CopyPartResult"]["ETag"]})

    def complete(self) -> None:
        self.s3.complete_multipart_upload(**self.where, MultipartUpload={"Parts": self.parts})


def _refused(do: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(ClientError) as refused:
        do(*args, **more)
    answer = refused.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert answer["Error"]["Code"] == "PartialCopyRefused" and "(keep-masks)" in answer["Error"]["Message"]
    return str(answer["Error"]["Message"])


@pytest.mark.parametrize("key", ["big", "a b+c=d%e?ü"])
def test_masking_copies_by_boto3(masked_way: Way, masked_agent: dict[str, str], key: str) -> None:
    """The managed copy: HeadObject, ranges in parallel, and a Complete. Each range carries the source's ETag."""
    etag = _put(masked_way.aws, key, DATA)
    s3 = boto_client("s3", masked_agent)
    s3.copy({"Bucket": "source", "Key": key}, "bucket", key, Config=PARTS)
    assert _objects(masked_way.aws)[key].data == DATA
    copied = [seen for seen in masked_way.calls if seen.header("x-amz-copy-source-range")]
    assert len(copied) == 3
    assert {seen.header("x-amz-copy-source-if-match").strip('"') for seen in copied} == {etag}
    read = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
    assert TOKEN not in read and len(read) == len(DATA)


@pytest.mark.parametrize("recursive", [False, True])
def test_masking_copies_by_the_aws_cli(
    masked_way: Way, masked_agent: dict[str, str], aws_cli: AwsCli, tmp_path: Path, source: str, recursive: bool
) -> None:
    """Also without a HeadObject: a whole folder's sizes come from its listing."""
    config = tmp_path / "config"
    config.write_text("[default]\ns3 =\n  multipart_threshold = 1MB\n  multipart_chunksize = 5MB\n")
    what = (
        ["s3://source/", "s3://bucket/all/", "--recursive"] if recursive else ["s3://source/big", "s3://bucket/all/big"]
    )
    masked_way.aws.s3.buckets["bucket"] = Bucket()
    env = masked_agent | {"AWS_CONFIG_FILE": str(config)}
    done = aws_cli(env, "s3", "cp", *what)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _objects(masked_way.aws)["all/big"].data == DATA
    heads = [seen for seen in masked_way.calls if seen.method == "HEAD"]
    assert bool(heads) is not recursive


SPLITS: list[tuple[list[tuple[int, str]], str]] = [
    ([(1, f"0-{SPLIT - 1}")], "the parts end"),
    ([(1, f"{SPLIT}-{len(DATA) - 1}")], "part 1 does not follow"),
    ([(1, f"0-{SPLIT - 1}"), (2, f"{SPLIT + 1}-{len(DATA) - 1}")], "part 2 does not follow"),
    ([(1, f"{SPLIT}-{len(DATA) - 1}"), (2, f"0-{SPLIT - 1}")], "part 1 does not follow"),
    ([(1, f"0-{len(DATA) - 1}"), (2, "")], "part 2 is not known"),
]


@pytest.mark.parametrize(("spans", "why"), SPLITS)
def test_masking_copies_that_split(
    masked_way: Way, masked_agent: dict[str, str], source: str, spans: list[tuple[int, str]], why: str
) -> None:
    s3 = boto_client("s3", masked_agent)
    s3.head_object(Bucket="source", Key="big")
    upload = Upload(s3, "half")
    for number, span in spans:
        upload.copy(number, span)
    assert why in _refused(upload.complete)
    assert "half" not in _objects(masked_way.aws)
    assert not [seen for seen in masked_way.calls if seen.method == "POST" and "uploads" not in seen.query]


def test_masking_copies_beside_a_plain_part(masked_way: Way, masked_agent: dict[str, str], source: str) -> None:
    s3 = boto_client("s3", masked_agent)
    s3.head_object(Bucket="source", Key="big")
    upload = Upload(s3, "half")
    part = s3.upload_part(**upload.where, PartNumber=1, Body=b"before")
    upload.parts.append({"PartNumber": 1, "ETag": part["ETag"]})
    upload.copy(2, "0-99")
    assert "part 1 is not known" in _refused(upload.complete)
    mixed = Upload(s3, "mixed")
    part = s3.upload_part(**mixed.where, PartNumber=1, Body=b"before")
    mixed.parts.append({"PartNumber": 1, "ETag": part["ETag"]})
    mixed.copy(2)
    mixed.complete()
    assert _objects(masked_way.aws)["mixed"].data == b"before" + DATA


def test_masking_copies_of_an_unknown_or_other_source(masked_way: Way, source: str) -> None:
    """Sizes are a session's own; a Range's answer tells them too; and a source that is another one now is not copied."""
    agent = masked_way.gateway.session()
    s3 = boto_client("s3", agent)
    upload = Upload(s3, "k")
    assert "HeadObject" in _refused(upload.copy, 1, "0-99")
    s3.get_object(Bucket="source", Key="big", Range="bytes=100-199")["Body"].read()
    upload.copy(1, "0-99")
    _put(masked_way.aws, "other", DATA[:100])
    s3.head_object(Bucket="source", Key="other")
    assert "another object" in _refused(upload.copy, 2, "0-99", "source/other")
    swapped = Upload(s3, "k")
    _put(masked_way.aws, "other", DATA)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        swapped.copy(1, "0-99", "source/other")
    assert "part 1 is not known" in _refused(
        s3.complete_multipart_upload, **swapped.where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": "x"}]}
    )
    assert "bytes=first-last" in _refused(upload.copy, 2, "100-199,300-400")
    assert "k" not in _objects(masked_way.aws)


def test_masking_copies_presigned(masked_way: Way, masked_agent: dict[str, str], source: str) -> None:
    """A range in the query of a presigned URL is one too, and gets its condition."""
    s3 = boto_client("s3", masked_agent)
    s3.head_object(Bucket="source", Key="big")
    upload = Upload(s3, "signed")
    url = f"https://s3.{REGION}.amazonaws.com/bucket/signed?partNumber=1&uploadId={upload.where['UploadId']}"
    fields = (("x-amz-copy-source", "source/big"), ("x-amz-copy-source-range", "bytes=0-99"))
    target, head = sign(Keys.of(masked_agent), "PUT", url, service="s3", region=REGION, fields=fields, presign=60)
    with masked_way.tunnel(masked_agent, url.split("/")[2]) as client:
        reply = client.request("PUT", target, head)
    assert reply.status == 200 and b"CopyPartResult" in reply.body, reply.text
    assert masked_way.calls[-1].header("x-amz-copy-source-if-match") == f'"{source}"'
    upload.parts = [{"PartNumber": 1, "ETag": hashlib.md5(DATA[:100]).hexdigest()}]
    assert "the parts end" in _refused(upload.complete)


def test_masking_copies_that_s3_did_not_make(masked_way: Way, masked_agent: dict[str, str], source: str) -> None:
    """S3 begins its answer with status 200 before it has copied."""

    def handler(exchange: Exchange) -> Answer | None:
        if not exchange.header("x-amz-copy-source-range"):
            return None
        exchange.read()
        return (
            200,
            {"content-type": "application/xml"},
            b"<Error><Code>InternalError</Code><ETag>&quot;e&quot;</ETag></Error>",
        )

    s3 = boto_client("s3", masked_agent)
    s3.head_object(Bucket="source", Key="big")
    upload = Upload(s3, "never")
    masked_way.aws.answer(handler)
    with pytest.raises(ClientError, match="InternalError"):
        upload.copy(1, f"0-{len(DATA) - 1}")
    upload.parts = [{"PartNumber": 1, "ETag": "e"}]
    assert "part 1 is not known" in _refused(upload.complete)


def test_masking_copies_with_masks_off_and_over_a_restart(tmp_path: Path, issuer: OidcIssuer) -> None:
    """What a rule says to leave alone is left alone; what was begun before a restart is begun again."""
    with StrictAws(open_sts=True) as aws:
        _put(aws, "big", DATA)
        gateway = GatewayProcess(tmp_path, issuer, sandbox=aws.url, policy=OPEN, masks=SHIPPED.read_text())  # type: ignore[arg-type]
        with gateway:
            s3 = boto_client("s3", gateway.session())
            upload = Upload(s3, "open/half")
            upload.copy(1, f"0-{SPLIT - 1}")
            upload.complete()
            assert _objects(aws)["open/half"].data == DATA[:SPLIT]
            before = Upload(s3, "plain")
            part = s3.upload_part(**before.where, PartNumber=1, Body=b"one")
            before.parts.append({"PartNumber": 1, "ETag": part["ETag"]})
            gateway.stop()
            gateway.start()
            before.s3 = s3 = boto_client("s3", gateway.session())
            assert "begin the upload again" in _refused(before.complete)
            open_again = Upload(s3, "open/again")
            s3.abort_multipart_upload(**before.where)
            open_again.copy(1, "0-99")
            open_again.complete()
            assert len(_objects(aws)["open/again"].data or b"") == 100
            assert "Traceback" not in gateway.text
