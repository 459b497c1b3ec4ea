"""The approvals page: in Chromium, against a certified OIDC provider; and the parts of sign-in that attackers try."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flowwarden.identity.rules import IdentityRules, IssuerRules, Role
from flowwarden.operators.login import device_login
from flowwarden.types import ApprovalTerms, Principal
from support import tools

FOLDER = Path(__file__).parent / "browser"
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
NEEDS = "needs Chromium and Node.js with npm (Debian: apt-get install chromium nodejs npm)"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def installed() -> Path:
    """The folder with provider and driver, their packages from npm installed once."""

    def install(folder: Path) -> None:
        folder.mkdir()
        shutil.copy(FOLDER / "package.json", folder)
        tools._run("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error", cwd=folder)

    import hashlib

    name = hashlib.sha256((FOLDER / "package.json").read_bytes()).hexdigest()[:16]
    folder = tools._once(tools.cache() / f"page-{name}", install)
    for source in FOLDER.glob("*.mjs"):
        shutil.copy(source, folder)
    return folder


class Site:
    """A listener whose issuer is a real provider, each in its place."""

    def __init__(self, world: Any, issuer: str) -> None:
        self.world, self.issuer = world, issuer

    def ask(self, *, unsaid: bool = False) -> dict[str, str]:
        who = Principal(self.issuer, "alice", "coder", "", frozenset({"developers", "sre"}), "Alice")
        summary = {
            "operation": "ec2:TerminateInstances",
            "actions": ["ec2:TerminateInstances"],
            "resources": ["arn:aws:ec2:eu-central-1:123456789012:instance/i-0prod1\u202e\u200b", None],
            "account": "123456789012",
            "region": "eu-central-1",
            "method": "POST",
            "host": "ec2.eu-central-1.amazonaws.com",
            "path": "/",
            "params": {"InstanceIds": ["i-0prod1"], "DryRun": False},
            "body": "Action=TerminateInstances&<img src=x onerror=alert(1)><b>bold</b>" + "x" * 400,
            "rules": ["terminate-needs-a-human"],
            "reason": "Production instances hold state: <script>alert(2)</script>",
            "irreversible": "A terminated instance cannot be started again; its local disks are gone.",
        }
        terms = ApprovalTerms(approver_groups=frozenset({"sre"}), purpose_required=unsaid)
        asked = self.world.services.approvals.ask(os.urandom(8).hex(), "s1", who, summary, terms)
        return {"id": asked.id}


@pytest.fixture
async def site(tmp_path: Path, make_world: Any) -> AsyncIterator[Site]:
    if not CHROMIUM or not shutil.which("npm"):
        pytest.skip(NEEDS)
    folder = await asyncio.to_thread(installed)
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    roles = {"approver": Role(frozenset({"sre"}))}
    world = make_world(IdentityRules({issuer: IssuerRules(issuer, "flowwarden")}, roles=roles))
    server = world.listen()
    provider = await asyncio.create_subprocess_exec(
        "node", "provider.mjs", str(port), f"{world.url}/login/callback", cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    assert provider.stdout is not None
    async with asyncio.timeout(60):
        while b"listening" not in await provider.stdout.readline():
            assert provider.returncode is None
    yield Site(world, issuer)
    provider.terminate()
    await provider.wait()
    server.stop()
    await server.close_all_connections()
    world.close()


async def test_the_page_in_chromium(site: Site, tmp_path: Path) -> None:
    """Phone and desk: signed in by code flow with PKCE, answered, live, nothing forged, nothing run, nothing fetched."""
    shots = Path(os.environ.get("PAGE_SHOTS") or tmp_path)  # to be looked at: PAGE_SHOTS=folder
    driver = await asyncio.create_subprocess_exec(
        "node",
        "page.mjs",
        cwd=await asyncio.to_thread(installed),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert driver.stdin is not None and driver.stdout is not None
    saw: dict[str, dict[str, Any]] = {}
    last: dict[str, str] = {}

    def tell(data: dict[str, Any]) -> None:
        assert driver.stdin is not None
        driver.stdin.write(json.dumps(data).encode() + b"\n")

    tell({"base": site.world.url, "issuer": site.issuer, "chromium": CHROMIUM, "shots": str(shots)})
    async with asyncio.timeout(120):
        while line := await driver.stdout.readline():
            told = json.loads(line)
            assert "failed" not in told, told
            if told.get("need") == "question without its reason":
                tell(last := site.ask(unsaid=True))
            elif told.get("need") == "reason":
                site.world.services.approvals.give_reason(last["id"], "s1", "ticket 7 <b>is</b> urgent")
                tell({})
            elif told.get("need") == "question":
                last = site.ask()
                tell(last)
            elif told.get("need") == "state":
                tell({"state": site.world.services.approvals.get(told["id"]).state})
            else:
                saw[told["saw"]] = told
    await driver.wait()
    detail = saw["detail"]
    assert detail["title"] == "ec2:TerminateInstances"
    assert detail["body"].startswith("Action=TerminateInstances&<img src=x onerror=alert(1)><b>bold</b>")
    assert (detail["markup"], detail["wider"], detail["small"]) == (0, False, 0)
    assert "instance/i-0prod1\ufffd\ufffd\n(not known)" in detail["text"]
    assert saw["approved"]["state"] == "approved"
    assert saw["live"]["title"].startswith("(1) ")
    assert "not on a Friday" in saw["denied"]["shown"]
    assert saw["requester"]["buttons"] == 0
    assert "somebody else" in saw["requester"]["why"]
    assert "waiting for its reason" in saw["unsaid"]["listed"]
    assert (saw["unsaid"]["closed"], saw["unsaid"]["denies"]) == (True, False)
    assert "ticket 7 <b>is</b> urgent" in saw["unsaid"]["text"]
    assert (saw["forged"]["bare"], saw["forged"]["inside"], saw["forged"]["state"]) == (403, 0, "open")
    assert saw["signed out"]["status"] == 401
    assert saw["end"]["complaints"] == []
    answers = [(a.state, a.answers[0]["subject"]) for a in site.world.services.approvals.list() if a.answers]
    assert sorted(answers) == [("approved", "bob"), ("denied", "carol")]


async def test_device_code_at_a_real_provider(site: Site) -> None:
    """`flowwarden login`: the code is entered in a browser, and the id token opens the listener (RFC 8628)."""
    told: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(text: str) -> None:
        loop.call_soon_threadsafe(told.put_nowait, text)

    waiting = asyncio.create_task(
        asyncio.to_thread(
            lambda: device_login(site.issuer, "flowwarden", tell=tell, sleep=lambda seconds: time.sleep(0.2))
        )
    )
    async with asyncio.timeout(90):
        assert "enter the code" in await told.get()
        url = (await told.get()).rpartition(" ")[2]
        folder = await asyncio.to_thread(installed)
        person = await asyncio.create_subprocess_exec("node", "device.mjs", url, "carol", CHROMIUM, cwd=folder)
        await person.wait()
        token = await waiting
    me = await asyncio.to_thread(site.world.client(token).whoami)
    assert (me["principal"]["subject"], me["roles"]) == ("carol", ["approver"])
