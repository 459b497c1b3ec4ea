"""rules/identity.yaml: what is right is read, what is wrong names file, line and what was expected."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flowwarden.errors import RuleError, TokenError
from flowwarden.identity.fetch import LIMIT, fetch
from flowwarden.identity.rules import Role, load, safe_url
from flowwarden.types import Principal
from support.issuer import OidcIssuer

GOOD = """\
issuers:
  - issuer: https://idp.example.com
    audience: flowwarden
    algorithms: [ES256]
    max_lifetime: 2h
sessions:
  ttl: 30m
  max: 8h
  idle: off
  phantoms: optional
credentials:
  - groups: [developers]
    source: gateway
roles:
  approver: {groups: [sre]}
  admin: {principals: ["https://idp.example.com#root"]}
"""


def read(folder: Path, text: str) -> object:
    file = folder / "identity.yaml"
    file.write_text(text)
    return load(file)


def test_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "identity.yaml").write_text(GOOD)
    rules = load(tmp_path / "identity.yaml")
    assert rules.issuers["https://idp.example.com"].algorithms == ("ES256",)
    assert (rules.sessions.ttl, rules.sessions.max, rules.sessions.idle) == (1800, 28800, 0)
    assert rules.sessions.phantoms == "optional"
    assert rules.has_role("admin", Principal("https://idp.example.com", "root"))
    assert not rules.has_role("admin", Principal("https://other.example.com", "root"))
    assert rules.has_role("approver", Principal("x", "y", groups=frozenset({"sre"})))
    assert not rules.has_role("viewer", Principal("x", "y", groups=frozenset({"sre"})))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("https://idp.example.com", "http://idp.example.com", 2),
        ("https://idp.example.com", "https://user:pw@idp.example.com", 2),
        ("algorithms: [ES256]", "algorithms: [HS256]", 4),
        ("algorithms: [ES256]", "algorithms: [none]", 4),
        ("algorithms: [ES256]", "algorithms: []", 4),
        ("max_lifetime: 2h", "max_lifetime: 2 hours", 5),
        ("max_lifetime: 2h", "max_lifetime: 0s", 5),
        ("max_lifetime: 2h", "max_life: 2h", 5),
        ("max_lifetime: 2h", "jwks: missing.json", 5),
        ("max_lifetime: 2h", "jwks: http://idp.example.com/keys", 5),
        ("audience: flowwarden", 'audience: ""', 3),
        ("ttl: 30m", "ttl: 0s", 7),
        ("max: 8h", "max: 10m", 8),
        ("phantoms: optional", "phantoms: maybe", 10),
        ("approver: {groups: [sre]}", "approver: {}", 15),
        ("approver: {groups: [sre]}", "aprover: {groups: [sre]}", 15),
    ],
)
def test_what_is_wrong_and_where(tmp_path: Path, old: str, new: str, line: int) -> None:
    with pytest.raises(RuleError) as found:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert found.value.line == line, str(found.value)
    assert str(found.value).startswith(str(tmp_path / "identity.yaml"))


def test_issuers_none_and_twice(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="nobody could sign in"):
        read(tmp_path, "issuers: []\n")
    entry = "  - {issuer: https://idp.example.com, audience: a}\n"
    with pytest.raises(RuleError, match="twice"):
        read(tmp_path, "issuers:\n" + entry * 2)


def test_where_tokens_and_keys_may_travel() -> None:
    assert safe_url("https://idp.example.com/x")
    assert safe_url("http://127.0.0.1:80/")
    assert safe_url("http://[::1]/")
    assert safe_url("http://localhost:9/")
    for url in ("http://idp.example.com", "ftp://127.0.0.1/", "https://", "http://127.0.0.1@evil.example/", "x"):
        assert not safe_url(url), url


def test_a_role_without_anybody() -> None:
    assert not Role().holds(Principal("", ""))


class Answer(BaseHTTPRequestHandler):
    """/redirect leads to /keys, /long is longer than anything needs to be."""

    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/redirect" else 200)
        self.send_header("Location", "/keys")
        self.end_headers()
        self.wfile.write(b"{" + b" " * LIMIT + b"}" if self.path == "/long" else b"{}")

    def log_message(self, *_: object) -> None:
        pass


def test_redirects_and_long_answers() -> None:
    """Keys come from the named address only, and are bounded."""
    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    assert fetch(f"{url}/keys") == b"{}"
    with pytest.raises(TokenError, match="status 302"):
        fetch(f"{url}/redirect")
    with pytest.raises(TokenError, match="more than"):
        fetch(f"{url}/long")
    server.shutdown()
    server.server_close()


def test_what_cannot_be_fetched(issuer: OidcIssuer) -> None:
    with pytest.raises(TokenError, match="status 404"):
        fetch(f"{issuer.url}/nowhere")
    with pytest.raises(TokenError, match="https://"):
        fetch("file:///etc/hostname")
    with pytest.raises(TokenError, match="cannot be reached"):
        fetch("http://127.0.0.1:1/")
