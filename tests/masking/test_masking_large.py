"""Large downloads under the shipped masks: memory, the first byte, and what leaves when masking fails in the middle.

128 MiB; FLOWWARDEN_SOAK=1 makes it 1 GiB. Memory is the gateway's peak resident size above what it was before.
"""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from masking_tools import alnum, github

from flowwarden.masking.windows import BLOCK
from support.clients import Keys, boto_client, sign
from support.gateway import REGION
from support.strict_aws import Answer, Exchange
from support.way import Way

SIZE = (1 << 30) if os.environ.get("FLOWWARDEN_SOAK") else (128 << 20)
GROWTH = 32 << 20
HOST = f"bucket.s3.{REGION}.amazonaws.com"
SECRET = github(4321).encode()
HIDDEN = b"[MASKED:github-token" + b"*" * 19 + b"]"
LINES = b"".join(b"%d %b\n" % (n, alnum(40, n).encode()) for n in range(24_000))[: (1 << 20) - 60]
BLOCK_OF_TEXT = LINES + b"\nkey " + SECRET + b" end\n"
BLOCK_OF_TEXT += b"." * ((1 << 20) - len(BLOCK_OF_TEXT))


def _status(way: Way, name: str) -> int:
    assert way.gateway.process
    text = Path(f"/proc/{way.gateway.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:"))) << 10


def _serve(way: Way, blocks: Any, size: int) -> None:
    def handler(exchange: Exchange) -> Answer | None:
        if exchange.service != "s3":
            return None
        exchange.read()
        return 200, {"Content-Type": "text/plain", "Content-Length": str(size), "ETag": '"1"'}, blocks()

    way.aws.answer(handler)


@pytest.mark.parametrize("kind", ["text", "gzip"])
def test_masking_large_download_in_bounded_memory(masked_way: Way, masked_agent: dict[str, str], kind: str) -> None:
    """Every MiB holds a secret; a compressed object of the size is looked into."""
    clean = gzip.compress(LINES, 1)
    block = BLOCK_OF_TEXT if kind == "text" else clean
    count = SIZE // len(block)
    s3 = boto_client("s3", masked_agent, attempts=3)
    _serve(masked_way, lambda: (block for _ in range(4)), 4 * len(block))
    s3.get_object(Bucket="bucket", Key="warm")["Body"].read()
    _serve(masked_way, lambda: (block for _ in range(count)), count * len(block))
    assert masked_way.gateway.process
    before = _status(masked_way, "VmRSS")
    Path(f"/proc/{masked_way.gateway.process.pid}/clear_refs").write_text("5")
    size = hidden = 0
    tail = b""
    for piece in s3.get_object(Bucket="bucket", Key="large")["Body"].iter_chunks(1 << 20):
        seam = tail + piece
        assert SECRET not in seam
        hidden += seam.count(HIDDEN) - tail.count(HIDDEN)
        size, tail = size + len(piece), seam[-60:]
    grown = _status(masked_way, "VmHWM") - before
    assert size == count * len(block) and hidden == (count if kind == "text" else 0)
    assert grown <= GROWTH, f"the gateway grew by {grown >> 20} MiB"


def test_masking_first_byte_waits_for_one_window(masked_way: Way, masked_agent: dict[str, str]) -> None:
    """The server goes on only when the client has had its first byte."""
    arrived = threading.Event()
    window = BLOCK + (48 << 10)  # a block, and the longest match behind it

    def blocks() -> Iterator[bytes]:
        yield BLOCK_OF_TEXT[:window]
        assert arrived.wait(20), "nothing came through before the rest was sent"
        yield BLOCK_OF_TEXT[window:]

    _serve(masked_way, blocks, len(BLOCK_OF_TEXT))
    stream = boto_client("s3", masked_agent).get_object(Bucket="bucket", Key="k")["Body"]
    first = stream.read(1)
    arrived.set()
    assert first + stream.read() == BLOCK_OF_TEXT.replace(SECRET, HIDDEN)


@pytest.mark.parametrize("fault", ["endless key", "packed secret"])
def test_masking_that_fails_midway_cuts(masked_way: Way, masked_agent: dict[str, str], fault: str) -> None:
    """The connection is cut, the outcome says so, and nothing unmasked has left."""
    opening = b"-----BEGIN RSA PRIVATE " + b"KEY-----\n"
    endless = BLOCK_OF_TEXT + opening + (alnum(64, 5).encode() + b"\n") * 40_000
    packed = gzip.compress(LINES) * 3 + gzip.compress(b"\n" + SECRET)
    data = endless if fault == "endless key" else packed
    _serve(masked_way, lambda: iter([data]), len(data))
    target, head = sign(Keys.of(masked_agent), "GET", f"https://{HOST}/k", service="s3", region=REGION)
    with masked_way.tunnel(masked_agent, HOST) as client:
        reply = client.request("GET", target, head)
        assert reply.truncated and len(reply.body) < len(data)
    assert SECRET not in reply.body and opening not in reply.body
    outcome = [record for record in masked_way.gateway.evidence() if record["type"] == "outcome"][-1]
    assert outcome["outcome"] == "cut" and outcome["code"] in {"MaskLimit", "CompressedSecret"}
