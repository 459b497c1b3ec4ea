"""Station 1 in a real proxy: tunnels, names, layers, addresses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from support.harness import drained
from support.whole import HOST, Whole, whole
from support.wire_clients import PATIENCE, Client2

MODULE = pytest.mark.asyncio(loop_scope="module")
VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])
EVIL = "evil.example.com"
WEB = "web.example.com"  # a host that a rule names; it is resolved and dialled


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Whole]:
    async with whole(tmp_path_factory.mktemp("connect") / "gateway") as gateway:
        yield gateway


@pytest.fixture
def gateway(running: Whole) -> Iterator[Whole]:
    running.upstream.forget()
    yield running
    assert running.upstream.bytes == b"", "nothing of this file is for upstream"


async def news(gateway: Whole, count: int, kind: str) -> list[dict[str, Any]]:
    """The records of a kind since there were `count` in the log."""
    return [record for record in (await gateway.evidence())[count:] if record["type"] == kind]


async def raw(gateway: Whole, head: str, *, host: str = HOST, sni: str | None = HOST) -> bytes:
    """A head as it is, inside TLS inside a tunnel, and the answer to it."""
    async with gateway.tunnel(host) as (reader, writer):
        context = gateway.trust("http/1.1")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if sni is None:
            transport = await asyncio.get_running_loop().start_tls(
                writer.transport, writer.transport.get_protocol(), context, server_hostname=""
            )
            writer._transport = transport  # type: ignore[attr-defined] - StreamWriter.start_tls insists on a name
        else:
            await writer.start_tls(context, server_hostname=sni)
        writer.write(head.encode("latin-1"))
        try:
            return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        except asyncio.IncompleteReadError as end:
            return end.partial


# -- what is no HTTP ------------------------------------------------------------------------------------


@MODULE
@pytest.mark.parametrize("port", [22, 53, 25, 8443, 3306])
async def test_a_tunnel_leads_to_listed_ports_only(gateway, port):
    """CONNECT to :22 and :53 is refused and recorded."""
    before = len(await gateway.evidence())
    async with gateway.tunnel(HOST, port, status=b"403"):
        pass
    [record] = await news(gateway, before, "tunnel")
    assert record["target"] == f"{HOST}:{port}" and f"port {port}" in record["refused"]


@MODULE
@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9\r\n", b"\x00\x1d\x12\x34\x01\x00\x00\x01", b"\x05\x01\x00"])
async def test_raw_bytes_in_a_tunnel_are_closed_and_recorded(gateway, data):
    before = len(await gateway.evidence())
    async with gateway.tunnel(HOST) as (reader, writer):
        writer.write(data)
        assert b" 200 " not in await drained(reader)
    [record] = await news(gateway, before, "tunnel")
    assert record["host"] == HOST and record["refused"]


# -- CONNECT, SNI, Host ---------------------------------------------------------------------------------


def get(host: str = HOST, target: str = "/key", *more: str) -> str:
    return "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {host}", *more, "Connection: close", "", ""])


@MODULE
@pytest.mark.parametrize(
    ("head", "options"),
    [
        (get(EVIL), {}),
        (get(f"{HOST}:8443"), {}),
        (get(), {"sni": EVIL}),
        (get(EVIL), {"sni": EVIL}),
        (get(), {"host": EVIL}),
        (get(), {"host": EVIL, "sni": EVIL}),
        (get(EVIL), {"host": EVIL}),
        (get(), {"sni": None}),
        (get(target=f"https://{EVIL}/key"), {}),
        (get(target=f"https://{HOST}/key"), {}),
        (get(EVIL, f"https://{HOST}/key"), {}),
    ],
    ids=str,
)
async def test_names_that_differ(gateway, head, options):
    """CONNECT ≠ SNI ≠ Host, each pair; SNI missing; absolute-form: 403 or 400, recorded, nothing upstream."""
    before = len(await gateway.evidence())
    got = await raw(gateway, head, **options)
    assert got.split(b" ")[1] in (b"403", b"400"), got
    [record] = await news(gateway, before, "outcome")
    assert record["outcome"] in ("refused", "cut")


@MODULE
@pytest.mark.parametrize("fields", [{":authority": EVIL}, {"host": EVIL}, {":authority": HOST + ":8443"}], ids=str)
async def test_names_that_differ_over_http2(gateway, fields):
    async with gateway.client("h2") as client:
        assert isinstance(client, Client2)
        head = {":method": "GET", ":scheme": "https", ":authority": HOST, ":path": "/key"} | fields
        answer = client.start("GET", end=True, replace=list(head.items()))
        await client.over(answer)
    assert answer.status in (400, 403) or answer.broken


@MODULE
@pytest.mark.parametrize(
    "head", [f"GET http://{HOST}/ HTTP/1.1\r\nHost: {EVIL}\r\n", f"GET http://{EVIL}/ HTTP/1.1\r\nHost: {HOST}\r\n"]
)
async def test_names_that_differ_without_a_tunnel(gateway, head):
    """Absolute-form to the proxy itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"{head}{gateway.proxy_auth}\r\nConnection: close\r\n\r\n".encode())
    assert (await drained(reader)).split(b" ")[1] in (b"403", b"400")
    writer.close()


# -- Host in odd spellings ------------------------------------------------------------------------------


@MODULE
@pytest.mark.parametrize(
    "host",
    [
        f"{HOST}\r\nHost: {HOST}",
        f"{HOST}\r\nHost: {EVIL}",
        f"user@{HOST}",
        f"user:password@{HOST}",
        f"{HOST}:",
        f"{HOST}:443x",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fe80::1%25eth0]",
        "",
        f"{HOST}..",
        f"{HOST}/",
    ],
)
async def test_a_host_in_odd_spelling_is_refused(gateway, host):
    assert (await raw(gateway, get(host))).split(b" ")[1] in (b"403", b"400")


@MODULE
@pytest.mark.parametrize(
    "target", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "localhost", "metadata", "a.localhost"]
)
async def test_a_tunnel_to_an_address_is_refused(gateway, target):
    """Also: this machine's own ports, whatever they are called."""
    for port in (443, gateway.port):
        async with gateway.tunnel(target, port, status=b"403"):
            pass


# -- framing, upgrades -------------------------------------------------------------------------------


@MODULE
@pytest.mark.parametrize(
    "more",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Content-Length: 4", "Content-Length: 5"),
        ("Transfer-Encoding: gzip, chunked",),
        ("Upgrade: h2c", "Connection: upgrade, http2-settings"),
        ("Upgrade: TLS/1.2", "Connection: upgrade"),
    ],
)
async def test_odd_framing_and_upgrades_are_refused(gateway, more):
    assert (await raw(gateway, get(HOST, "/key", *more))).split(b" ")[1] == b"400"


@MODULE
async def test_a_tunnel_in_a_tunnel_is_refused(gateway):
    head = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n"
    assert b" 200 " not in await raw(gateway, head)


@MODULE
async def test_http2_is_offered_by_host(gateway, monkeypatch):
    """Elsewhere HTTP/1.1, whose memory is bounded."""
    monkeypatch.setattr(gateway.services, "http2_hosts", ("transcribestreaming.*",))
    async with gateway.tunnel(HOST) as (_reader, writer):
        context = gateway.trust("h2")
        context.set_alpn_protocols(["h2", "http/1.1"])
        await writer.start_tls(context, server_hostname=HOST)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


# -- addresses -------------------------------------------------------------------------------------


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Answers for WEB, one list a query (the last one stays); returns what was asked."""
    real = socket.getaddrinfo
    asked: list[str] = []

    def answers(*lists: list[str]) -> list[str]:
        def fake(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host != WEB:
                return real(host, port, *args, **kwargs)
            asked.append(host)
            found = lists[min(len(asked), len(lists)) - 1]
            return [
                (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))
                for ip in found
            ]

        monkeypatch.setattr(socket, "getaddrinfo", fake)
        return asked

    return answers


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Where the proxy wants to connect to; nothing is reached."""
    real, seen = asyncio.open_connection, []

    async def note(host: Any = None, port: Any = None, **kwargs: Any) -> Any:
        if "local_addr" not in kwargs:
            return await real(host, port, **kwargs)
        seen.append((host, port))
        raise OSError("nothing is reached from here")

    monkeypatch.setattr(asyncio, "open_connection", note)
    return seen


async def visit(gateway: Whole, version: str) -> Any:
    async with gateway.client(version, WEB) as client:
        return await client.ask("GET", "/")


@MODULE
@VERSIONS
async def test_the_address_that_was_checked_is_dialled(gateway, dns, dialled, version):
    """The name is resolved once; an answer that changes afterwards changes nothing."""
    asked = dns(["52.94.133.131"], ["127.0.0.1"])
    answer = await visit(gateway, version)
    assert answer.status == 502 and asked == [WEB] and dialled == [("52.94.133.131", 443)]


@MODULE
@VERSIONS
@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["::1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["fd00:ec2::254"],
        ["::ffff:169.254.169.254"],
        ["52.94.133.131", "10.0.0.1"],
        ["0.0.0.0"],
        [],
    ],
    ids=str,
)
async def test_a_name_that_resolves_inwards_is_refused(gateway, dns, dialled, version, answers):
    """Private, loopback, metadata: a call to it ends in a 502, and nothing is dialled."""
    before = len(await gateway.evidence())
    dns(answers)
    answer = await visit(gateway, version)
    assert answer.whole and answer.status == 502 and dialled == []
    [record] = await news(gateway, before, "outcome")
    assert record["outcome"] in ("refused", "unknown", "error")


@MODULE
async def test_a_private_network_is_for_aws_names_only(gateway, dns, dialled, monkeypatch):
    """`warden_private_networks` is for VPC endpoints, not for whatever a rule names."""
    from flowwarden.connect import addresses

    monkeypatch.setattr(gateway.services, "private_networks", addresses.networks(["10.0.0.0/8"]))
    dns(["10.0.0.1"])
    await visit(gateway, "h1")
    assert dialled == []
    monkeypatch.setattr(gateway.services, "is_aws_host", lambda host: host == WEB)
    await visit(gateway, "h1")
    assert dialled == [("10.0.0.1", 443)]


@MODULE
async def test_flowwarden_internal_is_answered_by_the_gateway(gateway, dns, dialled):
    """It is no name that is resolved."""
    asked = dns(["127.0.0.1"])
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        b"GET http://flowwarden.internal/ca.pem HTTP/1.1\r\nHost: flowwarden.internal\r\nConnection: close\r\n\r\n"
    )
    with contextlib.suppress(TimeoutError):
        head = await asyncio.wait_for(reader.readuntil(b"\r\n"), PATIENCE)
        assert head.startswith(b"HTTP/1.1 ")
    writer.close()
    assert asked == [] and dialled == []
