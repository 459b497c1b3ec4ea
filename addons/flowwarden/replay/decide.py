"""Recorded requests decided again under other rules: what would change, and what would no longer run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FlowwardenError, Refusal
from ..policy.ruleset import RuleSet, load
from ..recording.clock import posix
from ..recording.read import frame_state, full_bodies, outcomes
from . import recorded

if TYPE_CHECKING:
    from ..recognition.recogniser import Recogniser

RAN = frozenset({"ok", "error", "unknown", "cut"})


@dataclass(frozen=True, slots=True)
class Changed:
    """One call that the other rules decide otherwise. `ran` says that it reached AWS when it was recorded."""

    flow: str
    seq: int
    time: str
    session: str
    subject: str
    operation: str
    resources: tuple[str, ...]
    was: str
    now: str
    rules_were: tuple[str, ...]
    rules_now: tuple[str, ...]
    reason: str
    ran: bool


@dataclass
class Redecided:
    """`decided` calls in all. `undecided` are those without a frame, by reason."""

    decided: int = 0
    changed: list[Changed] = field(default_factory=list)
    undecided: dict[str, int] = field(default_factory=dict)

    @property
    def refused(self) -> list[Changed]:
        """What ran, and would be refused now."""
        return [one for one in self.changed if one.ran and one.now == "deny"]

    @property
    def exit_code(self) -> int:
        """1 if anything that ran would now be refused."""
        return 1 if self.refused else 0


def redecide(
    folder: Path,
    rules: Path | RuleSet,
    *,
    session: str | None = None,
    since: str = "",
    until: str = "",
    recogniser: Recogniser | None = None,
    progress: Callable[[int], None] | None = None,
) -> Redecided:
    """Decides a session's calls, those of a span of time, or all, under the rules of a folder, at their recorded time.

    `since` and `until` are RFC 3339 or its beginning. RuleError for rules that do not check, StoreError for a recording
    that cannot be read. A request whose parameters were masked is decided as it was recorded.
    """
    from ..recognition.recogniser import Recogniser as Real

    ruleset = rules if isinstance(rules, RuleSet) else load(rules)
    known = recogniser or Real()
    result = Redecided()
    there = False
    for call, end in outcomes(folder, session):
        there = True
        if (since and call["time"] < since) or (until and call["time"] >= until):
            continue
        _one(folder, call, end, ruleset, known, result)
        if progress:
            progress(result.decided)
    if session and not there:
        raise recorded.no_session(session, folder)
    return result


def _one(
    folder: Path, call: dict[str, Any], end: dict[str, Any], rules: RuleSet, recogniser: Recogniser, result: Redecided
) -> None:
    if not end.get("frame"):
        result.undecided["no frame"] = result.undecided.get("no frame", 0) + 1
        return
    try:
        state = full_bodies(folder, frame_state(folder, end["frame"]), end)
        request = recorded.request(state, call)
    except (FlowwardenError, KeyError, TypeError, ValueError, AttributeError):
        result.undecided["unreadable"] = result.undecided.get("unreadable", 0) + 1
        return
    moment = datetime.fromtimestamp(posix(call["time"]), UTC)
    try:
        found = recogniser.recognise(request, str(call.get("account") or ""))
        decision = rules.decide(recorded.principal(call), found, request, moment)
        effect: str = decision.effect
        names, reason = decision.rules, decision.reason
    except Refusal as refusal:
        effect, names, reason = "deny", (refusal.rule,) if refusal.rule else (), refusal.message
    result.decided += 1
    was = str(call.get("decision") or "deny")
    if effect != was:
        result.changed.append(_changed(call, end, was, effect, names, reason))


def _changed(
    call: dict[str, Any], end: dict[str, Any], was: str, now: str, names: tuple[str, ...], reason: str
) -> Changed:
    service, operation = call.get("service", ""), call.get("operation", "")
    return Changed(
        flow=str(call.get("flow", "")),
        seq=int(call["seq"]),
        time=str(call["time"]),
        session=str(call.get("session", "")),
        subject=str((call.get("principal") or {}).get("subject", "")),
        operation=f"{service}:{operation}" if service else f"{call.get('method', '')} {call.get('host', '')}",
        resources=tuple("?" if arn is None else str(arn) for arn in call.get("resources") or ()),
        was=was,
        now=now,
        rules_were=tuple(call.get("rules") or ()),
        rules_now=names,
        reason=reason,
        ran=end["outcome"] in RAN,
    )
