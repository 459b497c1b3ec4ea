"""Answers from a recording: found by operation and parameters, in recorded order; what was not recorded is a miss."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FlowwardenError, Refusal
from ..recording.canonical import canonical
from ..recording.read import frame_state, full_bodies, outcomes
from ..refusal import render
from ..types import Call, Headers, Request
from . import recorded
from .masked import fits, holds_mask

if TYPE_CHECKING:
    from ..recognition.recogniser import Recogniser

_OWN = frozenset({b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"trailer"})
_TOKENS = ("clienttoken", "clientrequesttoken", "idempotencytoken", "callerreference", "requesttoken")
_EMPTY = sha256(b"").hexdigest()
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, and whether it was recorded. `flow` is the recorded flow's id, or the miss's own."""

    status: int
    headers: Headers
    body: bytes
    flow: str
    hit: bool


@dataclass(frozen=True, slots=True)
class Miss:
    """A call that the recording has no answer for."""

    operation: str
    method: str
    host: str
    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.operation} ({self.method} {self.host}{self.path}) is {self.why}"


@dataclass(slots=True)
class _Tape:
    """A recorded call whose answer waits to be asked for. `masked`: what it asked, where a mask hides a part of it."""

    name: str
    call: dict[str, Any]
    end: dict[str, Any]
    masked: Any = None


@dataclass(slots=True)
class _Same:
    """Recorded calls that ask the same, in their order."""

    tapes: list[_Tape] = field(default_factory=list)
    given: int = 0


class Answers:
    """One session's recorded answers. Thread-safe; nothing here opens a connection. `missed` hears of each miss."""

    def __init__(
        self,
        folder: Path,
        session: str,
        *,
        recogniser: Recogniser | None = None,
        missed: Callable[[Miss], None] = lambda _miss: None,
    ) -> None:
        """StoreError if there is no such session."""
        from ..recognition.recogniser import Recogniser as Real

        self.misses: list[Miss] = []
        self.hits = 0
        self._missed = missed
        self._folder = folder
        self._recogniser = recogniser or Real()
        self._lock = threading.Lock()
        self._same: dict[bytes, _Same] = {}
        self._hosts: dict[str, str] = {}  # signing name → a host that it was called by
        self._regions: Counter[str] = Counter()
        for call, end in outcomes(folder, session):
            self._take(call, end)
        if not self._same:
            raise recorded.no_session(f"{session} with answers", folder)

    @property
    def region(self) -> str:
        """The region that most recorded calls went to."""
        return next((region for region, _ in self._regions.most_common() if region and region != "*"), "")

    def _take(self, call: dict[str, Any], end: dict[str, Any]) -> None:
        if not end.get("frame"):
            return
        state = frame_state(self._folder, end["frame"])
        if not state.get("response"):
            return
        request = recorded.request(state, call)
        self._hosts.setdefault(str(call.get("signing_name") or ""), request.host)
        self._regions[str(call.get("region") or "")] += 1
        asked, found = self._asked(request, _sent(call, end))
        name = str(found.operation) if found and found.operation else f"{request.method} {request.host}"
        tape = _Tape(name, call, end, asked if holds_mask(asked) else None)
        self._same.setdefault(canonical(asked), _Same()).tapes.append(tape)

    def answer(self, request: Request) -> Answer:
        """The recorded answer for a request, or a refusal in the protocol's own form; the miss is kept for the end."""
        request = self._named(request)
        asked, call = self._asked(request, sha256(request.body or b"").hexdigest())
        with self._lock:
            tape, why = self._next(asked)
        if tape is None:
            return self._miss(request, call, why)
        end = tape.end
        try:
            state = full_bodies(self._folder, frame_state(self._folder, end["frame"]), end)
        except FlowwardenError as error:
            return self._miss(request, call, error.message)
        response = state["response"]
        if response["status_code"] == 101:
            return self._miss(request, call, "a WebSocket, which is not replayed")
        content = b"" if not end.get("bytes") and response["content"] is None else response["content"]
        if content is None:
            return self._miss(request, call, "recorded without its body")
        own = _OWN - {b"content-length"} if request.method == "HEAD" else _OWN
        headers = tuple((bytes(n), bytes(v)) for n, v in response["headers"] if n.lower() not in own)
        with self._lock:
            self.hits += 1
        return Answer(response["status_code"], headers, bytes(content), str(tape.call["flow"]), True)

    def _next(self, asked: Any) -> tuple[_Tape | None, str]:
        """The next recorded answer to what is asked, or why there is none. A mask in the recording fits any value."""
        key = canonical(asked)
        found = self._same.get(key) or self._fitting(key, asked)
        if found is None:
            return None, "not in the recording"
        if found.given >= len(found.tapes):
            return None, "more often than it was recorded"
        found.given += 1
        return found.tapes[found.given - 1], ""

    def _fitting(self, key: bytes, asked: Any) -> _Same | None:
        for same in self._same.values():
            masked = same.tapes[0].masked
            if masked is not None and fits(masked, asked):
                self._same[key] = same  # the same value fits the same calls from now on
                return same
        return None

    @property
    def left(self) -> list[str]:
        """Recorded operations that nobody asked for (again)."""
        with self._lock:
            groups = {id(same): same for same in self._same.values()}.values()
            return [tape.name for same in groups for tape in same.tapes[same.given :]]

    def _named(self, request: Request) -> Request:
        """A request to an endpoint URL on this machine has no name of AWS's: the recording's stands in, by scope."""
        if request.host not in _LOOPBACK:
            return request
        scope = request.header("authorization").partition("Credential=")[2].split("/")
        if len(scope) < 5:
            return request
        region, name = scope[2], scope[3]
        usual = f"{name}.{region}.amazonaws.com"
        host = usual if name == "s3" else self._hosts.get(name, usual)  # an endpoint URL means path style for S3
        return replace(request, host=host, scheme="https", port=443)

    def _asked(self, request: Request, body: str) -> tuple[Any, Call | None]:
        """What makes two requests the same: operation, region and parameters; elsewhere method, host, target, body.

        `body` is the SHA-256 of the body as it was sent.
        """
        try:
            call = self._recogniser.recognise(request)
            if call.operation is not None:
                return {
                    "operation": str(call.operation),
                    "region": call.region,
                    "params": _stable(call.params),
                    "body": body if call.params is None else "",
                }, call
        except Refusal:
            pass
        return {"method": request.method, "host": request.host, "target": request.target, "body": body}, None

    def _miss(self, request: Request, call: Call | None, why: str) -> Answer:
        operation = str(call.operation) if call and call.operation else f"{request.method} {request.path}"
        miss = Miss(operation, request.method, request.host, request.path, why)
        with self._lock:
            self.misses.append(miss)
        self._missed(miss)
        refusal = Refusal(
            f"{operation} with these parameters is {why}; nothing leaves in a replay",
            status=404, code="FlowwardenReplayMiss", station="replay",
        )  # fmt: skip
        flow = str(uuid.uuid4())
        status, headers, body = render(refusal, call, request, flow)
        return Answer(status, headers, body, flow, False)


def _sent(call: Mapping[str, Any], end: Mapping[str, Any]) -> str:
    """SHA-256 of a recorded request's body as it was sent: a mask in the recording has not changed that."""
    streamed = (body["sha256"] for body in end.get("bodies") or () if body["of"] == "request")
    return str(call.get("request_sha256") or next(streamed, _EMPTY))


def _stable(value: Any) -> Any:
    """Parameters without what differs at each run: idempotency tokens, and the content of streams."""
    if isinstance(value, Mapping):
        return {str(name): _stable(item) for name, item in value.items() if str(name).lower() not in _TOKENS}
    if isinstance(value, list | tuple):
        return [_stable(item) for item in value]
    return value
