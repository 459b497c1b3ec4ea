"""Notifications: signed, repeated, harmless; a channel that fails or hangs holds up nothing and grants nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from flowwarden.approval import notify
from flowwarden.approval.channels import AppriseChannel, Message, WebhookChannel, read_secret, sign
from flowwarden.approval.notify import Notifier, NotifyRules, compose, harmless
from flowwarden.approval.store import Approvals
from flowwarden.errors import RuleError
from flowwarden.identity import rules as identity
from flowwarden.types import ApprovalTerms, Principal
from support import gateway
from support.clients import boto_client
from support.issuer import OidcIssuer
from support.strict_aws import StrictAws

SECRET = secrets.token_bytes(32)
ALICE = Principal("https://idp", "alice", name="Alice")
BOB = Principal("https://idp", "bob", groups=frozenset({"sre"}))
TERMS = ApprovalTerms(approver_groups=frozenset({"sre"}))


class Receiver:
    """A web server that answers by a list of statuses, then 204, and keeps what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.arrived = threading.Semaphore(0)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.send_header("Location", f"http://{receiver.host}/elsewhere")
                self.end_headers()
                receiver.arrived.release()

            def do_GET(self) -> None:  # where a redirect that is followed would lead
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}/hook/token-in-the-path"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def wait(self, count: int) -> None:
        for _ in range(count):
            assert self.arrived.acquire(timeout=10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Approvals]:
    opened = Approvals.open(tmp_path / "state")
    yield opened
    opened.close()


def ask(store: Approvals, digest: str = "d", **summary: Any) -> str:
    about = {"operation": "ec2:TerminateInstances", "resources": ["arn:i-1"], "rules": ["r"], **summary}
    return store.ask(digest, "s", ALICE, about, TERMS).id


def test_the_published_vector() -> None:
    """The example of the Standard Webhooks reference implementations (svix-libs)."""
    secret = read_secret("whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_!!", "whsec_" + "QUJD", "whsec_" + "A" * 200])
def test_secrets_too_short_to_be_one(text: str) -> None:
    with pytest.raises(ValueError, match="24 to 64"):
        read_secret(text)


def test_a_webhook(store: Approvals, receiver: Receiver) -> None:
    """Signed over id, time and body; says who, what, until when and where; no body, path or parameters of the call."""
    notifier = Notifier(
        NotifyRules("https://gw.example.com", frozenset({"asked"}), (WebhookChannel(receiver.url, SECRET),))
    )
    store.listen(notifier.tell)
    asked = ask(store, body="the body", path="/the/path", params={"Secret": "the params"})
    receiver.wait(1)
    headers, body = receiver.got[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{mac}"
    told = json.loads(body)
    assert told["type"] == "approval.asked"
    assert told["data"]["link"] == f"https://gw.example.com/approvals/{asked}"
    assert (told["data"]["who"], told["data"]["operation"], told["data"]["rules"]) == (
        "Alice",
        "ec2:TerminateInstances",
        ["r"],
    )
    for left_out in (b"the body", b"/the/path", b"the params"):
        assert left_out not in body
    store.answer(asked, BOB, True)
    notifier.close()
    assert len(receiver.got) == 1, "only the events that were asked for"


def test_repeated_with_one_id(store: Approvals, receiver: Receiver) -> None:
    """Failures are tried again, later each time, under one id; redirects are failures."""
    receiver.statuses = [503, 302, 500]
    waits: list[float] = []
    notifier = Notifier(NotifyRules(channels=(WebhookChannel(receiver.url, SECRET),)), pause=waits.append)
    store.listen(notifier.tell)
    ask(store)
    receiver.wait(4)
    notifier.close()
    assert waits == [1, 2, 4]
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert notifier.failed == 0


def test_given_up_without_a_word_of_the_address(
    store: Approvals, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """After six attempts it is dropped, counted and logged, without the token that the address holds."""
    receiver.statuses = [500] * 6
    notifier = Notifier(NotifyRules(channels=(WebhookChannel(receiver.url, SECRET),)), pause=lambda seconds: None)
    store.listen(notifier.tell)
    ask(store)
    receiver.wait(6)
    notifier.close()
    assert notifier.failed == 1
    assert "status 500" in caplog.text
    assert "token-in-the-path" not in caplog.text


class Stuck:
    name = "stuck"

    def __init__(self) -> None:
        self.release, self.entered = threading.Event(), threading.Event()

    def send(self, message: Message) -> None:
        self.entered.set()
        assert self.release.wait(20)
        raise OSError


class Collect:
    name = "collect"

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.arrived = threading.Semaphore(0)

    def send(self, message: Message) -> None:
        self.sent.append(message)
        self.arrived.release()


def test_a_channel_that_hangs_holds_up_nothing(store: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions are asked and answered, the other channel delivers, and the backlog is bounded."""
    monkeypatch.setattr(notify, "BACKLOG", 10)
    stuck, fine = Stuck(), Collect()
    notifier = Notifier(NotifyRules(channels=(stuck, fine)), pause=lambda seconds: None)
    store.listen(notifier.tell)
    first = ask(store, "first")
    assert stuck.entered.wait(10)
    for number in range(30):
        ask(store, f"d{number}")
        assert fine.arrived.acquire(timeout=10)
    assert notifier.failed == 20
    assert store.get(first).state == "open"
    assert store.answer(first, BOB, True).state == "approved"
    stuck.release.set()
    notifier.close()


def test_a_mask_that_fails(store: Approvals, receiver: Receiver) -> None:
    """No message rather than one with a secret in it; the question stands."""
    notifier = Notifier(NotifyRules(channels=(WebhookChannel(receiver.url, SECRET),)), mask=lambda text: str(1 / 0))
    store.listen(notifier.tell)
    assert store.get(ask(store)).state == "open"
    notifier.close()
    assert (receiver.got, notifier.failed) == ([], 1)


def test_masked_like_a_recording(store: Approvals) -> None:
    secret = secrets.token_hex(16)
    collect = Collect()
    notifier = Notifier(NotifyRules(channels=(collect,)), mask=lambda text: text.replace(secret, "***"))
    store.listen(notifier.tell)
    ask(store, resources=[f"arn:aws:s3:::bucket/{secret}"], rules=[secret], operation=secret, account=secret)
    assert collect.arrived.acquire(timeout=10)
    notifier.close()
    assert secret not in repr(collect.sent)
    assert "***" not in repr(collect.sent) and "∗∗∗" in repr(collect.sent)  # noqa: RUF001


def test_apprise(store: Approvals, receiver: Receiver) -> None:
    """One of apprise's own services (json://) delivers title and text."""
    notifier = Notifier(NotifyRules(channels=(AppriseChannel(f"json://{receiver.host}/x"),)))
    store.listen(notifier.tell)
    asked = ask(store)
    receiver.wait(1)
    notifier.close()
    told = json.loads(receiver.got[0][1])
    assert told["title"] == "Alice asks for ec2:TerminateInstances"
    assert asked in told["message"]
    receiver.statuses = [500]
    with pytest.raises(ValueError, match="did not take"):
        AppriseChannel(f"json://{receiver.host}/x").send(Message("i", 0, "asked", "t", "b", {}))


@given(st.text(max_size=400))
def test_what_an_agent_wrote_is_no_markup(text: str) -> None:
    """No mention, link, markup or second line: an agent names buckets and keys, and so writes part of the message."""
    found = harmless(text)
    assert not set(found) & set("<>@`*[]|\n\r\t\x1b\u202e")
    assert "://" not in found
    assert len(found) <= 330


def test_the_message_when_it_is_over(store: Approvals) -> None:
    asked = ask(store)
    message = compose("denied", store.answer(asked, BOB, False), {}, "", str, 0)
    assert message.title == "ec2:TerminateInstances: denied"
    assert "Now: denied" in message.text
    assert f"flowwarden approvals show {asked}" in message.text


GOOD = """\
issuers:
  - {issuer: https://idp.example.com, audience: a}
notify:
  link: https://gw.example.com/
  events: [asked, denied]
  webhooks:
    - url: https://hooks.example.com/x
      secret_file: hook.secret
  apprise_file: addresses
"""


def read(folder: Path, text: str) -> NotifyRules:
    (folder / "identity.yaml").write_text(text)
    identity.load(folder / "identity.yaml")
    return notify.load(folder / "identity.yaml")


def test_rules(tmp_path: Path) -> None:
    (tmp_path / "hook.secret").write_text("whsec_" + base64.b64encode(SECRET).decode() + "\n")
    (tmp_path / "addresses").write_text("# chat\njson://127.0.0.1:1/x\n\nxml://127.0.0.1:1/\n")
    found = read(tmp_path, GOOD)
    assert (found.link, found.events) == ("https://gw.example.com", {"asked", "denied"})
    assert [channel.name for channel in found.channels] == [
        "webhook at hooks.example.com",
        "apprise json",
        "apprise xml",
    ]
    for old, new, line in (
        ("https://hooks", "http://hooks", 7),
        ("hook.secret", "missing", 8),
        ("secret_file: hook.secret", "secret: x", 7),
        ("[asked, denied]", "[aksed]", 5),
        ("https://gw.example.com/", "gw", 4),
        ("link:", "lnk:", 4),
    ):
        with pytest.raises(RuleError) as error:
            read(tmp_path, GOOD.replace(old, new))
        assert error.value.line == line, (new, str(error.value))
    (tmp_path / "addresses").write_text("nonsense://token\n")
    with pytest.raises(RuleError, match="address 1") as error:
        read(tmp_path, GOOD)
    assert "token" not in str(error.value)
    assert read(tmp_path, GOOD.partition("notify:")[0]).channels == ()


def test_nobody_is_told_before_the_requester_has_said_why(store: Approvals, receiver: Receiver) -> None:
    """The one message comes with the reason in it."""
    notifier = Notifier(NotifyRules("", frozenset({"asked"}), (WebhookChannel(receiver.url, SECRET),)))
    store.listen(notifier.tell)
    terms = replace(TERMS, purpose_required=True)
    asked = store.ask("d", "s", ALICE, {"operation": "ec2:TerminateInstances"}, terms).id
    store.ask("d", "s", ALICE, {"operation": "ec2:TerminateInstances"}, terms)
    store.give_reason(asked, "s", "ticket 7 @everyone")
    receiver.wait(1)
    notifier.close()
    (told,) = [json.loads(body) for _, body in receiver.got]
    assert told["type"] == "approval.asked" and told["data"]["purpose"] == "ticket 7 ＠everyone"  # noqa: RUF001


def test_a_real_gateway_tells(tmp_path: Path, issuer: OidcIssuer, receiver: Receiver) -> None:
    """A held call is told over a signed webhook, after a failure once more, and what looks like a secret is masked."""
    key = tmp_path / "gateway" / "rules" / "hook.secret"
    key.parent.mkdir(parents=True)
    key.write_text("whsec_" + base64.b64encode(SECRET).decode())
    rules = gateway.identity(
        issuer,
        notify={"link": "https://gw.example.com", "webhooks": [{"url": receiver.url, "secret_file": "hook.secret"}]},
    )
    secret = "ghp_" + secrets.token_hex(18)
    receiver.statuses = [500]
    with (
        StrictAws(open_sts=True) as aws,
        gateway.GatewayProcess(tmp_path / "gateway", issuer, sandbox=aws.url, identity_rules=rules) as running,
    ):
        env = running.session()
        ec2 = boto_client("ec2", env)
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(lambda: ec2.terminate_instances(InstanceIds=[secret]))
            receiver.wait(2)
            carol = issuer.token("carol", ("sre",), owner=None)
            (question,) = running.questions(carol)
            assert not held.done(), "a channel that fails neither grants nor denies"
            running.operators("POST", f"/approvals/{question['id']}/answer", carol, {"approve": False, "reason": "no"})
            with pytest.raises(ClientError, match="no"):
                held.result(30)
    (first, again) = receiver.got
    assert first[0]["webhook-id"] == again[0]["webhook-id"] and first[1] == again[1]
    assert secret.encode() not in again[1] and b"ec2:TerminateInstances" in again[1]
    assert secret not in json.dumps(question)
    assert json.loads(again[1])["data"]["link"] == f"https://gw.example.com/approvals/{question['id']}"
