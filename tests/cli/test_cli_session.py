"""`flowwarden session` as an agent's machine runs it: against what answers for flowwarden.internal behind the proxy."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowwarden.cli import main

REFUSED = {"error": {"code": "InvalidToken", "message": "the token is not base64url"}}


class Internal(BaseHTTPRequestHandler):
    """Knows one session; takes no token."""

    def do_GET(self) -> None:
        self._answer(200, {"session": "mine"})

    def do_POST(self) -> None:
        self._answer(401, REFUSED)

    def _answer(self, status: int, told: object) -> None:
        self.server.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def internal(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Internal) as server:
        server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"127.0.0.1:{server.server_port}"
        monkeypatch.setenv("FLOWWARDEN_PROXY", f"http://{url}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://flowwarden:handle@{url}")
        monkeypatch.setenv("FLOWWARDEN_TOKEN", "x.y.z")
        yield server
        server.shutdown()


def test_what_the_gateway_refuses_is_told_in_its_words(internal: ThreadingHTTPServer, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["session", "start", "--folder", str(tmp_path)])
    assert (done.exit_code, done.stderr) == (1, "flowwarden: the token is not base64url\n")


def test_a_session_that_was_not_meant_is_not_renewed(internal: ThreadingHTTPServer) -> None:
    done = CliRunner().invoke(main, ["session", "renew", "another"])
    assert (done.exit_code, done.stderr) == (2, "flowwarden: HTTPS_PROXY here is session mine, not another\n")
    assert internal.asked == ["GET http://flowwarden.internal/whoami"]  # type: ignore[attr-defined]


def test_a_renewal_without_a_session_says_what_to_set(
    internal: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HTTPS_PROXY")
    assert (
        "Set what `flowwarden session start` printed" in CliRunner().invoke(main, ["session", "renew", "mine"]).stderr
    )
