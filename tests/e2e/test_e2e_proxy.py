"""The proxy's own edges: what is not HTTP, names that do not agree, odd framing, forbidden addresses. AWS sees none of it."""

from __future__ import annotations

import socket
import ssl

import pytest

from support.clients import Keys, ProxyClient, Reply, basic, eventually, sign
from support.gateway import REGION
from support.h2client import Http2Client
from support.way import Way

HOST = "sts.eu-central-1.amazonaws.com"
OTHER = "s3.eu-central-1.amazonaws.com"
QUERY = "/?Action=GetCallerIdentity&Version=2011-06-15"
Fields = list[tuple[str, str]]


def signed(env: dict[str, str], host: str = HOST, service: str = "sts") -> Fields:
    return sign(Keys.of(env), "GET", f"https://{host}{QUERY}", service=service, region=REGION)[1]


def replaced(fields: Fields, **changes: str) -> Fields:
    return [(name, changes.get(name.lower(), value)) for name, value in fields]


def ask(client: ProxyClient, data: bytes, method: str = "GET") -> Reply | None:
    """Sends bytes; None if the connection was closed instead of an answer."""
    try:
        client.send(data)
        return client.reply(method)
    except (OSError, EOFError):
        return None


OF_ITS_OWN = "127.0.53.1"  # of one address only the first twenty refusals in a minute have a record each


def told(way: Way, before: int) -> list[dict[str, object]]:
    """What the evidence log says since."""
    return way.gateway.evidence()[before:]


# -- not HTTP (faults 5 and 9) -----------------------------------------------------------------------------------------

NOT_HTTP = {
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "dns over tcp": b"\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01",
    "smtp": b"EHLO example.com\r\n",
    "zeros": b"\0" * 64,
    "h2c prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
}


@pytest.mark.parametrize("kind", NOT_HTTP)
def test_what_is_not_http_ends_the_connection(way: Way, alice: dict[str, str], kind: str) -> None:
    with way.gateway.client(alice["FLOWWARDEN_HANDLE"]) as client:
        head = client.connect(f"{HOST}:443")
        if head.status == 200:
            client.send(NOT_HTTP[kind])
            assert client.closed(within=3), "the connection stayed open"
            assert NOT_HTTP[kind] not in client.stream.buffer
    assert way.calls == []


def test_what_is_not_http_is_recorded(way: Way, alice: dict[str, str]) -> None:
    before = len(way.gateway.evidence())
    with way.gateway.client(alice["FLOWWARDEN_HANDLE"], source=OF_ITS_OWN) as client:
        client.connect(f"{HOST}:443")
        client.send(NOT_HTTP["ssh"])
        assert client.closed()
    eventually(lambda: told(way, before), timeout=3, what="a record of it")


@pytest.mark.parametrize("port", [53, 22, 25, 8082, 65535, 3306])
def test_ports_by_list(way: Way, alice: dict[str, str], port: int) -> None:
    before = len(way.gateway.evidence())
    with way.gateway.client(alice["FLOWWARDEN_HANDLE"], source=OF_ITS_OWN) as client:
        assert client.connect(f"{HOST}:{port}").status == 403
    assert eventually(lambda: told(way, before), what="a record of it")
    assert way.calls == []


def test_a_websocket_is_refused_unless_a_rule_allows_it(way: Way, alice: dict[str, str]) -> None:
    accepted = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}
    way.aws.answer(lambda exchange: (101, accepted, b"") if exchange.header("upgrade") else None)
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    with way.tunnel(alice, HOST) as client:
        reply = client.request("GET", QUERY, [*signed(alice), *upgrade, key])
    assert reply.status in {400, 403, 502}
    assert reply.header("x-flowwarden-reason")


def test_h2c_upgrade_is_not_done(way: Way, alice: dict[str, str]) -> None:
    fields = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")]
    with way.tunnel(alice, HOST) as client:
        reply = client.request("GET", QUERY, [*signed(alice), *fields])
    assert reply.status != 101
    assert all("h2c" not in str(seen.fields) for seen in way.calls)


def test_a_connect_inside_a_tunnel_is_refused(way: Way, alice: dict[str, str]) -> None:
    with way.tunnel(alice, HOST) as client:
        reply = ask(client, f"CONNECT {OTHER}:443 HTTP/1.1\r\nHost: {OTHER}:443\r\n\r\n".encode(), "CONNECT")
    assert reply is None or reply.status >= 400
    assert way.calls == []


def test_http2_is_offered_by_host_only(way: Way, alice: dict[str, str]) -> None:
    """HTTP/1.1 elsewhere, whose memory is bounded."""
    with way.gateway.client(alice["FLOWWARDEN_HANDLE"]) as client:
        assert client.tunnel(HOST, alpn=("h2", "http/1.1")) == "http/1.1"
    with way.gateway.client(alice["FLOWWARDEN_HANDLE"]) as client:
        host = f"bedrock-runtime.{REGION}.amazonaws.com"
        assert client.tunnel(host, alpn=("h2", "http/1.1")) == "h2"
        h2 = Http2Client(client)
        keys = Keys.of(alice)
        _, fields = sign(keys, "GET", f"https://{host}/x", service="bedrock", region=REGION)
        stream = h2.request("GET", host, "/x", fields)
        assert stream.status == 403
        other = h2.request("GET", OTHER, "/x", fields)
        assert other.over and other.status in {0, 400, 403, 421}
    assert way.calls == []


# -- names that do not agree (faults 6 and 7) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connect", "sni", "host"),
    [
        (HOST, OTHER, HOST),
        (HOST, HOST, OTHER),
        (HOST, OTHER, OTHER),
        (OTHER, HOST, HOST),
        (HOST, None, HOST),
        (HOST, "evil.example.com", HOST),
        ("evil.example.com", HOST, HOST),
        (HOST, HOST, "evil.example.com"),
        (HOST, HOST, f"{HOST}.evil.example.com"),
    ],
)
def test_connect_sni_and_host_must_agree(
    way: Way, alice: dict[str, str], connect: str, sni: str | None, host: str
) -> None:
    """Real signatures are not to be lured to a stranger's server."""
    with way.gateway.client(alice["FLOWWARDEN_HANDLE"]) as client:
        try:
            head = client.connect(f"{connect}:443")
            if head.status != 200:
                assert head.status == 403
                return
            client.start_tls(sni)
            reply = client.request("GET", QUERY, signed(alice, host))
        except (ssl.SSLError, ConnectionError):
            reply = None
    assert reply is None or reply.status == 403
    assert way.calls == []


@pytest.mark.parametrize("target", [f"https://{OTHER}{QUERY}", f"http://{OTHER}{QUERY}", "https://evil.example.com/"])
def test_absolute_form_with_a_foreign_authority(way: Way, alice: dict[str, str], target: str) -> None:
    with way.tunnel(alice, HOST) as client:
        reply = ask(client, raw_request(f"GET {target} HTTP/1.1", signed(alice)))
    assert reply is None or reply.status in {400, 403}
    assert way.calls == []


def raw_request(start: str, fields: Fields, body: bytes = b"") -> bytes:
    return "\r\n".join([start, *(f"{name}: {value}" for name, value in fields), "", ""]).encode("latin-1") + body


@pytest.mark.parametrize(
    "host",
    [
        f"user@{HOST}",
        f"user:pass@{HOST}",
        f"{HOST}@evil.example.com",
        f"{HOST}:8443",
        f"{HOST}:443:443",
        f"{HOST}, {OTHER}",
        f"{HOST} ",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "127.1",
        "[::ffff:127.0.0.1]",
        "[fe80::1%25eth0]",
        "169.254.169.254",
        "",
    ],
)
def test_odd_hosts_are_refused_or_normalised_never_confused(way: Way, alice: dict[str, str], host: str) -> None:
    """Whatever reaches AWS was meant for the host of the tunnel."""
    with way.tunnel(alice, HOST) as client:
        reply = ask(client, raw_request(f"GET {QUERY} HTTP/1.1", replaced(signed(alice), host=host)))
    if host.strip() == HOST:
        return  # white space around a value is not part of it (RFC 9112, section 5.1)
    assert reply is None or reply.status in {400, 403}
    assert way.calls == []


@pytest.mark.parametrize("host", [f"{HOST}.", HOST.upper(), f"{HOST}:443"])
def test_a_host_that_is_the_same_after_all(way: Way, alice: dict[str, str], host: str) -> None:
    """Upper case, a trailing dot and the default port name the same host: refused or normalised."""
    fields = sign(Keys.of(alice), "GET", f"https://{host}{QUERY}", service="sts", region=REGION)[1]
    with way.tunnel(alice, HOST) as client:
        reply = ask(client, raw_request(f"GET {QUERY} HTTP/1.1", fields))
    assert reply is not None
    assert reply.status in {200, 400, 403}
    assert len(way.calls) == (reply.status == 200)
    assert not way.aws.refused


def test_two_host_headers(way: Way, alice: dict[str, str]) -> None:
    for other in (OTHER, HOST):
        with way.tunnel(alice, HOST) as client:
            reply = ask(client, raw_request(f"GET {QUERY} HTTP/1.1", [*signed(alice), ("Host", other)]))
        assert reply is None or reply.status in {400, 403}
    assert way.calls == []


# -- framing (fault 8) --------------------------------------------------------------------------------------------------

FORM = b"Action=GetCallerIdentity&Version=2011-06-15"
FRAMING: dict[str, tuple[Fields, bytes]] = {
    "CL and TE": ([("Content-Length", "43"), ("Transfer-Encoding", "chunked")], b"2b\r\n" + FORM + b"\r\n0\r\n\r\n"),
    "two CL": ([("Content-Length", "43"), ("Content-Length", "42")], FORM),
    "CL with a sign": ([("Content-Length", "+43")], FORM),
    "CL list": ([("Content-Length", "43, 43")], FORM),
    "negative CL": ([("Content-Length", "-1")], FORM),
    "odd TE": ([("Transfer-Encoding", "xchunked")], b"2b\r\n" + FORM + b"\r\n0\r\n\r\n"),
    "TE twice": (
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "identity")],
        b"2b\r\n" + FORM + b"\r\n0\r\n\r\n",
    ),
    "TE gzip": ([("Transfer-Encoding", "gzip, chunked")], b"2b\r\n" + FORM + b"\r\n0\r\n\r\n"),
    "bad chunk size": ([("Transfer-Encoding", "chunked")], b"zz\r\n" + FORM + b"\r\n0\r\n\r\n"),
    "space before the colon": ([("Content-Length ", "43")], FORM),
    "folded field": ([("X-A", "1\r\n 2"), ("Content-Length", "43")], FORM),
}


@pytest.mark.parametrize("kind", FRAMING)
def test_framing_that_is_not_clear_is_refused(way: Way, alice: dict[str, str], kind: str) -> None:
    extra, body = FRAMING[kind]
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    _, fields = sign(Keys.of(alice), "POST", f"https://{HOST}/", service="sts", region=REGION, fields=form, body=FORM)
    with way.tunnel(alice, HOST) as client:
        reply = ask(client, raw_request("POST / HTTP/1.1", [*fields, *extra], body), "POST")
    assert reply is None or 400 <= reply.status < 500
    assert way.calls == []


@pytest.mark.parametrize(
    "data",
    [
        f"GET {QUERY} HTTP/1.1\nHost: {HOST}\n\n".encode(),
        f"GET  {QUERY} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(),
        f"GET {QUERY} HTTP/9.9\r\nHost: {HOST}\r\n\r\n".encode(),
        f"GET {QUERY}\r\n\r\n".encode(),
        f"G\0T {QUERY} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(),
        f"GET {QUERY} HTTP/1.1\r\nHost: {HOST}\r\nX: a\0b\r\n\r\n".encode(),
        f"GET {QUERY} HTTP/1.1\r\nHost: {HOST}\r\nno colon\r\n\r\n".encode(),
    ],
)
def test_heads_that_are_not_http(way: Way, alice: dict[str, str], data: bytes) -> None:
    with way.tunnel(alice, HOST) as client:
        reply = ask(client, data)
    assert reply is None or 400 <= reply.status < 600
    assert way.calls == []


@pytest.mark.parametrize("inside", [True, False])
def test_a_head_without_end_is_cut(way: Way, alice: dict[str, str], inside: bool) -> None:
    """Bounded memory: after 64 KiB nobody reads on, and the connection is closed, each time of ten."""
    endless = b"GET / HTTP/1.1\r\n" + (b"X-Filler: " + b"a" * 4096 + b"\r\n") * 8192
    for _ in range(10):
        with way.gateway.client(alice["FLOWWARDEN_HANDLE"], timeout=3) as client:
            if inside:
                client.tunnel(HOST)
            with pytest.raises(ConnectionError):
                client.send(endless, split=4108)
    assert way.calls == []


def test_pipelined_requests_are_judged_one_by_one(way: Way, alice: dict[str, str]) -> None:
    good = raw_request(f"GET {QUERY} HTTP/1.1", signed(alice))
    bad = raw_request(f"GET {QUERY} HTTP/1.1", replaced(signed(alice), host=OTHER))
    with way.tunnel(alice, HOST) as client:
        client.send(good + bad + good)
        statuses = [reply.status for reply in (client.reply(), client.reply())]
    assert statuses == [200, 403]
    assert all(seen.host == HOST for seen in way.calls) and len(way.calls) <= 2


# -- addresses (faults 46 and 47) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:{admin}",
        "localhost:{admin}",
        "127.0.0.1:{proxy}",
        "127.0.0.1:8081",
        "[::1]:{admin}",
        "[::ffff:127.0.0.1]:{admin}",
        "0.0.0.0:{admin}",
        "0:{admin}",
        "127.1:443",
        "2130706433:443",
        "169.254.169.254:80",
        "169.254.170.2:80",
        "[fd00:ec2::254]:80",
        "127.0.0.1:443",
        "localhost:443",
        "localhost:80",
    ],
)
def test_forbidden_addresses_are_never_dialled(way: Way, alice: dict[str, str], target: str) -> None:
    """Its own ports, loopback, link-local and metadata: refused at CONNECT or at the first request."""
    target = target.format(admin=way.gateway.admin_port, proxy=way.gateway.port)
    host = target.rpartition(":")[0]
    with way.gateway.client(alice["FLOWWARDEN_HANDLE"]) as client:
        head = client.connect(target)
        if head.status == 200:
            client.start_tls(None if host[0] in "[0123456789" else host)
            reply = client.request("GET", "/simple/x/", [("Host", host)])
            assert reply.status in {403, 502}
            assert b"health" not in reply.body
        else:
            assert head.status in {400, 403, 502}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "0x7f.1", "169.254.169.254"])
def test_the_same_without_a_tunnel(way: Way, alice: dict[str, str], host: str) -> None:
    """Also where a rule allows the host: the address decides."""
    credential = ("Proxy-Authorization", basic(alice["FLOWWARDEN_HANDLE"]))
    for port in (way.gateway.admin_port, way.gateway.port, way.aws.port, 80):
        connections = way.aws.connections
        with ProxyClient(way.gateway.port) as client:
            data = raw_request(f"GET http://{host}:{port}/simple/x/ HTTP/1.1", [("Host", f"{host}:{port}"), credential])
            reply = ask(client, data)
        assert reply is None or reply.status in {400, 403, 502}, (port, reply.text)
        assert way.aws.connections == connections
    assert way.calls == []


def test_the_proxy_asked_as_if_it_were_a_server(way: Way) -> None:
    """Origin form at the proxy's own port: nothing is served there."""
    with socket.create_connection(("127.0.0.1", way.gateway.port), timeout=20) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = sock.recv(65536)
    assert not answer or int(answer.split(b" ")[1]) >= 400


def test_the_operators_listener_wants_a_token(way: Way, alice: dict[str, str]) -> None:
    for path in ("/sessions", "/approvals", "/metrics", "/whoami"):
        assert way.gateway.operators("GET", path)[0] == 401
        assert way.gateway.operators("GET", path, alice["FLOWWARDEN_HANDLE"])[0] == 401
        assert way.gateway.operators("GET", path, way.issuer.wrongly_signed())[0] == 401
