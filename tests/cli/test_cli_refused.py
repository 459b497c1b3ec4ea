"""What the gateway refuses is exit code 1 of every command that asks it; a gateway that fails or is none is 2."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flowwarden.cli import main

COMMANDS = [
    ["approvals"],
    ["approvals", "list"],
    ["approvals", "watch"],
    ["approvals", "show", "id"],
    ["approvals", "approve", "id"],
    ["approvals", "deny", "id", "--reason", "no"],
    ["approvals", "revoke", "id"],
    ["session", "list"],
    ["session", "show", "id"],
    ["session", "end", "id"],
    ["session", "renew", "id"],
    ["session", "start", "--folder", "here"],
    ["session", "start", "--folder", "here", "--format", "credential-process"],
]
REFUSED = [
    (400, "ValidationException"),
    (401, "ExpiredToken"),
    (403, "AccessDenied"),
    (404, "NotFound"),
    (409, "ConflictException"),
]
FAILED = [(401, "IDPCommunicationError"), (500, "InternalError"), (503, "ServiceUnavailable")]


class Gateway(BaseHTTPRequestHandler):
    """Operators' listener and flowwarden.internal in one: gives the same answer to everything."""

    def answer(self) -> None:
        status, body = self.server.told  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def gateway(server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreadingHTTPServer:
    monkeypatch.chdir(tmp_path)
    url = f"127.0.0.1:{server.server_port}"
    monkeypatch.setenv("FLOWWARDEN_URL", f"http://{url}")
    monkeypatch.setenv("FLOWWARDEN_PROXY", f"http://{url}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://flowwarden:handle@{url}")
    monkeypatch.setenv("FLOWWARDEN_TOKEN", "x.y.z")
    return server


def ends(gateway: ThreadingHTTPServer, arguments: list[str], status: int, code: str) -> int:
    gateway.told = status, json.dumps({"error": {"code": code, "message": "so it is"}}).encode()  # type: ignore[attr-defined]
    done = CliRunner().invoke(main, arguments)
    assert (done.stdout, done.stderr) == ("", "flowwarden: so it is\n")
    return done.exit_code


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(("status", "code"), REFUSED)
def test_a_no_is_1(gateway: ThreadingHTTPServer, arguments: list[str], status: int, code: str) -> None:
    assert ends(gateway, arguments, status, code) == 1


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(("status", "code"), FAILED)
def test_a_failure_is_2(gateway: ThreadingHTTPServer, arguments: list[str], status: int, code: str) -> None:
    """The gateway, or the issuer that it asks, could not say: nobody has refused anything."""
    assert ends(gateway, arguments, status, code) == 2


def test_every_command_that_asks_the_gateway_is_tried() -> None:
    asking = {
        (group, name)
        for group in ("approvals", "session")
        for name, command in main.commands[group].commands.items()  # type: ignore[attr-defined]
        if any(isinstance(each, click.Option) and each.name == "token_file" for each in command.params)
    }
    assert asking == {tuple(each[:2]) for each in COMMANDS if len(each) > 1}
