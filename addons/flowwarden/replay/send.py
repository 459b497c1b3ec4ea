"""A recorded session sent again to a sandbox, and its answers compared with the recorded ones."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError, FlowwardenError
from ..recording.read import frame_state, full_bodies, outcomes
from .fill import Filler
from .outgoing import Outgoing, outgoing, signed
from .recorded import no_session
from .secrets import Secrets
from .shape import Ids, differences, parse
from .target import Target, target

TIMEOUT = 60.0
_MOST_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Compared:
    """One call of the recording and what the sandbox answered. `diff` has a line for each difference."""

    flow: str
    seq: int
    operation: str
    method: str
    path: str
    recorded: int | None  # HTTP status
    answered: int | None
    verdict: Literal["same", "different", "failed", "skipped"]
    diff: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Recorded:
    call: Mapping[str, Any]
    end: Mapping[str, Any]


def replay_to(
    folder: Path,
    session: str,
    url: str,
    *,
    secrets: Secrets | Mapping[str, Any] | None = None,
    allow_host: str | Iterable[str] | None = None,
    timeout: float = TIMEOUT,
) -> list[Compared]:
    """Sends a session's calls to a sandbox at `url`, in recorded order and concurrency.

    A call begins when all those have ended that had ended in the recording before it began. `secrets` says what masks in
    recorded requests stand for (see secrets.py). Calls that never reached AWS are skipped, and so is what is not AWS.
    ConfigError for a target that is not allowed, and for masks without a value, before anything is sent. StoreError if
    there is no such session.
    """
    where = target(url, allow_host)
    recorded = [_Recorded(call, end) for call, end in outcomes(folder, session)]
    if not recorded:
        raise no_session(session, folder)
    known = secrets if isinstance(secrets, Secrets) else Secrets(secrets or {})
    _complete(folder, recorded, known)
    sender = _Sender(folder, where, known, timeout)
    running: list[tuple[int, Future[Compared]]] = []
    with ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="flowwarden-replay") as pool:
        for one in recorded:
            wait([future for ended, future in running if ended < one.call["seq"]])
            running.append((one.end["seq"], pool.submit(sender.compare, one)))
    return [future.result() for _, future in running]


def _filler(one: _Recorded, secrets: Secrets) -> Filler:
    call = one.call
    return Filler(secrets, str(call.get("flow", "")), f"{call.get('service', '')}:{call.get('operation', '')}")


def _complete(folder: Path, recorded: Iterable[_Recorded], secrets: Secrets) -> None:
    """ConfigError if a mask of a call that will be sent has no value: half a session in a sandbox helps nobody."""
    missing: list[str] = []
    for one in recorded:
        if _skipped(one):
            continue
        try:
            state = frame_state(folder, one.end["frame"])
            filler = _filler(one, secrets)
            outgoing(full_bodies(folder, state, dict(one.end)), one.call, str, filler)
        except (ValueError, KeyError, TypeError, FlowwardenError):
            continue  # it fails when its turn comes, with that reason
        operation = f"{one.call.get('service', '')}:{one.call.get('operation', '')}"
        missing += [f"{operation} {line} (flow {str(one.call.get('flow', ''))[:8]})" for line in filler.missing]
    if missing:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise ConfigError(
            "masks in the recorded requests have no value: " + "; ".join(missing[:10]) + more,
            'Give them by --secrets F (docs/replay.md), or `masks: {"*": dummy}` if any value will do',
        )


class _Sender:
    def __init__(self, folder: Path, where: Target, secrets: Secrets, timeout: float) -> None:
        self._folder = folder
        self._where = where
        self._secrets = secrets
        self._timeout = timeout
        self._ids = Ids()
        self._lock = threading.Lock()

    def compare(self, one: _Recorded) -> Compared:
        """Sends one call and compares; whatever fails is a verdict, never an exception."""
        reason = _skipped(one)
        if reason:
            return _result(one, "skipped", None, (reason,))
        try:
            state = full_bodies(self._folder, frame_state(self._folder, one.end["frame"]), dict(one.end))
            filler = _filler(one, self._secrets)
            status, headers, body = self._send(signed(outgoing(state, one.call, self._fill, filler)))
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, FlowwardenError) as error:
            return _result(one, "failed", None, (self._secrets.hidden(f"{type(error).__name__}: {error}"),))
        recorded = state["response"] or {"status_code": None, "content": b"", "headers": ()}
        lines = []
        if recorded["status_code"] != status:
            lines.append(f"status: {recorded['status_code']} → {status}")
        with self._lock:
            answered = self._secrets.hidden(parse(body, headers.get("content-type", "")))
            lines += differences(_body(recorded), answered, self._ids)
        return _result(one, "different" if lines else "same", status, tuple(lines))

    def _fill(self, text: str) -> str:
        with self._lock:
            return self._ids.apply(text)

    def _send(self, request: Outgoing) -> tuple[int, dict[str, str], bytes]:
        where = self._where
        connection: http.client.HTTPConnection
        if where.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname = False  # a sandbox's own certificate; the address was checked
            context.verify_mode = ssl.CERT_NONE
            connection = http.client.HTTPSConnection(where.address, where.port, timeout=self._timeout, context=context)
        else:
            connection = http.client.HTTPConnection(where.address, where.port, timeout=self._timeout)
        try:
            connection.putrequest(
                request.method, where.prefix + request.target, skip_host=True, skip_accept_encoding=True
            )
            connection.putheader("Host", request.host)
            for name, value in request.headers:
                connection.putheader(name, value)
            if request.body or request.method in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body or None)
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, fields, answer.read()
        finally:
            connection.close()


def _skipped(one: _Recorded) -> str:
    """Why a call is not sent; empty if it is."""
    if one.end["outcome"] == "refused":
        return f"refused by the gateway: {one.end.get('code', '')}"
    if not one.end.get("frame"):
        return "its frame was not recorded"
    if not one.call.get("service"):
        return "not an AWS call"
    return ""


def _result(
    one: _Recorded,
    verdict: Literal["same", "different", "failed", "skipped"],
    status: int | None,
    lines: tuple[str, ...],
) -> Compared:
    call = one.call
    operation = f"{call.get('service', '')}:{call.get('operation', '')}"
    return Compared(
        flow=str(call.get("flow", "")),
        seq=int(call["seq"]),
        operation=operation,
        method=str(call.get("method", "")),
        path=str(call.get("path", "")),
        recorded=one.end.get("status"),
        answered=status,
        verdict=verdict,
        diff=lines,
    )


def _body(response: Mapping[str, Any]) -> Any:
    """A recorded answer's body as a structure, its content coding undone."""
    from mitmproxy.net.encoding import decode

    fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response["headers"]}
    body = response["content"] or b""
    coding = fields.get("content-encoding", "")
    if coding:
        try:
            plain = decode(body, coding)
            body = plain if isinstance(plain, bytes) else plain.encode()
        except ValueError:
            pass
    return parse(body, fields.get("content-type", ""))
