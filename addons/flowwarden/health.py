"""How the gateway is: what /health and /metrics answer, and what the log is told when that changes."""

from __future__ import annotations

import logging
from typing import Any

from .recording import records
from .services import Services

log = logging.getLogger("flowwarden")


def health(made: Services) -> dict[str, Any]:
    """What /health answers: ready, and why not; alarms that an operator has to hear of."""
    anchors = made.anchors.problem if made.anchors is not None else ""
    problems = [text for text in (made.recorder.problem, made.rules.alarm, anchors, made.indexer.problem) if text]
    return {
        "ready": made.recorder.ready,
        "problems": problems,
        "rules": made.rules.current.digest,
        "sandbox": bool(made.sandbox),
    }


def tell(made: Services, before: list[str]) -> list[str]:
    """Logs problems that are new, and those that are over; what there is now."""
    now: list[str] = health(made)["problems"]
    for text in now:
        if text not in before:
            log.warning("problem: %s", text)  # no error: mitmproxy would stop at one while it starts
    for text in before:
        if text not in now:
            log.info("over: %s", text)
    return now


def metrics(made: Services) -> str:
    """Prometheus text: calls by how they ended."""
    lines = ["# TYPE flowwarden_calls_total counter"]
    for (decision, ending), count in sorted(made.counts.items()):
        lines.append(f'flowwarden_calls_total{{decision="{decision}",outcome="{ending}"}} {count}')
    lines += ["# TYPE flowwarden_ready gauge", f"flowwarden_ready {int(made.recorder.ready)}"]
    lines += ["# TYPE flowwarden_sessions gauge", f"flowwarden_sessions {len(made.sessions.list())}"]
    return "\n".join(lines) + "\n"


def alarm(made: Services, kind: str, message: str) -> None:
    """Tells the log and the evidence of what an operator has to look at."""
    log.warning("alarm: %s", message)  # no error: mitmproxy would stop at one while it starts
    made.note("alarm", records.alarm(kind, message))
