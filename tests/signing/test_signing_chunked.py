"""Chunk signatures: AWS's published examples, a client of the tests' own, and every way to split or break a body."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signing_helpers import (
    NOW,
    botocore_signature,
    botocore_signed,
    credentials,
    hmac_chain,
    shown_signature,
    to_request,
)

from flowwarden.errors import Refusal
from flowwarden.signing import chunked, keys, sigv4
from flowwarden.signing.authentication import Kind, parse
from flowwarden.types import Credentials
from support import sigv4_judge

EMPTY = hashlib.sha256(b"").hexdigest()
PHANTOM = credentials()
REAL = credentials()
TRAILER = [("x-amz-checksum-crc32c", "sOO8/Q==")]


def sign_body(secret, date, region, seed, chunks, trailer=(), ending="\r\n") -> bytes:
    """A body in aws-chunked form, signed straight from AWS's description and nothing else."""
    key = hmac_chain(secret, date[:8], region, "s3")
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    previous, out = seed, b""
    for data in [*chunks, b""]:
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", date, scope, previous, EMPTY, hashlib.sha256(data).hexdigest()])
        previous = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        out += f"{len(data):x};chunk-signature={previous}\r\n".encode() + data + (b"\r\n" if data else b"")
    if trailer:
        lines = "".join(f"{name}:{value}\n" for name, value in trailer)
        text = "\n".join(
            ["AWS4-HMAC-SHA256-TRAILER", date, scope, previous, hashlib.sha256(lines.encode()).hexdigest()]
        )
        previous = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        out += lines.replace("\n", ending).encode() + f"x-amz-trailer-signature:{previous}{ending}".encode()
        return out + ending.encode()
    return out + b"\r\n"


def upload(chunks, trailer=(), creds=PHANTOM, ending="\r\n"):
    """Head and body of an upload, signed by botocore (head) and by `sign_body` (chunks)."""
    size = sum(map(len, chunks))
    headers = {"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": str(size)}
    if trailer:
        headers["X-Amz-Trailer"] = ",".join(name for name, _ in trailer)
    payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
    head = botocore_signed(creds, "PUT", "https://b.s3.amazonaws.com/k", service="s3", headers=headers, payload=payload)
    seed = shown_signature(head)[1]
    return head, sign_body(creds.secret_access_key, "20261120T120000Z", "us-east-1", seed, chunks, trailer, ending)


def started(head, phantom=PHANTOM, real=REAL):
    """Verifies and signs the head; the transform for its body, and the seed signature that goes out."""
    auth = parse(head)
    sigv4.verify(
        head,
        auth,
        PHANTOM.secret_access_key,
        now=NOW.timestamp(),
        body_sha256=None,
        session_token=PHANTOM.session_token,
    )
    signed = sigv4.sign(head, auth, real, now=NOW.timestamp())
    return chunked.transform(auth, phantom, real, signed), signed


def run(transform, pieces) -> bytes:
    return b"".join([transform.feed(piece) for piece in pieces]) + transform.finish()


@pytest.mark.parametrize("trailer", [(), TRAILER])
def test_published_examples(trailer):
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and sigv4-streaming-trailers.html."""
    secret = "wJalrXUtnFEMI" + "/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
    access = "AKIA" + "IOSFODNN7" + "EXAMPLE"
    headers = {
        "Host": "s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else ""),
        "Content-Encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
    }
    if trailer:
        headers["x-amz-trailer"] = "x-amz-checksum-crc32c"
        names = (
            "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
            "x-amz-storage-class;x-amz-trailer"
        )
        signatures = [
            "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ]
    else:
        headers["Content-Length"] = "66824"
        names = (
            "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
            "x-amz-storage-class"
        )
        signatures = [
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ]
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/20130524/us-east-1/s3/aws4_request,SignedHeaders={names},"
        f"Signature={signatures[0]}"
    )
    body = b"".join(
        f"{len(data):x};chunk-signature={signature}\r\n".encode() + data + (b"\r\n" if data else b"")
        for data, signature in zip([b"a" * 65536, b"a" * 1024, b""], signatures[1:], strict=True)
    )
    if trailer:
        body += b"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:"
        body += b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n"
    body += b"\r\n"
    request = to_request("PUT", "https://s3.amazonaws.com/examplebucket/chunkObject.txt", headers.items(), None)
    auth = parse(request)
    now = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
    sigv4.verify(request, auth, secret, now=now, body_sha256=None)
    same = Credentials(access, secret)
    signed = sigv4.sign(request, auth, same, now=now)
    assert signed.signature == signatures[0]
    assert run(chunked.transform(auth, same, same, signed), [body]) == body


@pytest.mark.parametrize("trailer", [(), TRAILER, [*TRAILER, ("x-amz-checksum-sha256", "abc=")]])
@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_resigned_as_the_specification_says(trailer, ending):
    """What leaves is what a client with the real key would have sent, of the same length."""
    chunks = [b"x" * 8192, bytes(range(256)) * 40, b"\r\n0;chunk-signature="]
    head, body = upload(chunks, trailer, ending=ending)
    transform, signed = started(head)
    out = run(transform, [body])
    assert len(out) == len(body)
    assert out == sign_body(REAL.secret_access_key, signed.date, "us-east-1", signed.signature, chunks, trailer, ending)


@pytest.mark.parametrize("trailer", [(), TRAILER])
def test_the_strict_server_takes_it(trailer):
    """Head and chunks as they leave, judged by the tests' strict AWS."""
    chunks = [b"x" * 8192, b"y" * 5]
    head, body = upload(chunks, trailer)
    transform, signed = started(head)
    out = run(transform, [body])
    secret = sigv4_judge.Secret(REAL.access_key_id, REAL.secret_access_key, REAL.session_token)
    judged = sigv4_judge.check_head(
        "PUT",
        signed.target,
        [(name.decode(), value.decode()) for name, value in signed.headers],
        lookup={REAL.access_key_id: secret}.get,
        now=NOW.timestamp(),
        body_hash=lambda: "",
    )
    assert b"".join(sigv4_judge.ChunkDecoder(judged, iter([out]))) == b"".join(chunks)


def test_renewal_in_mid_upload():
    """A lease that is renewed, and its signing keys forgotten, while a body is under way: the body ends as it began."""
    head, body = upload([b"A" * 40, b"B" * 40], TRAILER)
    whole = run(started(head)[0], [body])
    transform, signed = started(head)
    half = transform.feed(body[:150])
    keys.forget(REAL.secret_access_key)
    keys.forget(PHANTOM.secret_access_key)
    assert half + transform.feed(body[150:]) + transform.finish() == whole
    assert signed.scope.service == "s3"


@pytest.mark.parametrize("trailer", [(), TRAILER])
def test_split_at_every_byte(trailer):
    """Two pieces split anywhere, and single bytes, give the same bytes."""
    head, body = upload([b"hello\r\n", b"world" * 3], trailer)
    whole = run(started(head)[0], [body])
    for at in range(len(body) + 1):
        assert run(started(head)[0], [body[:at], body[at:]]) == whole
    assert run(started(head)[0], [body[i : i + 1] for i in range(len(body))]) == whole


@settings(max_examples=60, deadline=None)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=5),
    cuts=st.lists(st.integers(0, 4000), max_size=12),
    trailer=st.sampled_from([(), TRAILER]),
)
def test_any_split(chunks, cuts, trailer):
    """No split of any body changes what leaves."""
    head, body = upload(chunks, trailer)
    at = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    transform, signed = started(head)
    out = run(transform, [body[a:b] for a, b in itertools.pairwise(at)])
    assert out == sign_body(REAL.secret_access_key, signed.date, "us-east-1", signed.signature, chunks, trailer)


def refused(head, pieces) -> tuple[str, bytes]:
    """The code of the refusal, and what had left before it."""
    transform, _ = started(head)
    out = []
    with pytest.raises(Refusal) as error:
        out.extend(map(transform.feed, pieces)) or transform.finish()
    if error.value.code != "IncompleteBody" or "ended before" not in error.value.message:
        for call in (lambda: transform.feed(b"x"), transform.finish):  # a failure latches
            with pytest.raises(Refusal):
                call()
    return error.value.code, b"".join(out)


@pytest.mark.parametrize("trailer", [(), TRAILER])
def test_every_changed_byte_is_refused(trailer):
    """Any bit flipped anywhere in the body is noticed, and the chunk that has it does not leave."""
    chunks = [b"A" * 40, b"B" * 40]
    head, body = upload(chunks, trailer)
    first = len(body) - len(upload([b"B" * 40])[1])
    good = run(started(head)[0], [body])
    for at in range(len(body)):
        wrong = body[:at] + bytes([body[at] ^ 0x40]) + body[at + 1 :]
        code, out = refused(head, [wrong])
        assert out == b"" or at == len(body) - 1  # there only the very end is missing
        code, out = refused(head, [wrong[i : i + 1] for i in range(len(wrong))])
        assert code in {
            "SignatureDoesNotMatch",
            "InvalidRequest",
            "IncompleteBody",
            "InvalidChunkSizeError",
            "MalformedTrailerError",
        }
        assert good.startswith(out[: min(len(out), first)])
        assert len(out) <= at + 2, at


@pytest.mark.parametrize("trailer", [(), TRAILER])
def test_truncated_upload(trailer):
    """A body that ends early, anywhere, is refused."""
    head, body = upload([b"A" * 40, b"B" * 40], trailer)
    for end in range(len(body)):
        assert refused(head, [body[:end]])[0] == "IncompleteBody"


def test_more_than_was_announced():
    """A chunk size larger than the body, bytes after the end, and a chunk that is too large to hold."""
    head, body = upload([b"A" * 40])
    assert refused(head, [body.replace(b"28;", b"29;", 1)])[0] == "IncompleteBody"
    assert refused(head, [body.replace(b"28;", b"ffffffffffffffff;", 1)])[0] in {
        "InvalidChunkSizeError",
        "InvalidRequest",
    }
    assert refused(head, [body, b"x"])[0] == "InvalidRequest"
    assert refused(head, [body + b"0\r\n"])[0] == "InvalidRequest"
    assert refused(head, [b"1" * 300])[0] == "InvalidRequest"
    assert refused(head, [body.replace(b"chunk-signature", b"chunk-signaturf", 1)])[0] == "InvalidRequest"
    assert refused(head, [b"0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n"])[0] == "IncompleteBody"


def test_reordered_chunks():
    """The chain of signatures fixes the order."""
    a, b = b"A" * 40, b"B" * 40
    head, body = upload([a, b])
    size = (len(body) - len(upload([])[1])) // 2
    swapped = body[size : 2 * size] + body[:size] + body[2 * size :]
    assert refused(head, [swapped]) == ("SignatureDoesNotMatch", b"")


def test_foreign_key_and_no_secret():
    """Chunks signed with another key are refused; a key whose secret nobody knows is not checked, only signed."""
    chunks = [b"A" * 40]
    head, body = upload(chunks)
    auth = parse(head)
    signed = sigv4.sign(head, auth, REAL, now=NOW.timestamp())
    with pytest.raises(Refusal, match="signature of a chunk"):
        chunked.transform(auth, credentials(), REAL, signed).feed(body)
    out = run(chunked.transform(auth, None, REAL, signed), [body])
    assert out == sign_body(REAL.secret_access_key, signed.date, "us-east-1", signed.signature, chunks)


def test_heads_that_contradict_themselves():
    """A trailer without a declaration, a declaration without a trailer, no decoded length."""
    chunks = [b"A"]
    for change in (
        {"X-Amz-Trailer": "x-amz-checksum-crc32"},
        {"X-Amz-Decoded-Content-Length": "-1"},
        {"X-Amz-Decoded-Content-Length": ""},
    ):
        headers = {"X-Amz-Decoded-Content-Length": "1", **change}
        head = botocore_signed(
            PHANTOM,
            "PUT",
            "https://b.s3.amazonaws.com/k",
            service="s3",
            headers=headers,
            payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        )
        with pytest.raises(Refusal):
            started(head)
    head, _ = upload(chunks, TRAILER)
    seed = shown_signature(head)[1]
    broken = sign_body(
        PHANTOM.secret_access_key, "20261120T120000Z", "us-east-1", seed, chunks, [("x-amz-checksum-sha1", "x")]
    )
    assert refused(head, [broken])[0] == "MalformedTrailerError"


def test_signed_trailers_that_are_wrong():
    """No signature, a line behind it, a line that is no field, a trailer without end."""
    head, body = upload([b"A"], TRAILER)
    at = body.index(b"x-amz-trailer-signature")
    signature, field = body[at:-2], body[body.index(b"x-amz-checksum") : at]
    for wrong in (
        body[:at] + b"\r\n",
        body[:-2] + field + b"\r\n",
        body[:-2] + signature + b"\r\n",
        body[:at] + field + body[at:],
        body[:at] + b"no field\r\n" + body[at:],
        body[:at] + b"x-amz-trailer-signature:0\r\n\r\n",
        body[:at] + (b"x-amz-meta-%d:" % 1 + b"x" * 1000 + b"\r\n") * 20 + body[at:],
        body.replace(b":sOO8/Q==", b":" + b"x" * 17000),
    ):
        code, out = refused(head, [wrong])
        assert code in {"MalformedTrailerError", "InvalidRequest"}
        assert not out


def test_memory_is_constant():
    """64 MiB in chunks of 64 KiB pass with less than 1 MiB held."""
    chunk, count = b"x" * 65536, 1024
    headers = {"X-Amz-Decoded-Content-Length": str(len(chunk) * count)}
    head = botocore_signed(
        PHANTOM,
        "PUT",
        "https://b.s3.amazonaws.com/k",
        service="s3",
        headers=headers,
        payload=Kind.STREAMING_SIGNED.value,
    )
    transform, _ = started(head)
    key = hmac_chain(PHANTOM.secret_access_key, "20261120", "us-east-1", "s3")
    previous, scope = shown_signature(head)[1], "20261120/us-east-1/s3/aws4_request"
    data_hash, passed = hashlib.sha256(chunk).hexdigest(), 0
    tracemalloc.start()
    for _ in range(count):
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", "20261120T120000Z", scope, previous, EMPTY, data_hash])
        previous = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        piece = f"10000;chunk-signature={previous}\r\n".encode() + chunk + b"\r\n"
        passed += len(transform.feed(piece))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert passed == len(piece) * count
    assert peak < 2**20


UNSIGNED = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n"


def unsigned_reader(length=11, decoded=False):
    headers = ((b"x-amz-decoded-content-length", str(length).encode()), (b"X-Amz-Trailer", b"x-amz-checksum-crc32"))
    return chunked.TrailerReader(headers, decoded_sha256=decoded)


def test_unsigned_trailer_passes_unchanged():
    """The SDKs' default for uploads: bytes stay as they are at every split, the decoded hash is known."""
    for at in range(len(UNSIGNED) + 1):
        reader = unsigned_reader(decoded=True)
        assert run(reader, [UNSIGNED[:at], UNSIGNED[at:]]) == UNSIGNED
        assert reader.hexdigest() == hashlib.sha256(b"hello world").hexdigest()
    assert unsigned_reader().hexdigest() == ""
    empty = b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    assert run(unsigned_reader(0), [empty]) == empty


@pytest.mark.parametrize(
    "body",
    [
        UNSIGNED[:-1],
        UNSIGNED[:-2],
        UNSIGNED + b"x",
        UNSIGNED.replace(b"5\r\n", b"6\r\n", 1),
        UNSIGNED.replace(b"5\r\n", b"5;ext\r\n", 1),
        UNSIGNED.replace(b"5\r\n", b"5\n", 1),
        UNSIGNED.replace(b"5\r\n", b"-5\r\n", 1),
        UNSIGNED.replace(b"crc32", b"sha1"),
        UNSIGNED.replace(b"x-amz-checksum-crc32:DUoRhQ==\r\n", b""),
        UNSIGNED.replace(b"x-amz-checksum-crc32:DUoRhQ==\r\n", b"x-amz-checksum-crc32:DUoRhQ==\r\n" * 2),
        UNSIGNED.replace(b"DUoRhQ==", b"\x00"),
        UNSIGNED.replace(b"6\r\n world\r\n", b""),
        UNSIGNED.replace(b"DUoRhQ==", b"A" * 20000),
        b"0x5" + UNSIGNED[1:],
        b"",
    ],
)
def test_unsigned_trailer_framing(body):
    """A frame that is not well-formed is refused, at once or when the body ends."""
    with pytest.raises(Refusal):
        run(unsigned_reader(), [body])


@given(st.binary(max_size=200))
def test_no_bytes_give_a_traceback(body):
    """Whatever comes, a Refusal is the worst that happens."""
    for reader in (unsigned_reader(), started(upload([b"A"])[0])[0]):
        try:
            run(reader, [body])
        except Refusal:
            continue
        pytest.fail("a random body passed")


def test_which_body_needs_what():
    """A plain body has no transform; one whose hash is in the signature alone cannot stream."""
    headers = {"X-Amz-Decoded-Content-Length": "0", "X-Amz-Trailer": "x-amz-checksum-crc32"}
    trailer = botocore_signed(
        PHANTOM,
        "PUT",
        "https://b.s3.amazonaws.com/k",
        service="s3",
        headers=headers,
        payload=Kind.STREAMING_UNSIGNED_TRAILER.value,
    )
    assert isinstance(started(trailer)[0], chunked.TrailerReader)
    for payload in ("UNSIGNED-PAYLOAD", hashlib.sha256(b"x").hexdigest()):
        plain = botocore_signed(PHANTOM, "PUT", "https://b.s3.amazonaws.com/k", service="s3", payload=payload)
        assert started(plain)[0] is None
    absent = botocore_signed(PHANTOM, "POST", body=b"x")
    auth = parse(absent)
    signed = sigv4.sign(absent, auth, REAL, now=NOW.timestamp())
    with pytest.raises(Refusal, match="whole body"):
        chunked.transform(auth, PHANTOM, REAL, signed)
    assert signed.signature == botocore_signature(
        to_request("POST", "https://sts.us-east-1.amazonaws.com/", [(n.decode(), v) for n, v in signed.headers], b"x"),
        REAL.secret_access_key,
    )
