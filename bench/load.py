"""What the benchmarks share: a small TLS server, a client that repeats one signed call, and CPU as the kernel counts it."""

from __future__ import annotations

import asyncio
import datetime
import json
import multiprocessing
import os
import socket
import ssl
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "dynamodb.eu-central-1.amazonaws.com"
REGION = "eu-central-1"
ANSWER = json.dumps(
    {"Item": {"id": {"S": "42"}, **{f"field{n}": {"S": f"value number {n}"} for n in range(24)}}}
).encode()
Call = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Measured:
    """CPU microseconds a request, requests a second, and latencies in milliseconds."""

    cpu: float
    rate: float
    p50: float
    p99: float


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for loopback: (certificate, key and certificate)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(pem)
    (folder / "server-key.pem").write_bytes(private + pem)
    return folder / "server.pem", folder / "server-key.pem"


def number(head: bytes, field: bytes) -> int:
    """The number in a field of a head, both in lower case; 0 if it is not there."""
    at = head.find(field + b":")
    return int(head[at + len(field) + 1 :].split(b"\r\n")[0]) if at >= 0 else 0


class Server(asyncio.Protocol):
    """Answers every request at once: STS with a lease, everything else with about 1 KB of JSON."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            length = number(head.lower(), b"content-length")
            if len(rest) < length:
                return
            body, self.buffer = rest[:length], rest[length:]
            self.transport.write(lease() if b"Action=AssumeRole" in body else _OK)


_OK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nx-amzn-RequestId: 0123456789ABCDEF\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
)


def lease() -> bytes:
    """STS's answer to AssumeRole."""
    expires = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=15)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"<AccessKeyId>ASIA{'B' * 16}</AccessKeyId><SecretAccessKey>{'s' * 40}</SecretAccessKey>"
        f"<SessionToken>{'t' * 300}</SessionToken><Expiration>{expires}</Expiration></Credentials>"
        "<AssumedRoleUser><AssumedRoleId>AROA:b</AssumedRoleId>"
        "<Arn>arn:aws:sts::123456789012:assumed-role/bench/b</Arn></AssumedRoleUser>"
        "</AssumeRoleResult></AssumeRoleResponse>"
    ).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def _tls(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def _serve(port: int, pem: str) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", port, ssl=_tls(pem))
        await server.serve_forever()

    asyncio.run(main())


def serve_calls(port: int, pem: str, call: Call) -> None:
    """A server for large bodies. `call` gets each request's head in lower case, takes its body and writes the answer."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await call((await reader.readuntil(b"\r\n\r\n")).lower(), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(one, "127.0.0.1", port, ssl=_tls(pem), limit=1 << 20)
        await server.serve_forever()

    asyncio.run(main())


def start_server(stack: ExitStack, folder: Path, serve: Callable[[int, str], None] = _serve) -> tuple[int, Path]:
    """A server as a process of its own, until the stack is left: port, and certificate to trust."""
    trusted, pem = certificate(folder)
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(port, str(pem)), daemon=True)
    process.start()
    stack.callback(process.terminate)
    wait_for_port(port)
    return port, trusted


def wait_for_port(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"nothing listens on {port}")


def signed_call(key: str, secret: str, token: str) -> bytes:
    """A GetItem as boto3 sends it."""
    body = json.dumps({"TableName": "orders", "Key": {"id": {"S": "42"}}}).encode()
    request = AWSRequest(
        "POST",
        f"https://{HOST}/",
        {
            "X-Amz-Target": "DynamoDB_20120810.GetItem",
            "Content-Type": "application/x-amz-json-1.0",
            "Accept-Encoding": "identity",
        },
        body,
    )
    SigV4Auth(Credentials(key, secret, token or None), "dynamodb", REGION).add_auth(request)
    fields = {
        "Host": HOST,
        "User-Agent": "Boto3/1.44.5 md/Botocore",
        **dict(request.headers.items()),
        "Content-Length": str(len(body)),
    }
    return b"POST / HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items()).encode() + b"\r\n" + body


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def connection(
    port: int, target: str, name: str, credential: str, ca: Path
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TLS connection to a target through the proxy at a port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    auth = f"Proxy-Authorization: Basic {credential}\r\n" if credential else ""
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{auth}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200" not in head.split(b"\r\n")[0]:
        raise RuntimeError(head.decode("latin-1"))
    await writer.start_tls(ssl.create_default_context(cafile=str(ca)), server_hostname=name)
    return reader, writer


async def _repeat(
    count: int, latencies: list[float], call: bytes, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    reader, writer = connection
    for _ in range(count):
        began = time.perf_counter()
        writer.write(call)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(number(head.lower(), b"content-length"))
        latencies.append(time.perf_counter() - began)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError((head + body).decode("latin-1"))


def drive(
    pid: int,
    port: int,
    target: str,
    name: str,
    credential: str,
    ca: Path,
    call: bytes,
    *,
    connections: int = 8,
    requests: int = 4000,
) -> Measured:
    """Sends a call again and again over kept-alive connections, after a warm-up."""

    async def main() -> Measured:
        opened = [await connection(port, target, name, credential, ca) for _ in range(connections)]
        await asyncio.gather(*(_repeat(50, [], call, each) for each in opened))
        latencies: list[float] = []
        before, began = cpu_seconds(pid), time.perf_counter()
        await asyncio.gather(*(_repeat(requests // connections, latencies, call, each) for each in opened))
        took, used = time.perf_counter() - began, cpu_seconds(pid) - before
        for _, writer in opened:
            writer.close()
        ordered = sorted(latencies)
        return Measured(
            used / len(latencies) * 1e6,
            len(latencies) / took,
            statistics.median(ordered) * 1e3,
            ordered[int(len(ordered) * 0.99)] * 1e3,
        )

    return asyncio.run(main())
