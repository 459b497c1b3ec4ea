"""`flowwarden run` as a process: what it refuses to start on, how it stops, and what survives a restart."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from flowwarden.errors import FlowwardenError
from flowwarden.run import run
from support.clients import boto_client, eventually
from support.gateway import POLICY, GatewayProcess
from support.issuer import OidcIssuer
from support.strict_aws import Answer, Exchange, StrictAws

Make = Callable[..., GatewayProcess]


@pytest.fixture
def make(tmp_path: Path, issuer: OidcIssuer, strict_aws: StrictAws) -> Make:
    strict_aws.open_sts = True

    def made(folder: str = "gateway", **options: Any) -> GatewayProcess:
        return GatewayProcess(tmp_path / folder, issuer, sandbox=strict_aws.url, **options)

    return made


# -- what it refuses to start on -----------------------------------------------------------------------------------------

OPENS_THE_GATE: list[Any] = [
    ("ssl_insecure", True),
    ("ignore_hosts", [".*"]),
    ("tcp_hosts", [".*"]),
    ("rawtcp", True),
    ("scripts", ["x.py"]),
    ("map_local", ["/a/b"]),
    ("map_remote", ["/a/b/c"]),
    ("modify_body", ["/a/b"]),
    ("modify_headers", ["/a/b"]),
    ("stream_large_bodies", "1m"),
    ("body_size_limit", "1m"),
    ("store_streamed_bodies", True),
    ("mode", ["upstream:http://127.0.0.1:1"]),
    ("mode", ["socks5"]),
    ("mode", ["transparent"]),
    ("validate_inbound_headers", False),
    ("upstream_cert", "x"),
    ("warden_sandbx", "http://127.0.0.1:1"),
    ("warden_sandbox", "http://example.com"),
    ("warden_sandbox", "ftp://127.0.0.1:1"),
    ("warden_admin_listen", "nowhere"),
    ("warden_private_networks", ["10.0.0.0/99"]),
    ("warden_body_limit", "much"),
    ("warden_ports", ["https"]),
    ("warden_drain", "soon"),
    ("warden_anchor", "elsewhere"),
    ("warden_retention", "90"),
    ("listen_port", "http"),
]


@pytest.mark.parametrize(("name", "value"), OPENS_THE_GATE)
async def test_an_option_that_opens_the_gate_or_is_none(make: Make, name: str, value: Any) -> None:
    """An error that names the option, before anything is written. In this process, for speed."""
    gateway = make(options={name: value})
    with pytest.raises(FlowwardenError) as caught:
        await asyncio.wait_for(run(gateway.conf), 4)
    assert name in str(caught.value)
    assert not gateway.recordings.exists() or not list(gateway.recordings.rglob("*.ndjson"))


def test_an_option_that_nobody_knows_is_one_line(make: Make) -> None:
    """The same as a user sees it: exit code 2, one line, no traceback."""
    told = make(options={"warden_sandbx": "http://127.0.0.1:1"}).refused()
    assert "warden_sandbx" in told and "Is it warden_sandbox?" in told


def test_options_are_checked_on_the_command_line_too(make: Make) -> None:
    assert "ssl_insecure" in make("a").refused("--set", "ssl_insecure=true")


def test_an_options_file_that_is_missing(make: Make) -> None:
    gateway = make()
    assert "elsewhere.conf" in gateway.refused("--conf", str(gateway.folder / "elsewhere.conf"))


@pytest.mark.parametrize(
    "text",
    ["- a\n- b\n", "42", "\0", "listen_port: ["],
)
def test_an_options_file_that_is_none(make: Make, text: str) -> None:
    gateway = make()
    gateway.conf.write_text(text)
    assert "mitm.conf" in gateway.refused()


@pytest.mark.parametrize("name", ["identity", "policy", "masks"])
def test_a_rule_file_that_is_missing_or_broken_is_named_with_its_line(make: Make, name: str) -> None:
    """No rules at start: it does not start (fault 4)."""
    gateway = make()
    path = gateway.rules / f"{name}.yaml"
    good = path.read_text()
    path.unlink()
    assert f"{name}.yaml" in gateway.refused()
    for text in (
        "nobody: knows\n" if name != "policy" else "default: deny\nrules:\n  - id: x\n    effekt: allow\n",
        "a: [\n",
    ):
        path.write_text(text)
        assert f"{name}.yaml:" in gateway.refused()
    path.write_text(good)
    with gateway:
        assert gateway.healthy()


@pytest.mark.parametrize("which", ["listen_port", "warden_admin_listen"])
def test_a_port_that_is_taken(make: Make, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        value = port if which == "listen_port" else f"127.0.0.1:{port}"
        assert str(port) in make(options={which: value}).refused()


def test_a_second_gateway_on_the_same_folders(make: Make, issuer: OidcIssuer, strict_aws: StrictAws) -> None:
    """Two writers would break the log: the second refuses, the first goes on (fault 20)."""
    with make("first") as first:
        recordings = make("second", options={"warden_recordings": str(first.recordings)})
        assert str(first.recordings) in recordings.refused()
        assert boto_client("sts", first.session()).get_caller_identity()


def test_a_folder_that_cannot_be_written(make: Make) -> None:
    """A file in the place of the folder: root, too, cannot write there."""
    for name in ("warden_recordings", "warden_state"):
        gateway = make(name, options={name: "in-the-way"})
        (gateway.folder / "in-the-way").write_text("")
        assert "in-the-way" in gateway.refused()


# -- how it stops --------------------------------------------------------------------------------------------------------


class Slow:
    """A call that AWS answers when it is told to."""

    def __init__(self, gateway: GatewayProcess, aws: StrictAws) -> None:
        self.arrived, self.let_go = threading.Event(), threading.Event()
        self.result: Any = None

        def answer(exchange: Exchange) -> Answer | None:
            if exchange.service != "dynamodb":
                return None
            exchange.read()
            self.arrived.set()
            self.let_go.wait(60)
            return 200, {"content-type": "application/x-amz-json-1.0"}, b'{"TableNames": ["t"]}'

        aws.answer(answer)
        client = boto_client("dynamodb", gateway.session())

        def run() -> None:
            try:
                self.result = client.list_tables()["TableNames"]
            except Exception as error:
                self.result = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert self.arrived.wait(30)

    def wait(self) -> Any:
        self.thread.join(60)
        return self.result


def outcomes(gateway: GatewayProcess, service: str = "dynamodb") -> list[str]:
    """How the calls of a service ended."""
    records = gateway.evidence()
    flows = {record["flow"] for record in records if record["type"] == "intent" and record["service"] == service}
    return [record["outcome"] for record in records if record["type"] == "outcome" and record["flow"] in flows]


def test_sigterm_lets_live_calls_finish_and_takes_no_new_ones(make: Make, strict_aws: StrictAws) -> None:
    gateway = make().start()
    slow = Slow(gateway, strict_aws)
    assert gateway.process
    gateway.process.send_signal(signal.SIGTERM)
    eventually(lambda: not gateway.listening(), what="the end of listening")
    assert gateway.returncode is None
    slow.let_go.set()
    assert slow.wait() == ["t"]
    assert gateway.stop() == 0
    assert outcomes(gateway) == ["ok"]
    assert gateway.evidence()[-1]["type"] == "stop"
    assert "Traceback" not in gateway.text


def test_a_call_that_does_not_finish_is_cut_and_recorded(make: Make, strict_aws: StrictAws) -> None:
    gateway = make(options={"warden_drain": "1s"}).start()
    slow = Slow(gateway, strict_aws)
    assert gateway.stop() == 0
    slow.let_go.set()
    assert isinstance(slow.wait(), Exception)
    assert outcomes(gateway) in (["cut"], ["unknown"])
    assert "Traceback" not in gateway.text


def test_a_second_signal_stops_at_once(make: Make, strict_aws: StrictAws) -> None:
    gateway = make().start()
    slow = Slow(gateway, strict_aws)
    assert gateway.process
    gateway.process.send_signal(signal.SIGTERM)
    eventually(lambda: not gateway.listening(), what="the end of listening")
    gateway.process.send_signal(signal.SIGTERM)
    gateway.process.wait(10)
    slow.let_go.set()
    assert isinstance(slow.wait(), Exception)
    assert "Traceback" not in gateway.text


# -- what survives -------------------------------------------------------------------------------------------------------


def fingerprint(gateway: GatewayProcess) -> str:
    return hashlib.sha256(gateway.internal("GET", "/ca.pem")[1]).hexdigest()


@pytest.mark.parametrize("hard", [False, True])
def test_sessions_and_the_ca_survive_a_restart(make: Make, hard: bool) -> None:
    gateway = make().start()
    env, before = gateway.session(), fingerprint(gateway)
    assert boto_client("sts", env).get_caller_identity()
    if hard:
        gateway.kill()
    else:
        gateway.stop()
    with gateway:
        assert fingerprint(gateway) == before
        assert boto_client("sts", env).get_caller_identity()
    done = gateway.run("verify")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_question_stays_open_over_a_restart_and_nothing_is_granted(
    make: Make, issuer: OidcIssuer, strict_aws: StrictAws
) -> None:
    """Restart while held (fault 37)."""
    gateway = make(options={"warden_drain": "0s"}).start()
    env = gateway.session()
    approver = issuer.token("carol", ("sre",), owner="carol")
    failed: list[Exception] = []

    def ask() -> None:
        try:
            boto_client("ec2", env).terminate_instances(InstanceIds=["i-0held"])
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    (asked,) = eventually(lambda: gateway.questions(approver), what="a question")
    gateway.kill()
    thread.join(30)
    assert failed
    gateway.start()
    (still,) = gateway.questions(approver)
    assert still["id"] == asked["id"]
    assert not [seen for seen in strict_aws.seen if seen.service == "ec2"]
    gateway.stop()


def test_rules_are_taken_up_while_it_runs_and_broken_ones_are_not(make: Make) -> None:
    """Last good rules stay, with an alarm in log, health and evidence (fault 3)."""
    with make() as gateway:
        env = gateway.session()
        s3 = boto_client("s3", env)
        assert s3.list_buckets()["Buckets"] == []
        deny = {"id": "no-more", "effect": "deny", "actions": ["s3:*"], "reason": "Closed."}
        gateway.write_rules("policy", POLICY | {"rules": [*POLICY["rules"], deny]})

        def denied() -> bool:
            try:
                s3.list_buckets()
            except ClientError as error:
                return "no-more" in str(error)
            return False

        eventually(denied, what="the new rule")
        gateway.write_rules("policy", "default: allow\nrules: nonsense\n")
        _, told = eventually(lambda: problems(gateway), what="a problem in health")
        assert "policy.yaml:2" in told["problems"][0]
        assert denied()
        assert any("policy.yaml" in json.dumps(record) for record in gateway.evidence() if record["type"] == "alarm")


def problems(gateway: GatewayProcess) -> tuple[int, dict[str, Any]] | None:
    status, told = gateway.operators("GET", "/health")
    return (status, told) if told["problems"] else None


def test_an_alarm_is_in_the_log_when_it_happens(make: Make) -> None:
    with make() as gateway:
        gateway.write_rules("policy", "rules: nonsense\n")
        eventually(lambda: problems(gateway), what="a problem in health")
        eventually(lambda: "policy.yaml" in gateway.text, timeout=3, what="an alarm in the log")


def test_what_it_prints_of_itself(make: Make) -> None:
    """Where it listens is on the screen; no secret of its own is."""
    with make() as gateway:
        eventually(lambda: str(gateway.port) in gateway.text, timeout=3, what="where it listens")
        assert "BEGIN" not in gateway.text
