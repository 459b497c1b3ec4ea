"""An upload in signed chunks through the whole gate, beside a bare mitmdump that streams the same bytes. MB/s of each."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import time
from contextlib import ExitStack

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import gate
from load import REGION, connection, lease, number, serve_calls

HOST = f"bench.s3.{REGION}.amazonaws.com"
CHUNK = 1 << 20
_EMPTY = hashlib.sha256(b"").hexdigest()


def signed_upload(key: str, secret: str, token: str, size: int) -> tuple[bytes, bytes]:
    """Head and body of a PutObject in the form STREAMING-AWS4-HMAC-SHA256-PAYLOAD, as AWS's documents build it."""
    chunks = size // CHUNK
    line = len(f"{CHUNK:x};chunk-signature={'0' * 64}\r\n") + 2
    length = chunks * (line + CHUNK) + len(f"0;chunk-signature={'0' * 64}\r\n\r\n")
    request = AWSRequest(
        "PUT",
        f"https://{HOST}/object",
        {
            "Content-Encoding": "aws-chunked",
            "X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "X-Amz-Decoded-Content-Length": str(size),
        },
    )

    class Streaming(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
        def payload(self, _request: AWSRequest) -> str:
            return "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"

        def _modify_request_before_signing(self, request: AWSRequest) -> None:
            super()._modify_request_before_signing(request)
            request.headers.replace_header("X-Amz-Content-SHA256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")

    Streaming(Credentials(key, secret, token or None), "s3", REGION).add_auth(request)
    fields = {"Host": HOST, **dict(request.headers.items()), "Content-Length": str(length)}
    head = b"PUT /object HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items()).encode() + b"\r\n"
    date = fields["X-Amz-Date"]
    scope = f"{date[:8]}/{REGION}/s3/aws4_request"
    signing = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    previous = fields["Authorization"].rpartition("Signature=")[2]
    body = []
    for left in range(chunks, -1, -1):
        content = os.urandom(CHUNK) if left else b""
        digest = hashlib.sha256(content).hexdigest()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{previous}\n{_EMPTY}\n{digest}"
        previous = hmac.digest(signing, text.encode(), "sha256").hex()
        body.append(f"{len(content):x};chunk-signature={previous}\r\n".encode() + content + b"\r\n")
    return head, b"".join(body)


async def _take(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes an upload and drops it; STS gives its lease."""
    left = number(head, b"content-length")
    first = b""
    while left:
        got = await reader.read(min(left, 1 << 20))
        if not got:
            raise ConnectionError("the upload was cut")
        first = first or got
        left -= len(got)
    writer.write(lease() if b"AssumeRole" in first else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def _serve(port: int, pem: str) -> None:
    serve_calls(port, pem, _take)


async def _send(route: gate.Route, head: bytes, body: bytes) -> float:
    """Seconds until the answer."""
    reader, writer = await connection(*route)
    began = time.perf_counter()
    writer.write(head)
    view = memoryview(body)
    for start in range(0, len(body), 1 << 18):
        writer.write(view[start : start + (1 << 18)])
        await writer.drain()
    answer = await reader.readuntil(b"\r\n\r\n")
    took = time.perf_counter() - began
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError((answer + await reader.read(2000)).decode("latin-1"))
    return took


def measure(size: int = 1 << 30, rounds: int = 2) -> dict[str, float]:
    """`rounds` uploads of `size` bytes each way, in turns: recorded in full (and durably), by hash and size only, and bare."""
    full, bare = _both(size, rounds, "full")
    metadata, again = _both(size, rounds, "metadata")
    return {
        "bare mitmdump, MB/s": (bare + again) / 2,
        "gate, MB/s": full,
        "ratio": full / bare,
        "gate, record: metadata, MB/s": metadata,
        "ratio, record: metadata": metadata / again,
    }


def _both(size: int, rounds: int, record: str) -> tuple[float, float]:
    """MB/s of the gate and of a bare mitmdump."""
    with ExitStack() as stack:
        rule: dict[str, object] = {"id": "bench", "effect": "allow", "actions": ["s3:PutObject"], "record": record}
        pair = gate.pair(stack, _serve, rule, stream="1")
        keys = pair.keys
        head, body = signed_upload(keys["AccessKeyId"], keys["SecretAccessKey"], keys.get("SessionToken", ""), size)
        spent = [0.0, 0.0]
        for _ in range(rounds):
            spent[0] += asyncio.run(_send(pair.gate(HOST), head, body))
            spent[1] += asyncio.run(_send(pair.bare(), head, body))
        return len(body) * rounds / spent[0] / 1e6, len(body) * rounds / spent[1] / 1e6


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:24} {value:8.2f}")
