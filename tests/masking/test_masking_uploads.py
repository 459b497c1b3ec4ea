"""Uploads that stream: on the wire as the agent sent them, in the recording with masks; masks never get back."""

from __future__ import annotations

import gzip
import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_tools import alnum, call, github, headers, shipped

from flowwarden.errors import Refusal
from flowwarden.masking.uploads import Kept
from flowwarden.masking.writeback import Watch, contains_mask
from flowwarden.recording.bodies import BodySink
from flowwarden.recording.disk import Disk
from flowwarden.recording.passed import Passed
from flowwarden.types import Request
from support.chunks import chunked_upload
from support.clients import Keys, boto_client
from support.gateway import REGION
from support.way import Way

PUT = call("s3:PutObject", "rest-xml", params={"Bucket": "b", "Key": "k"})
TEXT = b"".join(b"%d %b\n" % (n, alnum(60, n).encode()) for n in range(4000)) + b"key %b end\n" % github().encode()
MASKED = b"[MASKED:github-token" + b"*" * 19 + b"]"


def _keys() -> Keys:
    return Keys("AKIA" + alnum(16, 3).upper(), alnum(40, 4))


def _framed(data: bytes, size: int, *, signed: bool) -> tuple[tuple[tuple[bytes, bytes], ...], bytes]:
    fields, body = chunked_upload(
        _keys(), "https://b.s3.amazonaws.com/k", data, size, region=REGION, trailer=True, signed=signed
    )
    return tuple((name.encode(), value.encode()) for name, value in fields), body


def _kept(fields: Any, body: bytes, step: int) -> tuple[Kept, bytes]:
    kept = shipped().upload(PUT, fields)
    made = b"".join(kept.feed(body[at : at + step]) for at in range(0, len(body), step)) + kept.finish()
    assert kept.size == len(body) and kept.sha256 == hashlib.sha256(body).hexdigest()
    assert kept.kept_sha256 == hashlib.sha256(made).hexdigest()
    return kept, made


@settings(max_examples=40, deadline=None)
@given(st.integers(300, 70_000), st.integers(100, 90_000), st.booleans(), st.integers(0, len(TEXT)))
def test_masking_upload_framed(size: int, step: int, signed: bool, at: int) -> None:
    """aws-chunked, signed and not: every line of the framing stays, only the secret changes, also across two chunks."""
    data = TEXT[:at] + b"\n" + github(2).encode() + b"\n" + TEXT[at:]
    fields, body = _framed(data, size, signed=signed)
    kept, made = _kept(fields, body, step)
    expected = data.replace(github().encode(), MASKED).replace(github(2).encode(), MASKED)
    assert not kept.withheld and made == _reframed(body, data, expected)


def test_masking_upload_framed_without_saying_so() -> None:
    """Some SDKs name the aws-chunked form in x-amz-content-sha256 alone."""
    data = b"a" * 5000 + b"\n" + github(2).encode() + b"\n" + b"b" * 5000
    fields, body = _framed(data, 5020, signed=True)
    fields = tuple(field for field in fields if field[0].lower() != b"content-encoding")
    kept, made = _kept(fields, body, 700)
    assert not kept.withheld and made == _reframed(body, data, data.replace(github(2).encode(), MASKED))


def _reframed(body: bytes, data: bytes, other: bytes) -> bytes:
    """The body with another payload of the same length in its frames."""
    out, at, done = bytearray(), 0, 0
    while done < len(data):
        end = body.index(b"\r\n", at) + 2
        size = int(body[at:end].split(b";")[0].strip(), 16)
        out += body[at:end] + other[done : done + size] + b"\r\n"
        at, done = end + size + 2, done + size
    return bytes(out + body[at:])


def test_masking_upload_plain_and_clean() -> None:
    """A body without a secret is kept as it was sent."""
    clean = random.Random(4).randbytes(700_000)
    for fields, body in ((headers("text/plain"), clean), _framed(clean, 65_536, signed=True)):
        kept, made = _kept(fields, body, 50_000)
        assert made == body and not kept.counts and not kept.withheld


@pytest.mark.parametrize(
    ("fields", "body", "why"),
    [
        (headers("text/plain", content_encoding="gzip"), gzip.compress(TEXT), "compressed"),
        (headers("application/gzip"), gzip.compress(TEXT), "compressed"),
        (headers("text/plain", content_encoding="aws-chunked,gzip"), None, "compressed"),
        (headers("text/plain", content_encoding="rot13"), TEXT, "cannot be read"),
        (headers("text/plain", content_encoding="aws-chunked"), b"zz\r\n" + TEXT, "header"),
        (headers("text/plain"), b"-----BEGIN RSA PRIVATE " + b"KEY-----\n" + b"A" * 3_000_000, "longer"),
    ],
)
def test_masking_upload_that_cannot_be_masked_is_left_out(fields: Any, body: bytes | None, why: str) -> None:
    """Nothing of the secret is kept; what was sent is known by its hash."""
    if body is None:
        body = _framed(gzip.compress(TEXT), 9000, signed=False)[1]
    kept, made = _kept(fields, body, 5000)
    assert why in kept.withheld and github().encode() not in made


@pytest.mark.parametrize("signed", [True, False])
def test_masking_upload_that_was_read_whole(signed: bool) -> None:
    """The same for a small one: its chunks still add up, and a compressed secret is not kept."""
    fields, body = _framed(TEXT, 9000, signed=signed)
    out = shipped().mask_request_for_recording(PUT, fields, body)
    assert out.body == _reframed(body, TEXT, TEXT.replace(github().encode(), MASKED)) and out.counts
    packed = gzip.compress(TEXT)
    out = shipped().mask_request_for_recording(PUT, headers("binary/octet-stream"), packed)
    assert out.body == b"[MASKED:unreadable]" and not out.inspected
    clean = gzip.compress(TEXT[:900])
    assert shipped().mask_request_for_recording(PUT, headers("binary/octet-stream"), clean).body == clean


def test_masking_upload_compressed_and_clean_is_kept() -> None:
    body = gzip.compress(TEXT[:5000])
    kept, made = _kept(headers("text/plain", content_encoding="gzip"), body, 700)
    assert made == body and not kept.withheld


@pytest.mark.parametrize("step", [1, 7, 4095, 1 << 20])
def test_masking_watch(step: int) -> None:
    """A mask in a streamed body is found at any split, and nothing from it on is passed."""
    body = b"a" * 5000 + MASKED + b"b" * 5000
    passed: list[bytes] = []
    watch = Watch(passed.append)
    with pytest.raises(Refusal) as refused:
        [watch(body[at : at + step]) for at in range(0, len(body), step)]
    assert refused.value.code == "MaskedDataInRequest" and MASKED not in b"".join(passed)
    watch = Watch(passed.append)
    watch(b"no [MASKED here, nor MASKED]")


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("size", [3, 5007, 5020, 5039])
def test_masking_watch_across_chunks(size: int, signed: bool) -> None:
    """A mask that begins in one chunk of an aws-chunked body and ends in another is one, read whole or streaming."""
    fields, body = _framed(b"a" * 5000 + MASKED + b"b" * 5000, size, signed=signed)
    request = Request("PUT", "https", "b.s3.amazonaws.com", 443, "/k", fields, body)
    assert contains_mask(request)
    for step in (1, 700, 1 << 20):
        watch = Watch(lambda _: None, request)
        with pytest.raises(Refusal):
            [watch(body[at : at + step]) for at in range(0, len(body), step)]
    clean = _framed(TEXT[:9000], size, signed=signed)[1]
    passed: list[bytes] = []
    watch = Watch(passed.append, request)
    [watch(clean[at : at + 700]) for at in range(0, len(clean), 700)]
    assert b"".join(passed) == clean
    watch = Watch(passed.append, request)
    with pytest.raises(Refusal):  # whatever it says of its form
        watch(b"no chunk at all" + MASKED)


def _recorded(way: Way) -> tuple[dict[str, Any], bytes]:
    """The last upload's body as its outcome tells of it, and what lies in the folder."""
    outcome = next(r for r in reversed(way.gateway.evidence()) if r["type"] == "outcome" and r["bodies"])
    body = next(found for found in outcome["bodies"] if found["of"] == "request")
    path = way.gateway.recordings / "bodies" / body["sha256"]
    return body, path.read_bytes() if body["kept"] else b""


def _everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_masking_upload_by_boto3(masked_way: Way, masked_agent: dict[str, str]) -> None:
    """What boto3 sends by default: AWS gets the secret, the recording does not, the evidence has both hashes."""
    s3 = boto_client("s3", masked_agent)
    s3.put_object(Bucket="bucket", Key="uploaded.txt", Body=TEXT)
    assert masked_way.aws.s3.buckets["bucket"].objects["uploaded.txt"].data == TEXT
    body, kept = _recorded(masked_way)
    assert MASKED in kept and hashlib.sha256(kept).hexdigest() == body["sha256"] != body["sent_sha256"]
    s3.put_object(Bucket="bucket", Key="uploaded.gz", Body=gzip.compress(TEXT))
    body, _ = _recorded(masked_way)
    assert not body["kept"] and "compressed" in body["withheld"]
    upload = s3.create_multipart_upload(Bucket="bucket", Key="uploaded-parts")["UploadId"]
    s3.upload_part(Bucket="bucket", Key="uploaded-parts", UploadId=upload, PartNumber=1, Body=TEXT)
    assert MASKED in _recorded(masked_way)[1]
    assert github().encode() not in _everything(masked_way.gateway.recordings)


def test_masking_upload_of_a_mask_is_refused(masked_way: Way, masked_agent: dict[str, str]) -> None:
    """Masked text does not overwrite what it hides, however large the body."""
    s3 = boto_client("s3", masked_agent)
    with pytest.raises(ClientError, match="MaskedDataInRequest"):
        s3.put_object(Bucket="bucket", Key="copy.txt", Body=TEXT.replace(github().encode(), MASKED) * 20)
    assert "copy.txt" not in masked_way.aws.s3.buckets["bucket"].objects


@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_masking_upload_is_told_of_twice(tmp_path: Path, coding: str) -> None:
    """An outcome that could not be written is written again as a refusal: the body it speaks of is the same."""
    fields = headers("text/plain", content_encoding=coding) if coding else headers("text/plain")
    body = gzip.compress(TEXT) if coding else TEXT
    passed = Passed(BodySink(tmp_path / "bodies", Disk(), lambda *_: None), shipped().upload(PUT, fields))
    passed.write(body)
    first = await passed.end("request")
    assert await passed.end("request") == first
    assert first.get("sent_sha256", first["sha256"]) == hashlib.sha256(body).hexdigest() and first["kept"] == (
        not coding
    )
