"""Compressed objects in hand as a whole: masked inside, exactly as long as they were, and any decoder reads them."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import lzma
import random
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_tools import alnum, call, github, headers, masker, shipped

from flowwarden.errors import Refusal
from flowwarden.masking import repack
from support.clients import boto_client
from support.strict_aws import Answer, Exchange
from support.tools import AwsCli
from support.way import Way

Coder = Callable[[bytes], bytes]
TOKEN = github(31).encode()
HIDDEN = b"[MASKED:github-token" + b"*" * 19 + b"]"
TERSE = b"[MASKED" + b"*" * 32 + b"]"
_RANDOM = random.Random(4)
LINES = b"".join(b'{"n": %d, "took": %d, "msg": "served"}\n' % (n, _RANDOM.randrange(9999)) for n in range(2500))
TEXT = LINES[:30_000] + b"key " + TOKEN + b" end\n" + LINES[30_000:]
MASKED = TEXT.replace(TOKEN, HIDDEN)
OBJECT = call("s3:GetObject", "rest-xml", params={"Bucket": "b", "Key": "a"})

PACK: dict[str, Coder] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": lambda text: zlib.compress(text)[2:-4],
    "zstd": zstandard.compress,
    "br": lambda text: bytes(brotli.compress(text, quality=5)),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
MAGIC = ("gzip", "zstd", "bzip2", "xz")
CODINGS = ("gzip", "deflate", "raw deflate", "zstd", "br")
LEAST = {"deflate": 8, "raw deflate": 8, "zstd": 8}  # bytes from which every gap can be filled; below, now and then
STEP = {"xz": 4}  # its lengths are multiples of four


def _unzstd(body: bytes) -> bytes:
    """As a client that knows nothing of frames: everything that the decoder takes in one call."""
    return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(body))


UNPACK: dict[str, Coder] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "raw deflate": lambda body: zlib.decompress(body, -15),
    "zstd": _unzstd,
    "br": brotli.decompress,
    "bzip2": bz2.decompress,
    "xz": lzma.decompress,
}
NODE = """
const zlib = require("zlib"), read = {NAME};
process.stdout.write(zlib[read](require("fs").readFileSync(0), {finishFlush: FINISH}));
"""
JAVA = """
import java.util.zip.*;
class Gunzip {
    public static void main(String[] a) throws Exception { new GZIPInputStream(System.in).transferTo(System.out); }
}
"""
PROGRAMS: list[tuple[str, list[str]]] = [
    ("gzip", ["gzip", "-dc"]),
    ("zstd", ["zstd", "-dcq"]),
    ("bzip2", ["bzip2", "-dc"]),
    ("xz", ["xz", "-dc"]),
    ("br", ["brotli", "-dc"]),
]
for _name, _read, _finish in (
    ("gzip", "gunzipSync", "zlib.constants.Z_FINISH"),
    ("deflate", "inflateSync", "zlib.constants.Z_FINISH"),
    ("raw deflate", "inflateRawSync", "zlib.constants.Z_FINISH"),
    ("br", "brotliDecompressSync", "zlib.constants.BROTLI_OPERATION_FINISH"),
):
    PROGRAMS.append((_name, ["node", "-e", NODE.replace("{NAME}", f'"{_read}"').replace("FINISH", _finish)]))


def _fitted(name: str, plain: bytes, length: int) -> bytes | None:
    coding = "deflate" if name == "raw deflate" else name
    return repack.fitted(coding, plain, length, lambda: None, like=PACK[name](plain))


def _length(name: str, plain: bytes) -> int:
    """The least that is always possible."""
    return len(PACK[name](plain)) + LEAST.get(name, 0)


def _gapped(name: str, plain: bytes, gap: int) -> bytes:
    """A body with a gap beyond what the usual encoder makes."""
    length = _length(name, plain) + gap * STEP.get(name, 1)
    made = _fitted(name, plain, length)
    assert made is not None, (name, gap)
    assert len(made) == length
    return made


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(PACK)),
    st.one_of(st.integers(0, 300), st.integers(0, 140_000)),
    st.one_of(
        st.binary(min_size=1, max_size=400), st.text(alphabet="ab{}\n ", min_size=1, max_size=3000).map(str.encode)
    ),
)
def test_masking_repack_any_gap(name: str, gap: int, plain: bytes) -> None:
    """To the byte as long as was asked, and the usual decoder reads it."""
    assert UNPACK[name](_gapped(name, plain, gap)) == plain


@pytest.mark.parametrize(("name", "program"), PROGRAMS, ids=lambda item: item if isinstance(item, str) else item[0])
def test_masking_repack_read_by_other_programs(name: str, program: list[str]) -> None:
    """By the programs that people have, with every small gap, and large ones."""
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    for gap in (*range(-LEAST.get(name, 0), 12), 200, 65_535, 65_536, 65_538, 120_000):
        body = _gapped(name, TEXT, gap) if gap >= 0 else _fitted(name, TEXT, _length(name, TEXT) + gap)
        if body is None:  # below what can always be filled
            continue
        done = subprocess.run(program, input=body, capture_output=True, check=False)
        assert done.returncode == 0 and done.stdout == TEXT and not done.stderr, (gap, done.stderr)


def test_masking_repack_read_by_java(tmp_path: Path) -> None:
    """GZIPInputStream, which reads headers by its own code."""
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    source = tmp_path / "Gunzip.java"
    source.write_text(JAVA)
    for gap in (0, 1, 5, 6, 300, 65_537, 65_538):
        body = _gapped("gzip", TEXT, gap)
        done = subprocess.run(["java", str(source)], input=body, capture_output=True, check=False)
        assert done.returncode == 0 and done.stdout == TEXT, (gap, done.stderr)


@given(st.integers(2, 2000))
def test_masking_repack_empty_blocks(size: int) -> None:
    blocks = repack.empty_blocks(size)
    engine = zlib.decompressobj(-15)
    assert len(blocks) == size and engine.decompress(blocks) == b"" and engine.eof and not engine.unused_data


@given(st.integers(0, 70_000))
def test_masking_repack_gzip_headers(size: int) -> None:
    """A header of every length there is; for others none."""
    header = repack.gzip_header(size)
    assert (header is not None) == (10 <= size <= 10 + 2 + 0xFFFF)
    if header is not None:
        assert len(header) == size and gzip.decompress(header + gzip.compress(b"x", mtime=0)[10:]) == b"x"


def test_masking_repack_too_short_is_none() -> None:
    """What cannot be so short is not made at all."""
    for name, pack in PACK.items():
        assert _fitted(name, LINES, len(pack(LINES)) // 2) is None
        assert _fitted(name, LINES, 0) is None


def test_masking_repack_that_reads_wrong_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made is read back by other software: a wrong or broken body is not given."""
    for made in (gzip.compress(b"other"), b"no gzip", b""):
        monkeypatch.setitem(repack._MAKERS, "gzip", lambda *_, made=made: iter([made]))
        assert repack.fitted("gzip", b"plain", len(made), lambda: None) is None


@pytest.mark.parametrize("name", MAGIC)
@pytest.mark.parametrize("level", [1, 5, 6])
def test_masking_repack_object_is_masked(name: str, level: int) -> None:
    """An object that is a compressed file: same length, the secret gone, all else as it was; checksums of it go."""
    body = {
        "gzip": lambda: gzip.compress(TEXT, level),
        "zstd": lambda: zstandard.compress(TEXT, level),
        "bzip2": lambda: bz2.compress(TEXT, level),
        "xz": lambda: lzma.compress(TEXT, preset=level),
    }[name]()
    fields = headers("binary/octet-stream", content_length=str(len(body)), x_amz_checksum_crc32="x", ETag='"e"')
    out = shipped().mask_answer(OBJECT, 200, fields, body)
    assert UNPACK[name](out.body) in {MASKED, TEXT.replace(TOKEN, TERSE)} and len(out.body) == len(body)
    assert out.counts == {"github-token": 1} and out.inspected
    assert dict(out.headers) == {
        b"content-type": b"binary/octet-stream",
        b"content-length": b"%d" % len(body),
        b"ETag": b'"e"',
    }


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MAGIC), st.integers(0, 2**32), st.integers(1, 6), st.integers(0, 3000))
def test_masking_repack_any_object_is_masked_or_refused(name: str, seed: int, secrets: int, lines: int) -> None:
    """Never a secret, never another length; where it cannot be made so short, the refusal that there was before."""
    rows = [b"%d %b\n" % (n, alnum(9, seed + n).encode()) for n in range(lines)]
    for n in range(secrets):
        rows.insert(
            random.Random(seed + n).randrange(len(rows) + 1), b"key " + github(seed % 999 + n).encode() + b" end\n"
        )
    body = PACK[name](b"".join(rows))
    try:
        out = shipped().mask_answer(OBJECT, 200, headers("text/plain"), body)
    except Refusal as refusal:
        assert refusal.code == "CompressedSecret"  # noqa: PT017
        return
    plain = UNPACK[name](out.body)
    assert len(out.body) == len(body) and max(plain.count(b"[MASKED:github-token*"), plain.count(TERSE)) == secrets
    assert not any(github(seed % 999 + n).encode() in plain for n in range(secrets))


@pytest.mark.parametrize("coding", CODINGS)
def test_masking_repack_content_coding_keeps_the_length(coding: str) -> None:
    """A whole object with a content coding: Content-Length, HEAD and List agree."""
    body = PACK[coding](TEXT)
    more = {"content_encoding": coding.removeprefix("raw "), "content_length": str(len(body))}
    out = shipped().mask_answer(OBJECT, 200, headers("text/plain", **more), body)
    assert UNPACK[coding](out.body) == MASKED
    assert len(out.body) == len(body) and dict(out.headers)[b"content-length"] == b"%d" % len(body)
    clean = PACK[coding](LINES)
    assert shipped().mask_answer(OBJECT, 200, headers("text/plain", **more), clean).body is clean


def test_masking_repack_content_coding_that_does_not_fit_is_masked_all_the_same() -> None:
    """Longer than it was, and Content-Length says so."""
    text = b"card " + b"9" * 500 + b"\n" + b"password=" + b"aaaaaaaaaaaaaaaa1B" + b"\n"
    body = zlib.compress(text, 9)
    out = shipped().mask_answer(
        OBJECT, 200, headers("text/plain", content_encoding="deflate", content_length="1"), body
    )
    assert b"aaaa1B" not in zlib.decompress(out.body) and len(out.body) > len(body)
    assert dict(out.headers)[b"content-length"] == b"%d" % len(out.body)


REFUSED = {
    "part": (206, gzip.compress(TEXT), {"content_range": "bytes 0-99/9999999"}),
    "broken behind the secret": (200, gzip.compress(TEXT)[:-400] + b"\xff" * 400, {}),
    "cut off behind the secret": (200, gzip.compress(TEXT)[:-9], {}),
    "rubbish behind the end": (200, gzip.compress(TEXT) + b"rubbish", {}),
    "too short for a mask": (200, zlib.compress(b"")[:0] + gzip.compress(b"password=aaaaaaaaaaaaaaaa1B\n"), {}),
}


@pytest.mark.parametrize("why", REFUSED)
def test_masking_repack_else_refused(why: str) -> None:
    status, body, more = REFUSED[why]
    with pytest.raises(Refusal) as refused:
        shipped().mask_answer(OBJECT, status, headers("binary/octet-stream", **more), body)
    assert refused.value.code == "CompressedSecret"


def test_masking_repack_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> bytes:
        raise Refusal("too long", status=502, code="MaskTimeout", station="mask")

    monkeypatch.setattr(repack, "fitted", slow)
    with pytest.raises(Refusal) as refused:
        shipped().mask_answer(OBJECT, 200, headers("binary/octet-stream"), gzip.compress(TEXT))
    assert refused.value.code == "CompressedSecret"
    more = {"content_encoding": "gzip"}
    out = shipped().mask_answer(OBJECT, 200, headers("text/plain", **more), gzip.compress(TEXT))
    assert gzip.decompress(out.body) == MASKED


def test_masking_repack_secret_in_a_header_does_not_condemn_the_body() -> None:
    """What was masked in a header field is not inside the compression: the body passes as it is."""
    body = gzip.compress(LINES)
    out = shipped().mask_answer(OBJECT, 200, headers("text/plain", x_amz_meta_key=TOKEN.decode()), body)
    assert out.body is body and out.counts == {"github-token": 1}
    stream = shipped().stream(OBJECT, 200, headers("text/plain", x_amz_meta_key=TOKEN.decode()))
    assert stream is not None and stream.feed(body) + stream.finish() == body


def test_masking_repack_columns_inside(tmp_path: Path) -> None:
    """A packed table's masked column."""
    mask = masker(tmp_path, "masks: [{id: m, columns: [email]}]")
    table = b"id,email\n" + b"".join(b"%d,ada%d@example.com\n" % (n, n * 7919) for n in range(400))
    called = call("s3:GetObject", "rest-xml", params={"Bucket": "b", "Key": "t.csv.gz"})
    body = gzip.compress(table)
    out = mask.mask_answer(called, 200, headers("binary/octet-stream"), body)
    rows = gzip.decompress(out.body).splitlines()
    assert (
        len(out.body) == len(body)
        and len(rows) == 401
        and rows[5].startswith(b"4,[MASKED")
        and b"ada" not in b"".join(rows)
    )


def _serve(way: Way, objects: dict[str, tuple[bytes, str]]) -> None:
    """S3 with a checksum where it is asked for, and Content-Encoding where the object has one."""

    def handler(exchange: Exchange) -> Answer | None:
        found = objects.get(exchange.path.rsplit("/", 1)[-1])
        if exchange.service != "s3" or found is None:
            return None
        exchange.read()
        body, coding = found
        fields = {"Content-Type": "binary/octet-stream", "ETag": '"0"', "Content-Length": str(len(body))}
        fields["Last-Modified"] = "Thu, 01 Jan 2026 00:00:00 GMT"
        if coding:
            fields["Content-Encoding"] = coding
        if exchange.header("x-amz-checksum-mode") == "ENABLED":
            fields["x-amz-checksum-sha256"] = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return 200, fields, b"" if exchange.method == "HEAD" else body

    way.aws.answer(handler)


def test_masking_repack_boto3(masked_way: Way, masked_agent: dict[str, str]) -> None:
    """HEAD and GET agree on the length, the checksum of the clean one is true, and each call is made once."""
    objects = {name: (PACK[name](TEXT), "") for name in MAGIC}
    objects |= {f"coded-{name}": (PACK[name](TEXT), name) for name in ("gzip", "br", "zstd", "deflate")}
    objects["clean"] = (gzip.compress(LINES), "")
    _serve(masked_way, objects)
    s3 = boto_client("s3", masked_agent, attempts=3)
    for key, (body, coding) in objects.items():
        head = s3.head_object(Bucket="bucket", Key=key)
        answer = s3.get_object(Bucket="bucket", Key=key, ChecksumMode="ENABLED")
        got = answer["Body"].read()
        assert head["ContentLength"] == answer["ContentLength"] == len(got) == len(body), key
        assert ("ChecksumSHA256" in answer) == (key == "clean")
        if key == "clean":
            assert got == body
        else:
            assert UNPACK[coding or key](got) == MASKED
    assert len(masked_way.calls) == 2 * len(objects)


def test_masking_repack_cli(masked_way: Way, masked_agent: dict[str, str], aws_cli: AwsCli, tmp_path: Path) -> None:
    """`aws s3 cp` of a compressed object with a secret, then gunzip."""
    body = gzip.compress(TEXT)
    _serve(masked_way, {"log.gz": (body, "")})
    file = tmp_path / "log.gz"
    done = aws_cli(masked_agent, "s3", "cp", "s3://bucket/log.gz", str(file))
    assert done.returncode == 0, done.stderr
    assert file.stat().st_size == len(body) and gzip.decompress(file.read_bytes()) == MASKED
