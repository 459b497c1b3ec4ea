"""A server on this machine that answers an agent from a recording: set AWS_ENDPOINT_URL to it. It never dials anything."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from ..recognition.recogniser import Recogniser

LARGEST_BODY = 256 << 20


class Server:
    """`url` is what AWS_ENDPOINT_URL (or an http_proxy, for plain HTTP) has to name; `answers` knows hits and misses."""

    def __init__(self, answers: Answers, port: int = 0) -> None:
        """Listens on loopback only. StoreError if the port is taken."""
        self.answers = answers
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(answers))
        except (OSError, OverflowError) as error:
            raise StoreError(f"port {port} cannot be listened on: {error}") from None
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def run(self) -> None:
        """Serves until `stop`."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(folder: Path, session: str, *, port: int = 0, recogniser: Recogniser | None = None) -> Iterator[Server]:
    """A server that runs in a thread for as long as the block, for tests: `with serving(folder, session) as replay:`."""
    server = Server(Answers(folder, session, recogniser=recogniser), port)
    thread = threading.Thread(target=server.run, name="flowwarden-replay", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def _handler(answers: Answers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "flowwarden-replay"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self._answer
            raise AttributeError(name)

        def _answer(self) -> None:
            if self.command == "CONNECT":
                self.send_error(405, "Set AWS_ENDPOINT_URL to this address: a replay opens no tunnels")
                return
            try:
                body = self._body()
            except ValueError as error:
                self.close_connection = True
                self.send_error(400, str(error))
                return
            found = answers.answer(_request(self, body))
            self.send_response_only(found.status)
            for name, value in found.headers:
                if name.lower() not in (b"content-length", b"transfer-encoding"):
                    self.send_header(name.decode("latin-1"), value.decode("latin-1"))
            bare = found.status in (204, 304) or self.command == "HEAD"
            if not bare:
                self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            if not bare:
                self.wfile.write(found.body)

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


def _request(handler: BaseHTTPRequestHandler, body: bytes) -> Request:
    """What was asked, as pure modules take it; absolute-form (a plain HTTP proxy's) is taken apart."""
    target, authority = handler.path, handler.headers.get("Host", "")
    if target.startswith(("http://", "https://")):
        parts = urlsplit(target)
        authority = parts.netloc
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = urlsplit(f"//{authority}").hostname or ""
    headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in handler.headers.items())
    return Request(handler.command or "", "https", host.rstrip("."), 443, target, headers, body)
