"""A server on this machine that answers an agent from a recording, as HTTPS_PROXY or AWS_ENDPOINT_URL. It never dials."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import StoreError
from ..types import Request
from .answers import Answers
from .authority import Authority

if TYPE_CHECKING:
    from ..recognition.recogniser import Recogniser

LARGEST_BODY = 256 << 20
KEYS = {"AccessKeyId": "AKIAFLOWWARDENREPLAY", "SecretAccessKey": "replay"}  # signed with, and looked at by nobody
_INTERNAL = "flowwarden.internal"
_HANDSHAKE_SECONDS = 20.0


class Server:
    """`url` is the proxy, and the endpoint for a client that has no proxy; `answers` knows hits and misses."""

    def __init__(self, answers: Answers, port: int = 0, *, ca: Path | None = None) -> None:
        """Listens on loopback only. `ca`: a folder whose CA is used, the gateway's say. StoreError if the port is taken."""
        self.answers = answers
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler)
        except (OSError, OverflowError) as error:
            raise StoreError(f"port {port} cannot be listened on: {error}") from None
        try:
            self._authority = Authority(ca)
        except BaseException:
            self._server.server_close()
            raise
        self._server.RequestHandlerClass = _handler(answers, self._authority)
        self._server.daemon_threads = True
        self.ca = self._authority.certificate
        self.keys = KEYS
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What points an agent here: proxy, CA and keys that are worth nothing, as `session start` has them."""
        found = {
            "HTTPS_PROXY": self.url,
            "https_proxy": self.url,
            "NODE_USE_ENV_PROXY": "1",
            "AWS_ACCESS_KEY_ID": KEYS["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": KEYS["SecretAccessKey"],
            "AWS_EC2_METADATA_DISABLED": "true",
            **dict.fromkeys(("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), str(self.ca)),
            "NODE_EXTRA_CA_CERTS": str(self.ca),
        }
        if self.answers.region:
            found["AWS_REGION"] = found["AWS_DEFAULT_REGION"] = self.answers.region
        return found

    def run(self) -> None:
        """Serves until `stop`."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        self._server.shutdown()
        self.close()

    def close(self) -> None:
        """Lets the port go, and the CA if it was made for this replay."""
        self._server.server_close()
        self._authority.close()


@contextmanager
def serving(
    folder: Path, session: str, *, port: int = 0, ca: Path | None = None, recogniser: Recogniser | None = None
) -> Iterator[Server]:
    """A server that runs in a thread for as long as the block, for tests: `with serving(folder, session) as replay:`."""
    server = Server(Answers(folder, session, recogniser=recogniser), port, ca=ca)
    thread = threading.Thread(target=server.run, name="flowwarden-replay", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def _handler(answers: Answers, authority: Authority) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "flowwarden-replay"
        tunnel = ""  # the host that a CONNECT named

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError, ssl.SSLError):
                self.close_connection = True

        def finish(self) -> None:
            super().finish()
            self.connection.close()

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self._answer
            raise AttributeError(name)

        def do_CONNECT(self) -> None:
            """A tunnel ends here: its TLS is answered with a certificate of the CA, and its requests from the recording."""
            host = (urlsplit(f"//{self.path}").hostname or "").rstrip(".")
            if self.tunnel or not host:
                self.close_connection = True
                self.send_error(400, "a tunnel has to be to host:port, and no tunnel leads out of another")
                return
            self.send_response_only(200, "Connection established")
            self.end_headers()
            self.close_connection = False
            self.tunnel = host
            self.connection.settimeout(_HANDSHAKE_SECONDS)
            if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":
                self.connection = authority.context(host).wrap_socket(self.connection, server_side=True)
                self.rfile = self.connection.makefile("rb", self.rbufsize)
                self.wfile = self.connection.makefile("wb", 0)
            self.connection.settimeout(None)

        def _answer(self) -> None:
            try:
                body = self._body()
            except ValueError as error:
                self.close_connection = True
                self.send_error(400, str(error))
                return
            request = _request(self, body, self.tunnel)
            if request.host == _INTERNAL:
                self._give(*_internal(request.path, authority))
                return
            found = answers.answer(request)
            self._give(found.status, found.headers, found.body)

        def _give(self, status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
            self.send_response_only(status)
            bare = status in (204, 304) or self.command == "HEAD"
            for name, value in headers:
                if self.command == "HEAD" or name.lower() != b"content-length":
                    self.send_header(name.decode("latin-1"), value.decode("latin-1"))
            if not bare:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not bare:
                self.wfile.write(body)

        def _body(self) -> bytes:
            """The body on the wire. ValueError for a length that is none, or too large."""
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                return self._chunked()
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 <= length <= LARGEST_BODY:
                raise ValueError("a body of this size is not taken")
            return self.rfile.read(length)

        def _chunked(self) -> bytes:
            parts: list[bytes] = []
            total = 0
            while size := int(self.rfile.readline(1000).split(b";")[0], 16):
                total += size
                if total > LARGEST_BODY or size < 0:
                    raise ValueError("a body of this size is not taken")
                parts.append(self.rfile.read(size))
                self.rfile.readline(10)
            while self.rfile.readline(10_000).strip():
                pass
            return b"".join(parts)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _request(handler: BaseHTTPRequestHandler, body: bytes, tunnel: str) -> Request:
    """What was asked, as pure modules take it; absolute-form (a plain HTTP proxy's) is taken apart."""
    target, authority = handler.path, tunnel or handler.headers.get("Host", "")
    if target.startswith(("http://", "https://")):
        parts = urlsplit(target)
        authority = parts.netloc
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = urlsplit(f"//{authority}").hostname or ""
    headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in handler.headers.items())
    return Request(handler.command or "", "https", host.rstrip("."), 443, target, headers, body)


def _internal(path: str, authority: Authority) -> tuple[int, tuple[tuple[bytes, bytes], ...], bytes]:
    """The little of flowwarden.internal that an agent's set-up asks for: the CA, and keys."""
    if path == "/ca.pem":
        return 200, ((b"Content-Type", b"application/x-pem-file"),), authority.certificate.read_bytes()
    found = {"Version": 1, **KEYS} if path == "/credentials" else {"message": "a replay has no such thing"}
    return (
        (200 if path == "/credentials" else 404),
        ((b"Content-Type", b"application/json"),),
        json.dumps(found).encode(),
    )
