"""Streams: any split gives the same as the whole, memory is bounded, and a failure lets nothing more out."""

from __future__ import annotations

import base64
import gzip
import os
import random
import re
import resource
import zlib
from pathlib import Path

import brotli
import pytest
import re2
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from masking_tools import alnum, aws_secret, call, github, headers, masker, shipped

from flowwarden.errors import Refusal
from flowwarden.masking import values
from flowwarden.masking.examples import fill
from flowwarden.masking.searcher import options
from flowwarden.masking.stretches import Stretches, places
from flowwarden.masking.values import Run
from flowwarden.masking.windows import BLOCK, Windows

OBJECT = call("s3:GetObject", "rest-xml")
PEM = (
    "-----BEGIN RSA PRIVATE "
    + "KEY-----\n"
    + "\n".join(alnum(64, n) for n in range(20))
    + "\n-----END RSA PRIVATE "
    + "KEY-----"
)
WORDS = st.sampled_from(
    [
        github(3),
        "aws_secret_access_key = " + aws_secret(),
        "password: Xy7" + alnum(9),
        base64.b64encode(f"note {github(4)} end".encode()).decode(),
        github(5).replace("_", "%5F"),
        PEM,
        "lorem ipsum dolor sit amet, " * 9,
        alnum(700, 3),
        "\n",
        " ",
        "ghp_",
        "=",
        '"',
    ]
)


def _cut(body: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(body) + 1) for place in places})
    return [body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True)]


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, max_size=40), st.lists(st.integers(0, 1 << 20), max_size=12), st.booleans())
def test_masking_stream_any_split_is_the_same(words: list[str], places: list[int], same: bool) -> None:
    """However a text is cut, the same bytes come out, no secret is among them, and objects keep their length."""
    body = " ".join(words).encode()
    chosen = shipped().object_values if same else shipped().values

    def masked(pieces: list[bytes]) -> tuple[bytes, object]:
        run = Run(same_length=same)
        windows = Windows(chosen, run, block=512)
        return b"".join([windows.feed(piece) for piece in pieces]) + windows.finish(), run.counts

    try:
        whole = masked([body])
    except Refusal:
        with pytest.raises(Refusal):
            masked(_cut(body, places))
        return
    assert masked(_cut(body, places)) == whole
    assert masked([body[i : i + 1] for i in range(len(body))] if len(body) < 1500 else [body]) == whole
    if same:
        assert len(whole[0]) == len(body)
    for token in (github(3), aws_secret()):
        assert token.encode() not in whole[0]


def test_masking_stream_secret_at_every_border() -> None:
    """A token at every offset around a block's end is found, plain and in base64."""
    token = github(9)
    coded = base64.b64encode(f"the token {token} is here, and more of it".encode()).decode()
    for secret in (f"pad {token} pad", coded, f"\naws_secret_access_key={aws_secret()}\n"):
        for offset in range(512 - len(secret) - 2, 514):
            body = (". " * 300)[:offset].encode() + secret.encode() + b" ." * 20_000
            run = Run(same_length=True)
            windows = Windows(shipped().object_values, run, block=512)
            out = windows.feed(body) + windows.finish()
            assert len(out) == len(body) and run.counts.total() == 1, offset
            assert secret.encode() not in out


@pytest.mark.parametrize("coding", ["", "gzip", "deflate", "br", "zstd"])
def test_masking_stream_codings(coding: str) -> None:
    """A compressed stream is undone, masked and compressed again, whatever the chunks."""
    plain = (f"x {github()} y\n" + "filler " * 50_000 + f"password={alnum(14)}\n").encode()
    pack = {
        "": bytes,
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "br": brotli.compress,
        "zstd": zstandard.compress,
    }
    undo = {"": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress, "br": brotli.decompress}
    body = pack[coding](plain)
    more = {"content_encoding": coding} if coding else {}
    stream = shipped().stream(call(), 200, headers("text/plain", content_length="9", **more))
    assert stream is not None and b"content-length" not in dict(stream.headers)
    out = b"".join([stream.feed(body[i : i + 777]) for i in range(0, len(body), 777)]) + stream.finish()
    out = zstandard.ZstdDecompressor().decompressobj().decompress(out) if coding == "zstd" else undo[coding](out)
    assert out.endswith(b"password=[MASKED:generic-secret]\n") and github().encode() not in out
    assert dict(stream.counts) == {"github-token": 1, "generic-secret": 1}


def test_masking_stream_failure_latches() -> None:
    """A broken stream is refused, and so is everything after it; a stream that ends in the middle too."""
    for body in (b"no gzip at all", gzip.compress(os.urandom(1000))[:-4]):
        stream = shipped().stream(OBJECT, 200, headers("text/plain", content_encoding="gzip"))
        assert stream is not None
        with pytest.raises(Refusal):
            _ = (stream.feed(body), stream.finish())
        with pytest.raises(Refusal):
            stream.feed(b"more")


def test_masking_stream_crash_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception midway becomes a refusal, and no unmasked byte leaves."""
    stream = shipped().stream(OBJECT, 200, headers("text/plain"))
    assert stream is not None
    monkeypatch.setattr(values.Run, "mask", lambda *_: 1 / 0)
    secret = f"key {github()} end ".encode()
    out = b""
    with pytest.raises(Refusal) as refused:
        out += stream.feed(b"a" * 1000 + b" " + secret + b" b" * 200_000)
    assert refused.value.code == "MaskFailed" and out == b""


def test_masking_stream_zip_bomb() -> None:
    """A bomb is cut while it is small."""
    for coding, bomb in (("gzip", gzip.compress(b"0" * 50_000_000)), ("br", brotli.compress(b"0" * 50_000_000))):
        stream = shipped().stream(OBJECT, 200, headers("text/plain", content_encoding=coding))
        assert stream is not None
        with pytest.raises(Refusal) as refused:
            stream.feed(bomb)
        assert refused.value.code == "TooLarge"


def test_masking_stream_headers_of_objects() -> None:
    """Objects keep Content-Length and ETag and lose their checksums before a byte is known; errors are not streamed."""
    fields = headers("text/plain", Content_Length="77", ETag='"x"', x_amz_checksum_crc32="y", x_amz_meta_a="b")
    stream = shipped().stream(OBJECT, 206, fields)
    assert stream is not None
    assert dict(stream.headers) == {
        b"content-type": b"text/plain",
        b"Content-Length": b"77",
        b"ETag": b'"x"',
        b"x-amz-meta-a": b"b",
    }
    assert shipped().stream(OBJECT, 404, headers("application/xml")) is None
    assert shipped().may_stream(OBJECT, fields) and not shipped().may_stream(call("a:B"), headers())


def test_masking_stream_memory_is_bounded() -> None:
    """A large object passes within 32 MiB (64 MiB here; the 1 GiB form runs with FLOWWARDEN_SOAK)."""
    chunk = (" ".join(random.Random(1).choices(["lorem", "ipsum", "dolor=1", "{}", "sit amet.\n"], k=9000))).encode()[
        :65536
    ]
    total = (1 << 30) if os.environ.get("FLOWWARDEN_SOAK") else (64 << 20)
    stream = shipped().stream(OBJECT, 200, headers("text/plain"))
    assert stream is not None
    given = len(stream.feed(chunk * 8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = len(chunk) * 8
    while size < total:
        given += len(stream.feed(chunk))
        size += len(chunk)
    given += len(stream.finish())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 32 << 10 and size == given


@pytest.mark.parametrize(
    ("content_type", "operation"), [("application/octet-stream", ""), ("application/x-parquet", "s3:GetObject")]
)
def test_masking_stream_opaque(tmp_path: Path, content_type: str, operation: str) -> None:
    """What cannot be read passes byte for byte and is noted; text under the same name is masked; a rule can deny."""
    called = call(operation, "rest-xml") if operation else call()
    packed, plain = b"PAR1" + os.urandom(3000), f"key {github()} end\n".encode() * 40
    for body, inspected in ((packed, False), (plain, True)):
        stream = shipped().stream(called, 200, headers(content_type))
        assert stream is not None
        out = b"".join([stream.feed(body[i : i + 100]) for i in range(0, len(body), 100)]) + stream.finish()
        assert stream.inspected is inspected
        assert out == body if body is packed else github().encode() not in out
    denying = masker(tmp_path, "opaque: deny\nmasks:\n  - {id: x, fields: [x]}\n").stream(
        called, 200, headers(content_type)
    )
    assert denying is not None
    with pytest.raises(Refusal):
        denying.feed(packed)


def test_every_shape_is_found_in_data_that_is_no_text() -> None:
    """What makes binary data fast to search loses no secret, wherever in its blocks one stands."""
    rng = random.Random(5)
    masks = [mask for mask in shipped().masks if mask.pattern and mask.objects and mask.hits]
    assert len(masks) >= 150
    tried = 0
    for mask in masks:
        secret = fill(rng.choice(mask.hits), rng).encode()
        text = shipped().stream(OBJECT, 200, headers("text/plain"))
        assert text is not None
        alone = secret + b"\n"
        hidden = text.feed(alone) + text.finish()
        if hidden == alone:
            continue  # an example that counts only with what stands around it
        tried += 1
        place = rng.choice((40_000, BLOCK - len(secret) // 2, BLOCK - 5, 2 * BLOCK - 1))
        blob = rng.randbytes(place) + b"\0" + secret + b"\0" + rng.randbytes(3 * BLOCK - place)
        assert len(Stretches(blob[:BLOCK], True).text) < BLOCK // 4  # it does take the short way
        stream = shipped().stream(OBJECT, 200, headers("text/plain"))
        assert stream is not None
        made = b"".join(stream.feed(blob[at : at + 65536]) for at in range(0, len(blob), 65536)) + stream.finish()
        assert len(made) == len(blob) and made[place + 1 : place + 1 + len(secret)] != secret, mask.id
    assert tried >= 150


def test_texts_are_searched_whole() -> None:
    for text in ("plain\t\r\n" * 9000, "пароль " * 9000, "Größe ß\x0c" * 9000):
        for encoding in ("utf-8", "latin-1", "cp1251"):
            raw = text.encode(encoding, "replace")
            assert Stretches(raw, True).text == raw


@pytest.mark.parametrize("length", [37, 50, 64, 84, 100, 128])
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_a_table_with_a_control_character_a_row_is_text(length: int, encoding: str) -> None:
    """Whatever the rows' length has in common with the places that are looked at to tell text from other data."""
    rows = [
        b"\x1e" + (b"%06d Some customer, some street 12 " % n * 4)[: length - 2] + b"\n"
        for n in range(150_000 // length)
    ]
    secret = f"password: {HIDDEN}".encode(encoding)
    rows[len(rows) // 2] = b"\x1e" + secret.ljust(length - 2) + b"\n"
    table = b"".join(rows)
    assert Stretches(table, True).whole
    stream = shipped().stream(OBJECT, 200, headers("text/plain"))
    assert stream is not None
    assert secret not in stream.feed(table) + stream.finish()


def test_a_match_in_stretches_is_told_where_it_stands() -> None:
    rng = random.Random(8)
    code = re2.compile(rb"%[0-9]{2}", options(1 << 20, False))
    blob = b"".join(
        rng.choice((rng.randbytes(300), b"\0%11 is too short\0"[:9], b"\0a stretch of text %12 with%13%14 codes\0"))
        for _ in range(2000)
    )
    stretches = Stretches(blob, True)
    assert len(stretches.text) < len(blob) // 2
    in_text = {at for start, end in places(blob) for at in range(start, end - 2)}
    expected = [match.start() for match in re.finditer(rb"%[0-9]{2}", blob) if match.start() in in_text]
    found: list[int] = []
    while (at := stretches.find(code, found[-1] + 1 if found else 0)) >= 0:
        found.append(at)
    assert found == expected
    assert len(found) > 1000
    assert Stretches(b"a%11%12", True).find(code, 2) == 4
    assert Stretches(b"a%11", True).find(code, 2) == -1


_STRETCH = re.compile(rb"[\t-\r\x20-\x7e](?:[\t-\r\x20-\x7e]|[\x80-\xff][\t-\r\x20-\x7e])*")
_CORE = re.compile(rb"[\t-\r\x20-\x7e]{6}")
_PIECES = [b"word", b"longer words", b"\t", b"\xe9", b"\xff\xfe\xfd", b"\0", b"\x1f", b"~\x7f"]


@given(st.lists(st.sampled_from(_PIECES)).map(b"".join))
@example(b"")
@example(b"a" * 11)
@example(b"a" * 12)
@example(b"\xe9" + b"a" * 11)
@example(b"a" * 12 + b"\xe9")
@example(b"a\xe9" * 6 + b"a" * 5)
@example(b"a\xe9" * 6 + b"a" * 6 + b"\xe9a" * 3)
def test_stretches_of_text_are_what_an_expression_finds(data: bytes) -> None:
    """The expression does not know of a byte above ASCII before a stretch, which belongs to it."""
    found = [match.span() for match in _STRETCH.finditer(data)]
    whole = [(start - (start > 0 and data[start - 1] > 127), end) for start, end in found]
    expected = [(start, end) for start, end in whole if end - start >= 12 and _CORE.search(data, start, end)]
    assert places(data) == expected


HIDDEN = "Xy7密码很长的密码9kk9"
IN_BINARY = {
    "url": f"postgres://admin:{HIDDEN}@db.internal/x".encode(),
    "option": f" deploytool --password={HIDDEN} x".encode(),
    "definition": f"define('DB_PASSWORD', '{HIDDEN}');".encode(),
    "latin-1 behind a short name": "pwd=éT7xK9mQ2wZ4bN".encode("latin-1"),
    "latin-1 everywhere": "pwd=Kß7xK9möQ2wZ4bN".encode("latin-1"),
}


@pytest.mark.parametrize("name", IN_BINARY)
def test_secrets_beyond_ascii_are_found_in_data_that_is_no_text(name: str) -> None:
    rng = random.Random(3)
    blob = rng.randbytes(20_000) + b"\0" + IN_BINARY[name] + b"\0" + rng.randbytes(20_000)
    stream = shipped().stream(OBJECT, 200, headers("binary/octet-stream"))
    assert stream is not None
    made = stream.feed(blob) + stream.finish()
    assert IN_BINARY[name] not in made and len(made) == len(blob)


@pytest.mark.parametrize(
    "secret", [b"token%3Dx9xK7mQ2wZ4bN8r", b"password\\u003dx9xK7mQ2wZ4bN8r", b"pwd=\xe9xK7mQ2wZ4bN8r"]
)
@pytest.mark.parametrize("binary", [False, True])
def test_what_is_found_does_not_depend_on_where_a_block_ends(secret: bytes, binary: bool) -> None:
    rng = random.Random(4)
    for before in range(len(secret) + 2):
        filler = rng.randbytes(BLOCK) if binary else b"some words of a text\n" * (BLOCK // 20)
        blob = filler[: BLOCK - before - 10] + b"\nuser=joe " + secret + b" \n" + filler[: BLOCK // 2]
        stream = shipped().stream(OBJECT, 200, headers("binary/octet-stream"))
        assert stream is not None
        made = stream.feed(blob) + stream.finish()
        assert secret not in made, (secret, before)
        assert len(made) == len(blob)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"passwd": 112234.0}', b'{"passwd": 0       }'),
        (b'{"passwd" :\n-11.2234e5, "a": 1}', b'{"passwd" :\n0         , "a": 1}'),
        (b'{"passwd": "112234.0"}', b'{"passwd": "[MASKED]"}'),
        (b"passwd: 112234.0\n", b"passwd: [MASKED]\n"),
        (b'{"passwd": 0112234.0}', b'{"passwd": [MASKED*]}'),
    ],
)
def test_a_number_in_an_object_that_is_json_becomes_another_number(text: bytes, expected: bytes) -> None:
    """What reads the object goes on reading it; what is no JSON number keeps the mask that can be seen."""
    stream = shipped().stream(OBJECT, 200, headers("application/json"))
    assert stream is not None
    assert stream.feed(text) + stream.finish() == expected
