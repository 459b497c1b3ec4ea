"""Answers from a recording: found by operation and parameters, in recorded order; what was not recorded is a miss."""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FlowwardenError, Refusal, StoreError
from ..recording.canonical import canonical
from ..recording.read import frame_state, full_bodies, outcomes
from ..refusal import render
from ..types import Call, Headers, Request
from . import recorded

if TYPE_CHECKING:
    from ..recognition.recogniser import Recogniser

_OWN = frozenset({b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"trailer"})
_TOKENS = ("clienttoken", "clientrequesttoken", "idempotencytoken", "callerreference", "requesttoken", "clientid")
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


class Answers:
    """One session's recorded answers. Thread-safe; nothing here opens a connection."""

    def __init__(self, folder: Path, session: str, *, recogniser: Recogniser | None = None) -> None:
        """StoreError if there is no such session."""
        from ..recognition.recogniser import Recogniser as Real

        self.misses: list[Miss] = []
        self.hits = 0
        self._folder = folder
        self._recogniser = recogniser or Real()
        self._lock = threading.Lock()
        self._waiting: dict[bytes, deque[tuple[str, dict[str, Any], dict[str, Any]]]] = {}
        self._known: set[bytes] = set()
        self._hosts: dict[str, str] = {}  # signing name → a host that it was called by
        for call, end in outcomes(folder, session):
            self._take(call, end)
        if not self._waiting:
            raise StoreError(f"there is no session {session} with answers in {folder}")

    def _take(self, call: dict[str, Any], end: dict[str, Any]) -> None:
        if not end.get("frame"):
            return
        state = frame_state(self._folder, end["frame"])
        if not state.get("response"):
            return
        request = recorded.request(state, call)
        self._hosts.setdefault(str(call.get("signing_name") or ""), request.host)
        key, found = self._key(request)
        name = str(found.operation) if found and found.operation else f"{request.method} {request.host}"
        self._waiting.setdefault(key, deque()).append((name, call, end))
        self._known.add(key)

    def answer(self, request: Request) -> Answer:
        """The recorded answer for a request, or a refusal in the protocol's own form; the miss is kept for the end."""
        request = self._named(request)
        key, call = self._key(request)
        with self._lock:
            queue = self._waiting.get(key)
            found = queue.popleft() if queue else None
            known = key in self._known
        if found is None:
            return self._miss(request, call, "more often than it was recorded" if known else "not in the recording")
        _, recorded_call, end = found
        try:
            state = full_bodies(self._folder, frame_state(self._folder, end["frame"]), end)
        except FlowwardenError as error:
            return self._miss(request, call, error.message)
        response = state["response"]
        if response["content"] is None:
            return self._miss(request, call, "recorded without its body")
        headers = tuple((bytes(n), bytes(v)) for n, v in response["headers"] if n.lower() not in _OWN)
        with self._lock:
            self.hits += 1
        return Answer(response["status_code"], headers, bytes(response["content"]), str(recorded_call["flow"]), True)

    @property
    def left(self) -> list[str]:
        """Recorded operations that nobody asked for (again)."""
        with self._lock:
            return [name for queue in self._waiting.values() for name, _, _ in queue]

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

    def _key(self, request: Request) -> tuple[bytes, Call | None]:
        """What makes two requests the same: operation, region and parameters; elsewhere method, host, target, body."""
        try:
            call = self._recogniser.recognise(request)
            if call.operation is not None:
                body = sha256(request.body or b"").hexdigest() if call.params is None else ""
                asked = {
                    "operation": str(call.operation),
                    "region": call.region,
                    "params": _stable(call.params),
                    "body": body,
                }
                return canonical(asked), call
        except Refusal:
            pass
        plain = {"method": request.method, "host": request.host, "target": request.target}
        return canonical({**plain, "body": sha256(request.body or b"").hexdigest()}), None

    def _miss(self, request: Request, call: Call | None, why: str) -> Answer:
        operation = str(call.operation) if call and call.operation else f"{request.method} {request.path}"
        with self._lock:
            self.misses.append(Miss(operation, request.method, request.host, request.path, why))
        refusal = Refusal(
            f"{operation} with these parameters is {why}; nothing leaves in a replay",
            status=404, code="FlowwardenReplayMiss", station="replay",
        )  # fmt: skip
        flow = str(uuid.uuid4())
        status, headers, body = render(refusal, call, request, flow)
        return Answer(status, headers, body, flow, False)


def _stable(value: Any) -> Any:
    """Parameters without what differs at each run: idempotency tokens, and the content of streams."""
    if isinstance(value, Mapping):
        return {str(name): _stable(item) for name, item in value.items() if str(name).lower() not in _TOKENS}
    if isinstance(value, list | tuple):
        return [_stable(item) for item in value]
    return value
