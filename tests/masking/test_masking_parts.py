"""Parts of answers cannot split a secret in two: fetched wider, or refused, by every parameter that asks for a part."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from botocore.exceptions import ClientError
from masking_tools import alnum, call, github

from flowwarden.masking import ranges
from flowwarden.types import Call, Request
from support.clients import boto_client
from support.strict_aws import Answer, Exchange
from support.way import Way

TOKEN = github(9999).encode()
TEXT = b"".join(b"%d %b\n" % (n, alnum(50, n).encode()) for n in range(3000)) + b"key " + TOKEN + b" end\n"


def _put(way: Way, key: str, data: bytes) -> None:
    way.aws.s3.synthetic("bucket", key, len(data)).data = data


def test_masking_parts_of_a_range(masked_way: Way, masked_agent: dict[str, str]) -> None:
    """Two ranges that meet in the middle of a secret."""
    _put(masked_way, "notes.txt", TEXT)
    s3 = boto_client("s3", masked_agent)
    middle = TEXT.index(TOKEN) + 20
    parts = [
        s3.get_object(Bucket="bucket", Key="notes.txt", Range=part)["Body"].read()
        for part in (f"bytes=0-{middle - 1}", f"bytes={middle}-")
    ]
    whole = b"".join(parts)
    assert len(whole) == len(TEXT) and b"[MASKED:github-token****" in whole
    assert TOKEN[:20] not in whole and TOKEN[20:] not in whole


@pytest.mark.parametrize("key", ["a.gz", "a"])
def test_masking_parts_of_a_compressed_object(masked_way: Way, masked_agent: dict[str, str], key: str) -> None:
    """The same object without its first byte is still what it is."""
    data = gzip.compress(TEXT)
    _put(masked_way, key, data)
    s3 = boto_client("s3", masked_agent)
    with pytest.raises(ClientError, match="CompressedSecret"):
        s3.get_object(Bucket="bucket", Key=key, Range="bytes=1-")
    _put(masked_way, key, gzip.compress(TEXT[:9000]))
    assert s3.get_object(Bucket="bucket", Key=key, Range="bytes=1-9")["Body"].read() == gzip.compress(TEXT[:9000])[1:10]


@pytest.mark.parametrize(("span", "passes"), [("bytes 0-{last}/{size}", True), ("bytes 0-{last}/9999999", False)])
def test_masking_parts_by_number(masked_way: Way, masked_agent: dict[str, str], span: str, passes: bool) -> None:
    """A part of a multipart upload cannot be fetched wider; the only part is the whole."""

    def handler(exchange: Exchange) -> Answer | None:
        if "partNumber" not in exchange.query:
            return None
        exchange.read()
        shown = span.format(last=len(TEXT) - 1, size=len(TEXT))
        return 206, {"Content-Range": shown, "Content-Length": str(len(TEXT)), "x-amz-mp-parts-count": "3"}, TEXT

    masked_way.aws.answer(handler)
    s3 = boto_client("s3", masked_agent)
    if passes:
        assert b"[MASKED:github-token****" in s3.get_object(Bucket="bucket", Key="k", PartNumber=1)["Body"].read()
        return
    with pytest.raises(ClientError, match="one Range of bytes"):
        s3.get_object(Bucket="bucket", Key="k", PartNumber=1)


CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("glacier", "get_job_output", {"vaultName": "v", "jobId": "j", "range": "bytes=0-1048575"}),
    ("s3", "select_object_content", {
        "Bucket": "bucket", "Key": "k", "Expression": "select * from s3object", "ExpressionType": "SQL",
        "InputSerialization": {"CSV": {}}, "OutputSerialization": {"CSV": {}}, "ScanRange": {"Start": 5, "End": 50},
    }),
]  # fmt: skip


@pytest.mark.parametrize(("service", "method", "params"), CALLS)
def test_masking_parts_of_other_services(
    masked_way: Way, masked_agent: dict[str, str], service: str, method: str, params: dict[str, Any]
) -> None:
    with pytest.raises(ClientError, match="PartialReadRefused"):
        getattr(boto_client(service, masked_agent), method)(**params)
    assert masked_way.calls == []


@pytest.mark.parametrize(
    ("operation", "refused"),
    [
        ("mediastore-data:GetObject", True),
        ("s3:HeadObject", False),
        ("s3:GetObject", False),
        ("glacier:GetJobOutput", True),
    ],
)
def test_masking_parts_by_header(operation: str, refused: bool) -> None:
    request = Request("GET", "https", "x", 443, "/", ((b"Range", b"bytes=0-9"),))
    assert bool(ranges.splits(call(operation, "rest-json"), request)) is refused
    assert not ranges.splits(Call(aws=False), request)
