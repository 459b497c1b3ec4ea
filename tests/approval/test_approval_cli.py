"""`flowwarden approvals` as an approver uses it, against a real gateway."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from approval_way import asked, call, rule, sent, way_with

from support.gateway import PROGRAM
from support.issuer import OidcIssuer
from support.way import Way


@pytest.fixture(scope="module")
def _way(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    rules = [
        rule("TerminateInstances", reason="Ask before you kill."),
        rule("StopInstances", requester={"reason": "required"}),
    ]
    with way_with(tmp_path_factory.mktemp("cli"), issuer, *rules) as way:
        yield way


@pytest.fixture
def approver(way: Way, carol: str) -> dict[str, str]:
    """Carol's environment."""
    return {
        "FLOWWARDEN_TOKEN": carol,
        "FLOWWARDEN_URL": f"http://127.0.0.1:{way.gateway.admin_port}",
        "COLUMNS": "200",
    }


def test_list_show_approve(way: Way, env: dict[str, str], approver: dict[str, str]) -> None:
    """A table; the whole request with its parameters as a table, who asks, the rule, what cannot be undone; an answer."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, env, InstanceIds=["i-1", "i-2"], DryRun=False)
        approval = asked(way, env, approver["FLOWWARDEN_TOKEN"])
        listed = way.gateway.run("approvals", env=approver)
        assert listed.returncode == 0 and approval in listed.stdout and "instance/i-2" in listed.stdout, listed
        shown = way.gateway.run("approvals", "show", approval, env=approver).stdout
        for text in (
            '["i-1", "i-2"]',
            "alice (agent-one; groups developers)",
            "alice-owner",
            "Ask before you kill.",
            "cannot be started again",
            "this one request, once",
            "1 of sre",
            "Action=TerminateInstances",
        ):
            assert text in shown, shown
        whole = json.loads(way.gateway.run("approvals", "show", approval, "--json", env=approver).stdout)
        assert whole["summary"]["params"]["DryRun"] == "false"
        assert way.gateway.run("approvals", "approve", approval, env=approver).returncode == 0
        assert not isinstance(held.result(60), tuple)
    late = way.gateway.run("approvals", "deny", approval, "--reason", "no", env=approver)
    assert late.returncode == 1 and "spent already" in late.stderr
    assert sent(way, "TerminateInstances") == 1


def test_what_waits_for_its_reason(way: Way, env: dict[str, str], approver: dict[str, str]) -> None:
    call(env, "stop_instances")
    approval = asked(way, env, approver["FLOWWARDEN_TOKEN"])
    assert "waits for its reason" in way.gateway.run("approvals", env=approver).stdout
    assert "not said yet" in way.gateway.run("approvals", "show", approval, env=approver).stdout
    refused = way.gateway.run("approvals", "approve", approval, env=approver)
    assert refused.returncode == 1 and "has not said yet why" in refused.stderr
    body = b'{"reason": "night shift"}'
    way.gateway.internal("POST", f"/approvals/{approval}", credential=env["FLOWWARDEN_HANDLE"], body=body)
    assert "night shift" in way.gateway.run("approvals", "show", approval, env=approver).stdout


def test_watch(way: Way, env: dict[str, str], approver: dict[str, str]) -> None:
    """Live, with a bell when somebody asks."""
    watching = subprocess.Popen(
        [str(PROGRAM), "approvals", "watch"],
        env=way.gateway.env | approver | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        cwd=way.gateway.folder,
    )
    assert watching.stdout is not None
    try:
        with ThreadPoolExecutor(1) as pool:
            seen: list[str] = []
            reader = pool.submit(lambda: [seen.append(line) for line in iter(watching.stdout.readline, "")])
            with ThreadPoolExecutor(1) as agent:
                held = agent.submit(call, env)
                approval = asked(way, env, approver["FLOWWARDEN_TOKEN"])
                way.gateway.run("approvals", "deny", approval, "--reason", "not now", env=approver)
                assert "not now" in held.result(60)[1]
                again = agent.submit(call, env)  # the watcher may have joined after the first was asked
                second = asked(way, env, approver["FLOWWARDEN_TOKEN"])
                way.gateway.run("approvals", "deny", second, "--reason", "not now", env=approver)
                again.result(60)
            watching.terminate()
            reader.result(30)
    finally:
        watching.kill()
        watching.wait()
    assert any(line.startswith("\a") and second in line for line in seen), seen
    assert any("denied" in line and second in line for line in seen), seen
