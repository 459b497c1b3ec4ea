"""Telling people that a call waits: webhooks signed with HMAC, and whatever apprise can reach. Never secrets."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import yamlfile
from ..identity.rules import safe_url
from ..sessions.ids import rfc3339
from ..types import Approval
from ..yamlfile import Section
from .channels import AppriseChannel, Message, WebhookChannel, read_secret

EVENTS = ("asked", "reopened", "approved", "denied", "expired", "withdrawn", "revoked", "used", "allowed", "unknown")
BACKLOG = 500  # messages that may wait for one channel; more are dropped, and the log says so
ATTEMPTS = 6
FIRST_WAIT = 1.0  # seconds; doubled after each attempt that failed
_log = logging.getLogger(__name__)


class Channel(Protocol):
    """Where messages go. `name` may stand in a log: it holds no secret."""

    name: str

    def send(self, message: Message) -> None:
        """Delivers or raises; called in a thread of the channel's own."""


@dataclass(frozen=True)
class NotifyRules:
    """`notify:` in rules/identity.yaml. `link` is where people reach the approvals page."""

    link: str = ""
    events: frozenset[str] = frozenset({"asked"})
    channels: tuple[Channel, ...] = ()


def load(path: Path) -> NotifyRules:
    """Reads `notify:` from rules/identity.yaml; RuleError. Secrets lie in files beside it, never in the rules."""
    file = yamlfile.load(path)
    section = file.section("notify", None)
    link = section.text("link", "")
    if link and not safe_url(link):
        raise section.error(f"'link' has to be an https:// URL, not {link!r}", "link")
    events = section.texts("events", ("asked",))
    if unknown := [event for event in events if event not in EVENTS]:
        raise section.error(f"there is no event {unknown[0]!r}", "events", f"Known: {', '.join(EVENTS)}.")
    channels: list[Channel] = [_webhook(entry, path.parent) for entry in section.sections("webhooks", None)]
    if "apprise_file" in section:
        channels += _apprise(section, path.parent)
    section.finish()
    return NotifyRules(link.rstrip("/"), frozenset(events), tuple(channels))


def _webhook(entry: Section, base: Path) -> WebhookChannel:
    url = entry.text("url")
    if not safe_url(url):
        raise entry.error(f"'url' has to be an https:// URL, not {url!r}", "url")
    try:
        secret = read_secret("\n".join(_lines(entry, "secret_file", base)))
    except ValueError as error:
        raise entry.error(f"'secret_file': {error}", "secret_file") from None
    entry.finish()
    return WebhookChannel(url, secret)


def _apprise(section: Section, base: Path) -> list[Channel]:
    """One channel an address: one that fails does not make the others repeat themselves."""
    made: list[Channel] = []
    for number, url in enumerate(_lines(section, "apprise_file", base), 1):
        try:
            made.append(AppriseChannel(url))
        except ValueError as error:
            raise section.error(f"'apprise_file': address {number}: {error}", "apprise_file") from None
    return made


def _lines(section: Section, key: str, base: Path) -> list[str]:
    path = base / section.text(key)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise section.error(f"{key!r}: {path} cannot be read: {error}", key) from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


class Notifier:
    """Listens to Approvals and sends, each channel in a thread of its own: none can hold up another, or a call.

    `mask` is put over everything that an agent wrote, as over a recording.
    """

    def __init__(
        self,
        rules: NotifyRules,
        *,
        mask: Callable[[str], str] = lambda text: text,
        pause: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._mask = mask
        self._clock = clock
        self._stopping = threading.Event()
        self._pause = pause or self._stopping.wait
        self._queues: list[queue.Queue[Message | None]] = []
        self._threads: list[threading.Thread] = []
        self.failed = 0  # messages that were given up
        for channel in rules.channels:
            waiting: queue.Queue[Message | None] = queue.Queue(BACKLOG)
            thread = threading.Thread(target=self._work, args=(channel, waiting), name="notify", daemon=True)
            self._queues.append(waiting)
            self._threads.append(thread)
            thread.start()

    def tell(self, event: str, approval: Approval, details: Mapping[str, Any]) -> None:
        """For `Approvals.listen`. Returns at once, and never raises."""
        if approval.wants_purpose:
            return  # people are asked when there is something to decide on
        if event == "stated" and approval.terms.purpose_required:
            event = "asked"
        if event not in self._rules.events or not self._queues:
            return
        try:
            message = compose(event, approval, details, self._rules.link, self._mask, self._clock())
        except Exception:  # a mask that fails: better no message than one with a secret in it
            self.failed += 1
            _log.exception("no notification of approval %s", approval.id)
            return
        for waiting in self._queues:
            try:
                waiting.put_nowait(message)
            except queue.Full:
                self.failed += 1
                _log.warning("a channel is too far behind: no notification of approval %s there", approval.id)

    def close(self, seconds: float = 5.0) -> None:
        """Sends what waits, for at most `seconds`, and stops."""
        end = time.monotonic() + seconds
        for waiting in self._queues:
            with contextlib.suppress(queue.Full, queue.Empty):
                if waiting.full():
                    waiting.get_nowait()  # room for the sign to stop
                    self.failed += 1
                waiting.put_nowait(None)
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()) / 2)
        self._stopping.set()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _work(self, channel: Channel, waiting: queue.Queue[Message | None]) -> None:
        while (message := waiting.get()) is not None and not self._stopping.is_set():
            self._deliver(channel, message)

    def _deliver(self, channel: Channel, message: Message) -> None:
        wait, why = FIRST_WAIT, ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._pause(wait)
                wait *= 2
            if self._stopping.is_set():
                break
            try:
                channel.send(message)
                return
            except Exception as error:  # a channel's own failure, whatever it is, stays here
                why = type(error).__name__ if not isinstance(error, ValueError) else str(error)
        self.failed += 1
        _log.warning("notification %s could not be sent by %s: %s", message.id, channel.name, why)


def compose(
    event: str, approval: Approval, details: Mapping[str, Any], link: str, mask: Callable[[str], str], now: float
) -> Message:
    """What is told: who, what, which rule, until when, and where to answer. No path, parameters or body."""
    summary = approval.summary

    def plain(value: object) -> str:
        return harmless(mask(str(value)))

    who = details.get("who") or {}
    facts: dict[str, Any] = {
        "approval": approval.id,
        "state": approval.state,
        "operation": plain(summary.get("operation") or ""),
        "resources": [plain(resource) for resource in (summary.get("resources") or ())[:5] if resource],
        "account": plain(summary.get("account") or ""),
        "region": plain(summary.get("region") or ""),
        "rules": [plain(rule) for rule in summary.get("rules") or ()],
        "who": plain(who.get("name") or who.get("subject") or ""),
        "purpose": plain(approval.purpose),
        "scope": approval.terms.scope,
        "expires": rfc3339(approval.expires),
        "digest": approval.digest,
        "link": f"{link}/approvals/{approval.id}" if link else "",
    }
    what = facts["operation"] or "a call"
    on = f" on {', '.join(facts['resources'])}" if facts["resources"] else ""
    title = f"{facts['who'] or 'An agent'} asks for {what}" if event == "asked" else f"{what}: {event}"
    lines = [
        f"{what}{on}",
        f"Rule: {', '.join(facts['rules'])}" if facts["rules"] else "",
        f"Why: {facts['purpose']}" if facts["purpose"] else "",
        f"Open until {facts['expires']}" if approval.state == "open" else f"Now: {approval.state}",
        facts["link"] or f"flowwarden approvals show {approval.id}",
    ]
    return Message(f"{approval.id}.{event}", now, event, title, "\n".join(line for line in lines if line), facts)


def harmless(text: str) -> str:
    """One line in which nothing is a mention, a link or markup for a chat program."""
    table = str.maketrans({"<": "‹", ">": "›", "@": "＠", "`": "'", "*": "∗", "[": "(", "]": ")", "|": "¦"})  # noqa: RUF001
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line.translate(table).replace("://", ":/ /")[:300]
