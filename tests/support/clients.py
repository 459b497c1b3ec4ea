"""Clients with full control of the bytes: HTTP/1.1 through a proxy, and boto3 clients made from a session's environment."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from .http1 import Fields, Head, Stream


@dataclass
class Reply:
    """One answer: status, head and whole body. `truncated` says that the body broke off."""

    head: Head
    body: bytes = b""
    truncated: bool = False

    @property
    def status(self) -> int:
        return self.head.status

    def header(self, name: str) -> str:
        return self.head.get(name)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


def basic(credential: str, user: str = "flowwarden") -> str:
    return "Basic " + base64.b64encode(f"{user}:{credential}".encode()).decode()


class ProxyClient:
    """One connection to the proxy. Nothing is added to what the caller says, so that odd requests can be made.

    `tunnel(host)` does CONNECT and TLS; `connect`, `start_tls` and `send` are the single steps.
    """

    def __init__(
        self, port: int, ca: Path | str | None = None, *, credential: str = "", timeout: float = 20, source: str = ""
    ) -> None:
        self.ca = str(ca) if ca else None
        self.credential = credential
        address = (source, 0) if source else None
        self.stream = Stream(socket.create_connection(("127.0.0.1", port), timeout=timeout, source_address=address))
        self.stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> ProxyClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.stream.close()

    def proxy_fields(self) -> Fields:
        return [("Proxy-Authorization", basic(self.credential))] if self.credential else []

    def connect(self, target: str, *, host: str | None = None, fields: Iterable[tuple[str, str]] = ()) -> Head:
        """Sends CONNECT and reads the answer's head."""
        self.stream.send_head(f"CONNECT {target} HTTP/1.1", [("Host", host or target), *self.proxy_fields(), *fields])
        head = self.stream.head()
        if head is None:
            raise ConnectionResetError("the proxy closed instead of answering CONNECT")
        return head

    def start_tls(self, sni: str | None, *, alpn: tuple[str, ...] = ("http/1.1",), check_host: bool = False) -> str:
        """TLS inside the tunnel, or to the proxy itself; the chain is always verified. Returns the ALPN chosen."""
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = check_host
        context.set_alpn_protocols(list(alpn))
        sock = context.wrap_socket(self.stream.sock, server_hostname=sni)
        received = self.stream.received
        self.stream = Stream(sock)
        self.stream.received = received
        return sock.selected_alpn_protocol() or ""

    def tunnel(self, host: str, port: int = 443, *, sni: str | None = "", alpn: tuple[str, ...] = ("http/1.1",)) -> str:
        """CONNECT host:port and TLS with SNI `host` (None: no SNI)."""
        head = self.connect(f"{host}:{port}")
        if head.status != 200:
            raise ConnectionRefusedError(head.start)
        return self.start_tls(host if sni == "" else sni, alpn=alpn)

    def send(self, data: bytes, *, split: int = 0) -> None:
        """Sends bytes; `split` sends them in pieces of that many."""
        step = split or max(1, len(data))
        for at in range(0, len(data), step):
            self.stream.send(data[at : at + step])

    def request(
        self, method: str, target: str, fields: Iterable[tuple[str, str]] = (), body: bytes = b"", *, split: int = 0
    ) -> Reply:
        """Sends a request exactly as given and reads the answer."""
        fields = list(fields)
        names = {name.lower() for name, _ in fields}
        if body and not names & {"content-length", "transfer-encoding"}:
            fields.append(("Content-Length", str(len(body))))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
        self.send("\r\n".join(lines).encode("latin-1") + body, split=split)
        return self.reply(method)

    def reply(self, method: str = "GET") -> Reply:
        """Reads one answer; an interim one (100) is answered as it is, without a body."""
        head = self.stream.head()
        if head is None:
            raise ConnectionResetError("the connection was closed without an answer")
        reply = Reply(head)
        blocks: list[bytes] = []
        try:
            for block in self.stream.body(head, response_to=method):
                blocks.append(block)
        except (OSError, Exception) as error:  # the caller asserts on `truncated`; bytes so far are what matters
            if isinstance(error, TimeoutError):
                raise
            reply.truncated = True
        reply.body = b"".join(blocks)
        return reply

    def closed(self, within: float = 10) -> bool:
        """Whether the other side closes the connection; bytes that come first are kept in `stream.buffer`."""
        self.stream.sock.settimeout(within)
        try:
            while self.stream.fill():
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


@dataclass
class Keys:
    """AWS keys as an agent has them."""

    key_id: str
    secret: str
    token: str = ""

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Keys:
        return cls(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN", ""))


def sign(
    keys: Keys,
    method: str,
    url: str,
    *,
    service: str,
    region: str,
    fields: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    presign: int = 0,
    payload: str = "",
) -> tuple[str, Fields]:
    """A botocore signature for a raw request: the target and the fields (Host first). `presign`: seconds, in the query.

    `payload` forces the canonical payload (UNSIGNED-PAYLOAD, STREAMING-…); else the body's hash.
    """
    asked = AWSRequest(method, url, data=body)
    for name, value in fields:
        asked.headers.add_header(name, value)  # one after the other: names may come again
    asked.context["payload_signing_enabled"] = True
    s3 = service == "s3"
    kind = (S3SigV4QueryAuth if s3 else SigV4QueryAuth) if presign else (S3SigV4Auth if s3 else SigV4Auth)
    options = {"expires": presign} if presign else {}
    signer = kind(Credentials(keys.key_id, keys.secret, keys.token or None), service, region, **options)
    if payload:
        signer.payload = lambda _: payload
        asked.headers["X-Amz-Content-SHA256"] = payload
    signer.add_auth(asked)
    if payload and not presign:
        asked.headers.replace_header("X-Amz-Content-SHA256", payload)
    parts = urlsplit(asked.url if presign else url)
    target = parts._replace(scheme="", netloc="").geturl() or "/"
    return target, [("Host", parts.netloc), *asked.headers.items()]


def boto_client(service: str, env: Mapping[str, str], *, region: str = "eu-central-1", **options: Any) -> Any:
    """A boto3 client with a session's environment and nothing of the machine's own."""
    proxies = dict.fromkeys(("http", "https"), env["HTTPS_PROXY"]) if "HTTPS_PROXY" in env else {}
    attempts = options.pop("attempts", 1)
    config = Config(proxies=proxies, retries={"total_max_attempts": attempts}, read_timeout=30, connect_timeout=10)
    if "config" in options:
        config = config.merge(options.pop("config"))
    keys = Keys.of(env) if "AWS_ACCESS_KEY_ID" in env else Keys("", "")
    return boto3.session.Session().client(
        service,
        region_name=env.get("AWS_REGION", region),
        aws_access_key_id=keys.key_id,
        aws_secret_access_key=keys.secret,
        aws_session_token=keys.token or None,
        verify=env.get("AWS_CA_BUNDLE", True),
        config=config,
        **options,
    )


def eventually(condition: Any, timeout: float = 20, what: str = "the condition") -> Any:
    """Polls for what another process writes to disk; the first true value, or an AssertionError."""
    end = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not hold within {timeout} s")
        time.sleep(0.02)
