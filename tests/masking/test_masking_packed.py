"""Compressed objects: looked into as they pass, never changed, cut before a secret inside them is out."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_tools import alnum, call, github, headers, masker, shipped

from flowwarden.errors import Refusal
from flowwarden.masking import ranges
from flowwarden.masking.masker import Masker
from flowwarden.types import Call

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
LINES = b"".join(b"%d %b\n" % (n, alnum(60, n).encode()) for n in range(12_000))  # 800 KB that hardly shrink
SECRET = f"\nkey {github()} end\n".encode()


def _object(key: str = "a") -> Call:
    return call("s3:GetObject", "rest-xml", params={"Bucket": "b", "Key": key})


def _passed(mask: Masker, body: bytes, *, step: int = 4096, key: str = "a", status: int = 200, **more: str) -> bytes:
    """What of a body is out, the whole of it or all before the cut."""
    stream = mask.stream(_object(key), status, headers("binary/octet-stream", content_length=str(len(body)), **more))
    assert stream is not None
    out = bytearray()
    try:
        for at in range(0, len(body), step):
            out += stream.feed(body[at : at + step])
        out += stream.finish()
    except Refusal as cut:
        if cut.code != "CompressedSecret" or "github-token" not in cut.message or len(out) >= len(body):
            raise
        return bytes(out)
    assert len(out) == len(body) == int(dict(stream.headers)[b"content-length"])
    assert stream.inspected
    return bytes(out)


@pytest.mark.parametrize("name", PACK)
def test_masking_packed_clean_passes_as_it_is(name: str) -> None:
    """Byte for byte, also two members one after the other."""
    for body in (PACK[name](LINES), PACK[name](LINES[:999]) + PACK[name](LINES[999:5000])):
        assert _passed(shipped(), body) == body
        out = shipped().mask_answer(_object(), 200, headers("binary/octet-stream"), body)
        assert out.body is body and out.inspected


def _decoded(name: str, data: bytes) -> bytes:
    """All that can be had from the beginning of a compressed body."""
    engines = {
        "gzip": lambda: __import__("zlib").decompressobj(31),
        "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
        "bzip2": bz2.BZ2Decompressor,
        "xz": lzma.LZMADecompressor,
    }
    return bytes(engines[name]().decompress(data)) if data else b""


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("at", [0, 400_000, len(LINES)])
def test_masking_packed_secret_is_cut(name: str, at: int) -> None:
    """Nothing from which the secret can be decoded has left, wherever it stands and however the body is cut."""
    body = PACK[name](LINES[:at] + SECRET + LINES[at:])
    for step in (1000, 65_536, len(body)):
        assert github().encode() not in _decoded(name, _passed(shipped(), body, step=step))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(PACK)), st.integers(0, len(LINES)), st.integers(200, 60_000))
def test_masking_packed_any_place_any_split(name: str, at: int, step: int) -> None:
    body = PACK[name](LINES[:at] + SECRET + LINES[at:])
    assert github().encode() not in _decoded(name, _passed(shipped(), body, step=step))


def test_masking_packed_secret_in_the_second_member() -> None:
    body = gzip.compress(LINES[:5000]) + gzip.compress(SECRET)
    assert len(_passed(shipped(), body)) < len(body)


def test_masking_packed_columns_inside(tmp_path: Path) -> None:
    """A packed table's masked column is a secret as well."""
    mask = masker(tmp_path, "masks: [{id: m, columns: [email]}]")
    stream = mask.stream(_object("t.csv.gz"), 200, headers("binary/octet-stream"))
    assert stream is not None
    with pytest.raises(Refusal, match="holds a secret"):
        _ = stream.feed(gzip.compress(b"id,email\n1,ada@example.com\n")), stream.finish()


UNREADABLE = {
    "broken": gzip.compress(LINES)[:5000] + os.urandom(9000),
    "bomb": gzip.compress(b"0" * 30_000_000),
    "zip": b"PK\x03\x04" + random.Random(1).randbytes(3000),
    "parquet": b"PAR1" + random.Random(2).randbytes(3000),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_masking_packed_unreadable(tmp_path: Path, name: str) -> None:
    """What cannot be read passes as it is and is noted, or is refused where a rule says so; streamed and whole."""
    body = UNREADABLE[name]
    stream = shipped().stream(_object(), 200, headers("binary/octet-stream"))
    assert stream is not None
    assert stream.feed(body) + stream.finish() == body and not stream.inspected
    out = shipped().mask_answer(_object(), 200, headers("binary/octet-stream"), body)
    assert out.body is body and not out.inspected
    denying = masker(tmp_path, "opaque: deny\ninclude: [tokens]\nmasks: []\n")
    with pytest.raises(Refusal) as refused:
        denying.mask_answer(_object(), 200, headers("binary/octet-stream"), body)
    assert refused.value.code == "OpaqueAnswer"


def test_masking_packed_secret_before_the_break_is_not_released() -> None:
    """Rubbish behind a secret does not set it free."""
    body = gzip.compress(SECRET + LINES[:400_000])[:200_000] + b"\xff" * 50_000
    stream = shipped().stream(_object(), 200, headers("binary/octet-stream"))
    assert stream is not None
    with pytest.raises(Refusal) as refused:
        stream.feed(body)
    assert refused.value.code == "CompressedSecret"


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_masking_packed_parts_of_encoded_objects_keep_their_bytes(coding: str) -> None:
    """A part of an object with a content coding is not encoded again: the part would be another."""
    pack = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}[coding]
    body = pack(LINES)[:150_000]
    more = {"content_encoding": coding, "content_range": f"bytes 0-{len(body) - 1}/900000"}
    assert _passed(shipped(), body, status=206, **more) == body
    body = pack(LINES[:900] + SECRET + LINES)
    more["content_range"] = f"bytes 0-{len(body) - 1}/900000"
    assert len(_passed(shipped(), body, status=206, **more)) < len(body)


@pytest.mark.parametrize(("key", "fields"), [("a.gz", {}), ("a", {"content_encoding": "gzip"})])
def test_masking_packed_later_parts_cannot_be_read(tmp_path: Path, key: str, fields: dict[str, str]) -> None:
    body = gzip.compress(LINES)[100_000:]
    fields = {**fields, "content_range": f"bytes 100000-{100_000 + len(body) - 1}/900000"}
    out = shipped().mask_answer(_object(key), 206, headers("binary/octet-stream", **fields), body)
    assert out.body is body and not out.inspected
    with pytest.raises(Refusal):
        masker(tmp_path, "opaque: deny\nmasks: [{id: x, fields: [x]}]").mask_answer(
            _object(key),
            206,
            headers("binary/octet-stream", **fields),
            body,
        )


def test_masking_packed_ranges_ask_from_the_beginning() -> None:
    """A part that can be told from its beginning only is asked for from there, as far as that is sane."""
    part = ranges.asked("bytes=5000000-5000009")
    assert part is not None
    assert shipped().widened(part, _object("a.gz")).startswith("bytes=0-50")
    assert shipped().widened(part, _object("a.csv")).startswith("bytes=0-50")
    assert shipped().widened(part, _object("a.txt")).startswith("bytes=49")
    near, far = ranges.asked("bytes=9-"), ranges.asked("bytes=90000000-")
    assert near is not None and shipped().widened(near, _object("a")) == "bytes=0-"
    assert far is not None and not shipped().widened(far, _object("a.gz")).startswith("bytes=0-")


def test_masking_packed_later_part_of_a_table_is_refused(tmp_path: Path) -> None:
    """Its first record would be taken for the names of the columns."""
    mask = masker(tmp_path, "masks: [{id: m, columns: [email]}]")
    fields = headers("text/csv", content_range="bytes 90000000-90000020/99000000")
    with pytest.raises(Refusal) as refused:
        mask.mask_answer(_object("t.csv"), 206, fields, b"2,bob@example.com\n3,x")
    assert refused.value.code == "UnreadablePart"
