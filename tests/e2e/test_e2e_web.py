"""`flowwarden run --web`: the same chain under a mitmweb that shows, changes nothing and never has the real credentials."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from support.clients import boto_client
from support.gateway import GatewayProcess, free_port
from support.issuer import OidcIssuer
from support.strict_aws import Answer, Exchange, StrictAws

PASSWORD = "for-the-test"


class Web:
    """The gateway with its view."""

    def __init__(self, folder: Path, issuer: OidcIssuer, aws: StrictAws) -> None:
        self.port = free_port()
        self.aws = aws
        options = {"web_port": self.port, "web_host": "127.0.0.1", "web_open_browser": False, "web_password": PASSWORD}
        self.gateway = GatewayProcess(folder, issuer, sandbox=aws.url, options=options).start("--web")

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, data=body)
        asked.add_header("Authorization", f"Bearer {PASSWORD}")
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def flows(self) -> list[dict[str, Any]]:
        status, body = self.ask("GET", "/flows")
        assert status == 200, body
        found: list[dict[str, Any]] = json.loads(body)
        return found


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Web]:
    with StrictAws(open_sts=True) as aws:
        made = Web(tmp_path_factory.mktemp("web"), issuer, aws)
        yield made
        made.gateway.stop()


def test_it_shows_decisions_and_changes_nothing(web: Web) -> None:
    """Decision and rule stand in a flow's comment, a marker shows what was denied; every other handler refuses."""
    env = web.gateway.session()
    assert boto_client("sts", env).get_caller_identity()
    with pytest.raises(ClientError):
        boto_client("iam", env).delete_user(UserName="u")
    flows = web.flows()
    comments = {flow["comment"] for flow in flows}
    assert any("developers-work" in comment for comment in comments)
    assert any("keep-iam-users" in comment for comment in comments)
    denied = next(flow for flow in flows if "keep-iam-users" in flow["comment"])
    assert denied["marked"]
    one = flows[0]["id"]
    for method, path in (
        ("POST", "/clear"),
        ("POST", f"/flows/{one}/replay"),
        ("POST", f"/flows/{one}/kill"),
        ("POST", f"/flows/{one}/resume"),
        ("POST", f"/flows/{one}/duplicate"),
        ("POST", f"/flows/{one}/revert"),
        ("POST", f"/flows/{one}/request/content.data"),
        ("PUT", f"/flows/{one}"),
        ("DELETE", f"/flows/{one}"),
        ("PUT", "/options"),
        ("POST", "/options/save"),
        ("POST", "/flows/dump"),
        ("POST", "/commands/replay.client"),
        ("POST", "/commands/set"),
    ):
        assert web.ask(method, path, b"{}")[0] in {403, 405}, path
    assert len(web.flows()) == len(flows)


async def test_a_held_call_is_shown_as_waiting(web: Web, issuer: OidcIssuer) -> None:
    """With the approval's id, to whoever looks and to whoever watches, while it waits."""
    env = web.gateway.session(subject="hank")
    carol = issuer.token("carol", ("sre",), owner=None)
    url = f"ws://127.0.0.1:{web.port}/updates"
    socket = await websocket_connect(HTTPRequest(url, headers={"Authorization": f"Bearer {PASSWORD}"}))
    held = asyncio.create_task(
        asyncio.to_thread(boto_client("ec2", env).terminate_instances, InstanceIds=["i-0123456789abcdef0"])
    )
    pushed = ""
    async with asyncio.timeout(20):
        while "waiting for approval" not in pushed:
            pushed = str(await socket.read_message())
    ((question,), flows) = (await asyncio.to_thread(web.gateway.questions, carol), await asyncio.to_thread(web.flows))
    (waiting,) = [flow for flow in flows if flow["comment"] == f"waiting for approval {question['id']}"]
    assert question["id"] in pushed and waiting["marked"] == "\N{HOURGLASS}" and not held.done()
    path = f"/approvals/{question['id']}/answer"
    assert (await asyncio.to_thread(web.gateway.operators, "POST", path, carol, {"approve": True}))[0] == 200
    await held
    socket.close()


def test_it_wants_its_password(web: Web) -> None:
    for path in ("/flows", "/options", "/state", "/events", "/flows/dump"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{web.port}{path}", timeout=10) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        assert status == 403, path


async def test_the_real_credentials_are_in_no_answer_and_no_push(web: Web) -> None:
    """While calls are under way: polled over REST and pushed over the WebSocket, at every stage of a flow."""
    arrived, let_go = threading.Event(), threading.Event()

    def answer(exchange: Exchange) -> Answer | None:
        if exchange.service != "dynamodb":
            return None
        exchange.read()
        arrived.set()
        let_go.wait(30)
        return 200, {"content-type": "application/x-amz-json-1.0"}, b'{"TableNames": []}'

    web.aws.answer(answer)
    env = web.gateway.session(subject="pat")
    url = f"ws://127.0.0.1:{web.port}/updates"
    socket = await websocket_connect(HTTPRequest(url, headers={"Authorization": f"Bearer {PASSWORD}"}))
    pushes: list[str] = []
    seen: list[str] = []

    def call() -> None:
        boto_client("sts", env).get_caller_identity()
        boto_client("dynamodb", env).list_tables()

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        while not arrived.is_set():
            seen.append((await asyncio.to_thread(web.ask, "GET", "/flows"))[1].decode())
        flows = await asyncio.to_thread(web.flows)
        for flow in flows:
            for part in ("request", "response"):
                seen.append(
                    (await asyncio.to_thread(web.ask, "GET", f"/flows/{flow['id']}/{part}/content.data"))[1].decode(
                        "latin-1"
                    )
                )
        seen.append((await asyncio.to_thread(web.ask, "GET", "/flows/dump"))[1].decode("latin-1"))
        seen.append(json.dumps(flows))
    finally:
        let_go.set()
    while True:
        message = await socket.read_message()
        assert message is not None
        pushes.append(str(message))
        if "dynamodb" in pushes[-1] and '"response"' in pushes[-1] and '"status_code": 200' in pushes[-1]:
            break
    thread.join(30)
    socket.close()
    seen.append(web.ask("GET", "/flows")[1].decode())
    leases = [lease.made for lease in web.aws.sts.leases if lease.made]
    assert leases and pushes and "dynamodb" in "".join(seen)
    for lease in leases:
        for text in (*seen, *pushes, web.gateway.text):
            assert lease.secret not in text
            assert lease.token not in text
