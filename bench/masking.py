"""What masking costs on clean answers with the whole shipped rule set, and how long hostile bodies take."""

from __future__ import annotations

import base64
import gzip
import json
import random
import time
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli

from flowwarden.errors import Refusal
from flowwarden.masking import rules
from flowwarden.masking.masker import Masker
from flowwarden.types import Call, Headers, Operation

RULES = Path(__file__).parents[1] / "rules" / "masks.yaml"
WORDS = ["lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit", "eiusmod", "tempor", "magna"]
DESCRIBE = Call(aws=True, operation=Operation("ec2", "DescribeInstances"), protocol="json")
OBJECT = Call(aws=True, operation=Operation("s3", "GetObject"), protocol="rest-xml")
HEADERS: Headers = (
    (b"Content-Type", b"application/x-amz-json-1.1"),
    (b"Content-Length", b"1000"),
    (b"x-amzn-RequestId", b"7b8d1e5c-1111-2222-3333-444455556666"),
    (b"Date", b"Thu, 01 Jan 2026 00:00:00 GMT"),
)
STREAM_SIZE = 1 << 30


def clean_json(size: int, seed: int = 3) -> bytes:
    """An answer like those of AWS's describe calls, at least `size` bytes long, with nothing to hide."""
    rng = random.Random(seed)
    items: list[dict[str, object]] = []
    length = 120
    while length < size or not items:
        items.append(
            {
                "InstanceId": f"i-{rng.getrandbits(68):017x}",
                "Arn": f"arn:aws:iam::123456789012:role/service-role/app-{len(items)}",
                "State": {"Name": "running", "Code": 16},
                "LaunchTime": "2026-01-01T00:00:00.000Z",
                "Reservation": str(uuid.UUID(int=rng.getrandbits(128))),
                "Description": " ".join(rng.choices(WORDS, k=12)),
                "Tags": [{"Key": "Name", "Value": f"web-{len(items)}"}],
            }
        )
        length += len(json.dumps(items[-1])) + 2
    return json.dumps({"Items": items, "NextToken": base64.b64encode(rng.randbytes(48)).decode()}).encode()


def _best(work: Callable[[], object], least: float = 0.3) -> float:
    """Seconds of CPU of one run: the best of five rounds."""
    work()
    rounds = max(1, int(least / 5 / max(1e-6, _once(work))))
    return min(_rounds(work, rounds) for _ in range(5))


def _once(work: Callable[[], object]) -> float:
    return _rounds(work, 1)


def _rounds(work: Callable[[], object], count: int) -> float:
    started = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - started) / count


def _stream(masker: Masker, size: int) -> float:
    rng = random.Random(1)
    chunk = (" ".join(rng.choices(WORDS, k=12_000)) + "\n").encode()[:65536]
    stream = masker.stream(OBJECT, 200, ((b"content-type", b"text/plain"),))
    assert stream is not None
    started = time.process_time()
    for _ in range(size // len(chunk)):
        stream.feed(chunk)
    stream.finish()
    return size / (time.process_time() - started)


def hostile() -> dict[str, tuple[str, str, bytes]]:
    """Name: (content type, content coding, body) of bodies made to hurt whoever reads them."""
    big = 10_000_000
    made: dict[str, tuple[str, str, bytes]] = {
        "deep arrays": ("application/json", "", b"[" * 100_000 + b"]" * 100_000),
        "deep objects": ("application/json", "", b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        "deep and secret": ("application/json", "", b'{"password":' + b"[" * 900 + b'"x"' + b"]" * 900 + b"}"),
        "deep xml": ("text/xml", "", b"<a>" * 100_000 + b"</a>" * 100_000),
        "huge integer": ("application/json", "", b'{"password": ' + b"9" * big + b"}"),
        "huge float": ("application/json", "", b'{"password": 0.' + b"9" * big + b"e9999}"),
        "million keys": ("application/json", "", json.dumps({f"k{n}": n for n in range(1_000_000)}).encode()),
        "million secret keys": (
            "application/json",
            "",
            json.dumps({f"password{n}": "x" for n in range(500_000)}).encode(),
        ),
        "million passwords": ("application/json", "", json.dumps([{"password": "x"}] * 500_000).encode()),
        "million quotes": ("application/json", "", json.dumps('"' * 1_000_000).encode()),
        "escapes": ("application/json", "", b'{"a": "' + b"\\u0041" * 1_000_000 + b'"}'),
        "nested json": ("application/json", "", _nested_json(12)),
        "nested base64": ("application/json", "", json.dumps({"a": _nested_base64(14)}).encode()),
        "base64 runs": ("text/plain", "", b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo= " * 200_000),
        "one base64 run": ("text/plain", "", b"QUJD" * 2_500_000),
        "percents": ("text/plain", "", b"%41" * 3_000_000),
        "million numbers": ("application/json", "", b"[" + b"1," * 2_000_000 + b"1]"),
        "passwords in text": ("text/plain", "", b"password=Xy7zAb12\n" * 300_000),
        "half passwords": ("text/plain", "", b"password=" * 1_000_000),
        "token prefixes": ("text/plain", "", b"ghp_" * 2_000_000),
        "long almost token": ("text/plain", "", b"ghp_" + b"a" * big),
        "jwt starts": ("text/plain", "", b"eyJhbGciOiJI." * 700_000),
        "pem starts": ("text/plain", "", ("-----BEGIN RSA PRIVATE " + "KEY-----\n").encode() * 200_000),
        "long pem": ("text/plain", "", ("-----BEGIN RSA PRIVATE " + "KEY-----\n").encode() + b"A" * big),
        "url starts": ("text/plain", "", b"a://b:c" * 1_000_000),
        "spaces": ("text/plain", "", b"password" + b" " * big),
        "dots": ("text/plain", "", b"a." * 4_000_000),
        "dashes": ("text/plain", "", b"-" * big),
        "zeros": ("text/plain", "", b"\0" * big),
        "high bytes": ("text/plain", "", b"\xff" * big),
        "gzip bomb": ("text/plain", "gzip", gzip.compress(b"0" * 200_000_000)),
        "deflate bomb": ("text/plain", "deflate", zlib.compress(b"0" * 200_000_000)),
        "brotli bomb": ("text/plain", "br", brotli.compress(b"0" * 200_000_000, quality=5)),
        "gzip twice": ("text/plain", "gzip, gzip", gzip.compress(gzip.compress(b"0" * 100_000_000))),
        "entity bomb": ("text/xml", "", b'<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>'),
        "million elements": ("text/xml", "", b"<a>" + b"<b>password</b>" * 600_000 + b"</a>"),
        "million attributes": ("text/xml", "", b"<a " + b" ".join(b'b%d="c"' % n for n in range(50_000)) + b"/>"),
        "character references": ("text/xml", "", b"<a>" + b"&#103;" * 1_000_000 + b"</a>"),
        "comments": ("text/xml", "", b"<a>" + b"<!-- x -->" * 500_000 + b"</a>"),
        "cbor deep": ("application/cbor", "", b"\x81" * 1_000_000),
        "cbor huge count": ("application/cbor", "", b"\x9b" + b"\x7f" * 8),
        "cbor million": ("application/cbor", "", b"\x9a\x00\x0f\x42\x40" + b"\x61a" * 1_000_000),
        "form": ("application/x-www-form-urlencoded", "", b"password=x&" * 800_000),
        "endless sse event": ("text/event-stream", "", b"data: " + b"x" * big),
        "million sse events": ("text/event-stream", "", b'data: {"delta": {"text": "a"}}\n\n' * 200_000),
    }
    return made


def _nested_json(depth: int) -> bytes:
    text = json.dumps({"password": "x"})
    for _ in range(depth):
        text = json.dumps({"a": text})
    return text.encode()


def _nested_base64(depth: int) -> str:
    text = b"password=Xy7zAb12"
    for _ in range(depth):
        text = base64.b64encode(text)
    return text.decode()


def hostile_seconds(masker: Masker) -> dict[str, float]:
    """Seconds of CPU until a refusal or a masked answer, for each hostile body."""
    found: dict[str, float] = {}
    for name, (content_type, coding, body) in hostile().items():
        headers: Headers = ((b"content-type", content_type.encode()),)
        headers += ((b"content-encoding", coding.encode()),) if coding else ()
        started = time.process_time()
        try:
            masker.mask_answer(Call(aws=False), 200, headers, body)
        except Refusal:
            pass
        found[name] = time.process_time() - started
    return found


def measure(stream_size: int = STREAM_SIZE) -> dict[str, float]:
    """Microseconds for a clean 1 KB answer, MB/s on clean JSON and on a stream, and the slowest hostile body in seconds."""
    masker = rules.load(RULES).for_groups(frozenset())
    results: dict[str, float] = {}
    for name, size in (("1k", 1000), ("64k", 64 << 10), ("1m", 1 << 20)):
        body = clean_json(size - 330 if size == 1000 else size)
        seconds = _best(lambda body=body: masker.mask_answer(DESCRIBE, 200, HEADERS, body))  # type: ignore[misc]
        results[f"mask_json_{name}_us"] = seconds * 1e6
        results[f"mask_json_{name}_mb_s"] = len(body) / seconds / 1e6
    results["mask_stream_mb_s"] = _stream(masker, stream_size) / 1e6
    results["mask_hostile_worst_s"] = max(hostile_seconds(masker).values())
    return results


if __name__ == "__main__":
    for key, value in measure(64 << 20).items():
        print(f"{key:28} {value:12.2f}")
    slow = sorted(hostile_seconds(rules.load(RULES).for_groups(frozenset())).items(), key=lambda item: -item[1])
    print(len(slow), [(name, round(seconds, 2)) for name, seconds in slow[:12]])
