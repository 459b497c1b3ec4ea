"""Station 1: may this tunnel exist at all, and is the request for the host that the tunnel was opened to?"""

from __future__ import annotations

import asyncio
import fnmatch
import socket
from typing import TYPE_CHECKING, Any

from mitmproxy import connection, http, tls
from mitmproxy.proxy import context as proxy_context
from mitmproxy.proxy import server_hooks

from .. import access, proof
from ..errors import Refusal
from ..station import Station
from ..types import Request
from . import addresses, names

if TYPE_CHECKING:
    from ..services import Services

_RESOLVE_SECONDS = 10.0


class Connect(Station):
    """Names agree, ports are by list, and the address that was checked is the one that is dialled."""

    name = "connect"

    def __init__(self, services: Services) -> None:
        self.services = services

    def http_connect(self, flow: http.HTTPFlow) -> None:
        host, port = names.host_name(flow.request.host), flow.request.port
        if port not in self.services.ports:
            raise names.refuse(f"port {port} is not one that tunnels lead to")
        tunnel = access.tunnel(flow.client_conn)
        tunnel.host, tunnel.port = host, port

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        client = data.context.client
        tunnel = access.tunnel(client)
        if not any(fnmatch.fnmatchcase(tunnel.host, glob) for glob in self.services.http2_hosts):
            client.alpn = b"http/1.1"  # HTTP/2 towards a client has no backpressure in mitmproxy

    def layer_refused(self, context: proxy_context.Context) -> None:
        tunnel = access.tunnel(context.client)
        self._note(context.client, {"refused": "neither HTTP nor TLS", "host": tunnel.host, "port": tunnel.port})

    def tunnel_refused(self, flow: http.HTTPFlow) -> None:
        why = access.of(flow).refusal
        target = f"{flow.request.host}:{flow.request.port}"[:300]
        self._note(flow.client_conn, {"refused": why.message if why else "", "target": target})

    def _note(self, client: connection.Client, record: dict[str, Any]) -> None:
        record["client"] = address = str(client.peername[0]) if client.peername else ""
        if self.services.repeats.alone(address, f"{record.get('target', record.get('host'))}: {record['refused']}"):
            self.services.note("tunnel", record)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        request, client = flow.request, flow.client_conn
        tunnel = access.tunnel(client)
        if tunnel.refused:
            raise names.refuse(tunnel.refused)
        inside = (tunnel.host, tunnel.port) if tunnel.host else None
        hosts = request.headers.get_all("host")
        if len(hosts) > 1:
            raise Refusal("two Host headers", status=400, code="InvalidRequest", station=self.name)
        named = [*hosts, request.authority] if request.authority else hosts
        if inside and request.authority and not request.is_http2:
            raise names.refuse("an absolute-form request inside a tunnel")
        host, port = names.agree(
            target=(request.host, request.port),
            sni=client.sni,
            tls=request.scheme == "https",
            tunnel=inside,
            hosts=named,
        )
        if port not in self.services.ports:
            raise names.refuse(f"port {port} is not one that requests go to")
        if "upgrade" in request.headers and request.headers["upgrade"].lower() != "websocket":
            raise Refusal("protocol upgrades are not supported", status=400, code="InvalidRequest", station=self.name)
        if "connection" in request.headers and (named_by := names.end_to_end(request.headers.get_all("connection"))):
            why = f"the Connection header names {named_by[:40]!r}, which is not for one hop only"
            raise Refusal(why, status=400, code="InvalidRequest", station=self.name)
        owner = access.of(flow)
        owner.request = neutral(request, host, port)
        owner.internal = host == names.INTERNAL
        proof.let_pass(flow, self.name)

    def request(self, flow: http.HTTPFlow) -> None:
        """The whole body is there: what the later stations see is the request with it."""
        owner = access.of(flow)
        head, content = owner.request, flow.request.data.content
        if head is not None and not flow.request.stream and content:
            whole = Request(head.method, head.scheme, head.host, head.port, head.target, head.headers, content)
            if "fields" in head.__dict__:
                whole.__dict__["fields"] = head.__dict__["fields"]
            owner.request = whole

    async def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        server = data.server
        if server.address is None:
            raise names.refuse("no address to dial")
        host, port = server.address[:2]
        if self.services.sandbox is not None and (host, port) == self.services.sandbox.address:
            return
        found = await asyncio.wait_for(
            asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM), _RESOLVE_SECONDS
        )
        private = self.services.private_networks if self.services.is_aws_host(host) else ()
        chosen, why = addresses.choose([str(info[4][0]) for info in found], private)
        if why:
            raise names.refuse(f"{host} resolves to {why}")
        # mitmproxy finds a connection again by its address, so the name comes back as soon as the socket is open.
        self.services.dialled[server.id] = server.address
        server.address = (chosen, port)

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        name = self.services.dialled.pop(data.server.id, None)
        if name is not None:
            data.server.address = name

    server_connect_error = server_connected


def neutral(request: http.Request, host: str, port: int) -> Request:
    """mitmproxy's request as the pure modules see it; over HTTP/2 the authority stands as a Host field."""
    fields = request.headers.fields
    if request.is_http2 and not any(name.lower() == b"host" for name, _ in fields):
        fields = ((b"host", request.data.authority), *fields)
    body = b"" if request.data.content is None else request.data.content
    target = request.data.path.decode("latin-1")
    return Request(request.method, request.scheme, host, port, target, fields, body)
