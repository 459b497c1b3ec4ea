"""Answers through the whole gate with every shipped mask, beside a bare mitmdump that passes the same bytes. MB/s of each."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import ExitStack

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import gate
from load import REGION, connection, lease, number, serve_calls

STREAM = int(os.environ.get("FLOWWARDEN_BENCH_STREAM", str(1 << 30)))
SIZES = {"1 KB": (1 << 10, 3000), "64 KB": (64 << 10, 400), "1 MB": (1 << 20, 40)}
_HOSTS = {"json": f"dynamodb.{REGION}.amazonaws.com", "stream": f"bench.s3.{REGION}.amazonaws.com"}
_RULE: dict[str, object] = {"id": "bench", "effect": "allow", "actions": ["s3:GetObject", "dynamodb:GetItem"]}


def clean(size: int) -> bytes:
    """JSON of about this size as services answer it, with no secret in it."""
    one = {f"attribute{n}": {"S": f"an ordinary value, number {n}"} for n in range(8)}
    items = [{"id": {"N": str(n)}, **one} for n in range(max(1, size // 480))]
    return json.dumps({"Items": items, "Count": len(items)}).encode()[: max(size, 300)]


def _serve(port: int, pem: str) -> None:
    """Answers by the X-Size header of the request: JSON at once, or a stream of lines. STS gives its lease."""
    answers = {size: json.dumps({"Item": {"text": {"S": clean(size).decode()}}}).encode() for size, _ in SIZES.values()}
    block = (json.dumps({"id": 42, "name": "a name", "value": "an ordinary value"}).encode() + b"\n") * 1000

    async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.readexactly(number(head, b"content-length"))
        size = number(head, b"x-size")
        if b"AssumeRole" in body:
            writer.write(lease())
        elif size in answers:
            kind, found = b"application/x-amz-json-1.0", answers[size]
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(found), found)
            )
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size)
            while size:
                writer.write(block[:size])
                size -= min(size, len(block))
                await writer.drain()

    serve_calls(port, pem, answer)


def _call(keys: dict[str, str], what: str, size: int) -> bytes:
    """The signed bytes of a GetItem, or of a GetObject."""
    host = _HOSTS[what]
    credentials = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys.get("SessionToken"))
    if what == "json":
        body = b'{"TableName":"orders","Key":{"id":{"S":"42"}}}'
        fields = {"X-Amz-Target": "DynamoDB_20120810.GetItem", "Content-Type": "application/x-amz-json-1.0"}
        request = AWSRequest("POST", f"https://{host}/", fields, body)
        SigV4Auth(credentials, "dynamodb", REGION).add_auth(request)
    else:
        body = b""
        request = AWSRequest("GET", f"https://{host}/object.txt", {})
        S3SigV4Auth(credentials, "s3", REGION).add_auth(request)
    named = {"Host": host, **dict(request.headers.items()), "X-Size": str(size), "Content-Length": str(len(body))}
    head = f"{request.method} {request.url.partition(host)[2]} HTTP/1.1\r\n"
    return (head + "".join(f"{name}: {value}\r\n" for name, value in named.items()) + "\r\n").encode() + body


async def _receive(route: gate.Route, call: bytes, times: int) -> float:
    """Seconds for that many answers, one after the other."""
    reader, writer = await connection(*route)
    began = time.perf_counter()
    for _ in range(times):
        writer.write(call)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError((head + await reader.read(2000)).decode("latin-1"))
        left = number(head, b"content-length")
        while left:
            got = await reader.read(min(left, 1 << 20))
            if not got:
                raise RuntimeError("the answer was cut")
            left -= len(got)
    took = time.perf_counter() - began
    writer.close()
    return took


def measure(rounds: int = 2) -> dict[str, float]:
    """MB/s of both, by size, and the ratio; for answers of 1 KB also what the gate adds, in µs."""
    found: dict[str, float] = {}
    with ExitStack() as stack:
        pair = gate.pair(stack, _serve, _RULE, stream="1m")
        jobs = [(name, "json", size, times) for name, (size, times) in SIZES.items()]
        for name, what, size, times in [*jobs, (f"stream of {STREAM >> 20} MiB", "stream", STREAM, 1)]:
            spent = [0.0, 0.0]
            for _ in range(rounds if what == "json" else 1):
                call = _call(pair.keys, what, size)
                spent[0] += asyncio.run(_receive(pair.gate(_HOSTS[what]), call, times))
                spent[1] += asyncio.run(_receive(pair.bare(), call, times))
            total = size * times * (rounds if what == "json" else 1)
            found[f"{name}, gate, MB/s"] = total / spent[0] / 1e6
            found[f"{name}, bare mitmdump, MB/s"] = total / spent[1] / 1e6
            found[f"{name}, ratio"] = spent[1] / spent[0]
    return found


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:40} {value:8.2f}")
