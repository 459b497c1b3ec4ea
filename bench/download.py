"""Answers through the whole gate with every shipped mask, beside a bare mitmdump that passes the same bytes. MB/s of each."""

from __future__ import annotations

import asyncio
import base64
import json
import multiprocessing
import os
import ssl
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import gate
from load import REGION, _connection, _lease, certificate, free_port, wait_for_port

STREAM = int(os.environ.get("FLOWWARDEN_BENCH_STREAM", str(1 << 30)))
SIZES = {"1 KB": (1 << 10, 3000), "64 KB": (64 << 10, 400), "1 MB": (1 << 20, 40)}
_HOSTS = {"json": f"dynamodb.{REGION}.amazonaws.com", "stream": f"bench.s3.{REGION}.amazonaws.com"}
_RULES = json.dumps({"rules": [{"id": "bench", "effect": "allow", "actions": ["s3:GetObject", "dynamodb:GetItem"]}]})


def clean(size: int) -> bytes:
    """JSON of about this size as services answer it, with no secret in it."""
    one = {f"attribute{n}": {"S": f"an ordinary value, number {n}"} for n in range(8)}
    items = [{"id": {"N": str(n)}, **one} for n in range(max(1, size // 480))]
    return json.dumps({"Items": items, "Count": len(items)}).encode()[: max(size, 300)]


def _serve(port: int, pem: str) -> None:
    """Answers by the X-Size header of the request: JSON at once, or a stream of lines. STS gets its lease."""
    answers = {size: json.dumps({"Item": {"text": {"S": clean(size).decode()}}}).encode() for size, _ in SIZES.values()}
    block = (json.dumps({"id": 42, "name": "a name", "value": "an ordinary value"}).encode() + b"\n") * 1000

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                at = head.find(b"content-length:")
                body = await reader.readexactly(int(head[at + 15 :].split(b"\r\n")[0])) if at >= 0 else b""
                at = head.find(b"x-size:")
                size = int(head[at + 7 :].split(b"\r\n")[0]) if at >= 0 else 0
                if b"AssumeRole" in body:
                    writer.write(_lease())
                elif size in answers:
                    kind = b"application/x-amz-json-1.0"
                    answer = answers[size]
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
                        % (kind, len(answer), answer)
                    )
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size)
                    while size:
                        writer.write(block[:size])
                        size -= min(size, len(block))
                        await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server = await asyncio.start_server(one, "127.0.0.1", port, ssl=context, limit=1 << 20)
        await server.serve_forever()

    asyncio.run(main())


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


async def _receive(port: int, target: str, name: str, credential: str, ca: Path, call: bytes, times: int) -> float:
    """Seconds for that many answers, one after the other."""
    reader, writer = await _connection(port, target, name, credential, ca)
    began = time.perf_counter()
    for _ in range(times):
        writer.write(call)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError((head + await reader.read(2000)).decode("latin-1"))
        left = int(head[head.index(b"content-length:") + 15 :].split(b"\r\n")[0])
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
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="flowwarden-bench-")))
        trusted, pem = certificate(folder)
        upstream = free_port()
        server = multiprocessing.get_context("spawn").Process(target=_serve, args=(upstream, str(pem)), daemon=True)
        server.start()
        stack.callback(server.terminate)
        wait_for_port(upstream)
        bearer = gate.token(folder)
        _process, port = gate.gateway(stack, folder, upstream, trusted, policy=_RULES)
        _plain, plain_port = gate.bare(stack, folder, trusted, "--set", "stream_large_bodies=1m")
        started = gate._session(port, bearer)
        credential = base64.b64encode(f"flowwarden:{started['handle']}".encode()).decode()
        keys = dict(started["credentials"])  # type: ignore[call-overload]
        gate_ca, bare_ca = folder / "state/ca/mitmproxy-ca-cert.pem", folder / "bare/mitmproxy-ca-cert.pem"
        jobs = [(name, "json", size, times) for name, (size, times) in SIZES.items()]
        for name, what, size, times in [*jobs, (f"stream of {STREAM >> 20} MiB", "stream", STREAM, 1)]:
            spent = [0.0, 0.0]
            for _ in range(rounds if what == "json" else 1):
                call = _call(keys, what, size)
                host = _HOSTS[what]
                spent[0] += asyncio.run(_receive(port, f"{host}:443", host, credential, gate_ca, call, times))
                spent[1] += asyncio.run(
                    _receive(plain_port, f"localhost:{upstream}", "localhost", "", bare_ca, call, times)
                )
            total = size * times * (rounds if what == "json" else 1)
            found[f"{name}, gate, MB/s"] = total / spent[0] / 1e6
            found[f"{name}, bare mitmdump, MB/s"] = total / spent[1] / 1e6
            found[f"{name}, ratio"] = spent[1] / spent[0]
    return found


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:40} {value:8.2f}")
