"""The masters: a web view that shows and cannot touch, a cap on what it keeps, and a stop that lets calls finish."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from mitmproxy.test import tflow
from mitmproxy.tools.web import app as webapp
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from flowwarden import access
from flowwarden import master as masters
from support.gateway import free_port
from support.harness import Proxy, running

XSRF = "_mitmproxy_xsrf"
VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])


# -- the web view -------------------------------------------------------------------------------------------------


async def shown(proxy: Proxy) -> str:
    """The id of a flow that went through."""
    async with proxy.client("h1") as client:
        assert (await client.ask()).body == b"hello"
    [flow] = list(proxy.master.view)  # type: ignore[union-attr]
    return str(flow.id)


def state(proxy: Proxy, flow: str) -> list[Any]:
    """What an editor could change. (The connections' own state goes on.)"""
    found = proxy.master.view.get_by_id(flow)  # type: ignore[union-attr]
    whole = found.get_state()
    return [
        whole[part] for part in ("id", "request", "response", "error", "comment", "marked", "metadata", "intercepted")
    ]


async def fetch(proxy: Proxy, method: str, path: str, body: str | None = None, *, login: bool = True) -> Any:
    url, _, token = proxy.master.web_url.partition("?token=")  # type: ignore[union-attr]
    xsrf = "0" * 32  # the same in cookie and header: what a browser on the page itself would send
    headers = {"Content-Type": "application/json", "Cookie": f"{XSRF}={xsrf}", "X-XSRFToken": xsrf}
    if login:
        headers["Authorization"] = f"Bearer {token}"
    request = HTTPRequest(
        url.rstrip("/") + path, method=method, headers=headers, body=body, allow_nonstandard_methods=True
    )
    return await AsyncHTTPClient().fetch(request, raise_error=False)


def paths(flow: str) -> list[str]:
    """Every address of mitmweb's own table, with this flow in it."""
    found = []
    for pattern, _handler in webapp.handlers:
        path = pattern.replace(r"(?:\.json)?", "").replace(r"(?P<flow_id>[0-9a-f\-]+)", flow)
        path = path.replace("(?P<message>request|response|messages)", "response").replace(
            "(?P<cmd>[a-z.]+)", "flow.kill"
        )
        found.append(re.sub(r"\(\?P<content_view>[^)]*\)", "auto", path))
    return found


async def test_the_web_view_shows_and_cannot_touch():
    """Each mutating method of each of mitmweb's addresses answers 403; flows and options stay as they are."""
    async with running(web=free_port()) as proxy:
        flow = await shown(proxy)
        before = state(proxy, flow)
        options = {name: getattr(proxy.master.options, name) for name in proxy.master.options.keys()}  # noqa: SIM118
        body = json.dumps({"request": {"method": "DELETE"}, "ssl_insecure": True, "arguments": [], "comment": "x"})
        tried = 0
        for path in paths(flow):
            if path in ("/", "/updates"):  # the login form, and the socket
                continue
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                answer = await fetch(proxy, method, path, body)
                assert answer.code in (403, 405), (method, path, answer.code)
                tried += answer.body == b'{"error": "this view is read-only"}'
        assert tried > 15
        for path in ("/processes", "/executable-icon?path=/bin/sh"):
            assert (await fetch(proxy, "GET", path)).code == 403
        assert state(proxy, flow) == before
        assert {name: getattr(proxy.master.options, name) for name in options} == options
        assert len(proxy.upstream.requests) == 1, "nothing was replayed"


async def test_the_web_view_shows():
    """What it is for still works, and only with its password."""
    async with running(web=free_port()) as proxy:
        flow = await shown(proxy)
        flows = json.loads((await fetch(proxy, "GET", "/flows")).body)
        assert [each["id"] for each in flows] == [flow]
        assert (await fetch(proxy, "GET", f"/flows/{flow}/response/content.data")).body == b"hello"
        assert (await fetch(proxy, "POST", "/", "")).code == 200, "the login form"
        for path in ("/", "/flows", f"/flows/{flow}/response/content.data"):
            assert (await fetch(proxy, "GET", path, login=False)).code == 403


async def test_messages_to_the_web_view_are_harmless():
    """Its socket takes filters and nothing else; what is malformed changes nothing."""
    async with running(web=free_port()) as proxy:
        flow = await shown(proxy)
        before = state(proxy, flow)
        url, _, token = proxy.master.web_url.partition("?token=")  # type: ignore[union-attr]
        socket = await websocket_connect(
            HTTPRequest(
                url.replace("http", "ws").rstrip("/") + "/updates", headers={"Authorization": f"Bearer {token}"}
            )
        )
        for message in (
            "not json",
            json.dumps([1]),
            json.dumps({"type": "flows/remove", "payload": {"id": flow}}),
            json.dumps({"type": "options/update", "payload": {"ssl_insecure": True}}),
            json.dumps({"type": "flows/updateFilter", "payload": {"name": "x", "expr": "(("}}),
        ):
            await socket.write_message(message)
        await socket.write_message(
            json.dumps({"type": "flows/updateFilter", "payload": {"name": "search", "expr": "~all"}})
        )
        async with asyncio.timeout(10):
            while (text := await socket.read_message()) is not None:
                if json.loads(text).get("payload", {}).get("name") == "search":
                    break
        socket.close()
        assert state(proxy, flow) == before
        assert proxy.master.options.ssl_insecure is False
        assert (await fetch(proxy, "GET", "/flows")).code == 200


async def test_the_view_keeps_a_bounded_number_of_flows(monkeypatch):
    """The oldest that have ended go; recordings keep all of them."""
    monkeypatch.setattr(masters, "WEB_FLOWS", 5)
    async with running(web=free_port()) as proxy:
        view = proxy.master.view  # type: ignore[union-attr]
        flows = [tflow.tflow(resp=True) for _ in range(20)]
        for flow in flows:
            flow.live = False
            view.add([flow])
        assert [flow.id for flow in view._store.values()] == [flow.id for flow in flows[-5:]]
        live = [tflow.tflow(live=True) for _ in range(7)]
        for flow in live:
            flow.live = True
            view.add([flow])
        assert {flow.id for flow in live} <= set(view._store)


# -- hooks --------------------------------------------------------------------------------------------------------


async def test_what_is_asked_of_the_gateway_itself_is_not_shown():
    """A call to flowwarden.internal carries an OIDC token, and its answer a handle and phantom keys."""
    async with running(web=True) as proxy:
        inner, outer = tflow.tflow(), tflow.tflow()
        access.of(inner).internal = True
        proxy.master.view.add([inner, outer])  # type: ignore[union-attr]
        assert [flow.id for flow in proxy.master.view] == [outer.id]  # type: ignore[union-attr]


async def test_the_masters_have_an_allow_list_of_addons():
    """Nothing of mitmproxy that replays, maps, modifies or saves is loaded."""
    for web in (0, free_port()):
        async with running(web=web) as proxy:
            names = set(proxy.master.addons.lookup)
        assert {"core", "proxyserver", "nextlayer", "tlsconfig"} <= names
        forbidden = {
            "clientplayback",
            "serverplayback",
            "scriptloader",
            "mapremote",
            "maplocal",
            "modifybody",
            "modifyheaders",
        }
        forbidden |= {
            "save",
            "savehar",
            "proxyauth",
            "stickyauth",
            "stickycookie",
            "blocklist",
            "upstreamauth",
            "anticache",
        }
        assert not names & forbidden


# -- stopping -----------------------------------------------------------------------------------------------------


@VERSIONS
async def test_a_stop_lets_a_call_finish(version):
    """No new connections; the call under way is answered and recorded; then the gateway ends."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow(_got: Any, writer: asyncio.StreamWriter) -> None:
        entered.set()
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    async with running() as proxy:
        proxy.upstream.on_request = slow
        async with proxy.client(version) as client:
            answer = client.start("GET", end=True)
            await entered.wait()
            proxy.master.stop()
            await stopped_listening(proxy)
            assert not proxy.task.done() and not answer.over
            release.set()
            await client.over(answer)
        assert answer.whole and answer.body == b"done"
        await asyncio.wait_for(proxy.task, 10)
        assert proxy.recording.outcomes == ["200 ok"]


async def stopped_listening(proxy: Proxy) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            except ConnectionError:
                return
            writer.close()


@VERSIONS
async def test_a_stop_cuts_what_does_not_end(version):
    """After the limit the call is cut, and recorded."""
    entered = asyncio.Event()

    async def never(_got: Any, _writer: asyncio.StreamWriter) -> None:
        entered.set()

    async with running() as proxy:
        proxy.upstream.on_request = never
        proxy.master.drain_seconds = 0.01
        async with proxy.client(version) as client:
            answer = client.start("GET", end=True)
            await entered.wait()
            proxy.master.stop()
            await client.over(answer)
            await asyncio.wait_for(proxy.task, 10)
        assert answer.broken and not answer.whole
        assert len(proxy.recording.outcomes) == 1 and proxy.recording.outcomes[0].startswith("error ")


@VERSIONS
async def test_a_second_stop_stops_at_once(version):
    entered = asyncio.Event()

    async def never(_got: Any, _writer: asyncio.StreamWriter) -> None:
        entered.set()

    async with running() as proxy:
        proxy.upstream.on_request = never
        async with proxy.client(version) as client:
            client.start("GET", end=True)
            await entered.wait()
            proxy.master.stop()
            proxy.master.stop()
            await asyncio.wait_for(proxy.task, 10)


async def test_an_idle_gateway_stops_at_once():
    async with running() as proxy, proxy.client("h1") as client:
        await client.ask()
        proxy.master.stop()
        await asyncio.wait_for(proxy.task, 10)
