"""What a failure becomes: the refusal of a call, or a stream that is cut and stays cut."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mitmproxy import http

from . import access, proof
from .errors import FlowwardenError, Refusal, StoreError, traced

log = logging.getLogger("flowwarden")


def unavailable(station: str, crash: BaseException) -> Refusal:
    """The refusal for a station that failed. The agent reads which station; the log has the rest."""
    if isinstance(crash, Refusal):
        crash.station = crash.station or station
        return crash
    if isinstance(crash, StoreError):
        return Refusal(
            f"the gateway cannot record: {crash.message}", status=503, code="ServiceUnavailable", station=station
        )
    if isinstance(crash, FlowwardenError):
        return Refusal(crash.message, status=503, code="ServiceUnavailable", station=station)
    log.error("station %s failed: %s\n%s", station, type(crash).__name__, traced(crash))
    why = f"the gateway's station {station!r} failed; nothing was let through"
    return Refusal(why, status=503, code="ServiceUnavailable", station=station)


def undeliverable(station: str, crash: BaseException) -> Refusal:
    """The refusal for a failure after bytes have left for upstream: 502, because the call may have been carried out."""
    why = unavailable(station, crash)
    if not isinstance(crash, Refusal):
        why.status, why.code = 502, "BadGateway"
    return why


def stopping(crash: BaseException) -> bool:
    """Whether the hook's own task is being cancelled; a CancelledError from elsewhere is a failure like any other."""
    task = asyncio.current_task()
    return isinstance(crash, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def guarded(
    station: str,
    stream: Callable[[bytes], bytes],
    on_failure: Callable[[Refusal], None],
    refused: Callable[[], Refusal | None] = lambda: None,
) -> Callable[[bytes], bytes]:
    """A stream callable that latches: after its first failure it emits nothing more and keeps raising.

    `refused` says whether the call has been refused since it began. The wire turns what is raised into a cut on both
    sides.
    """
    failed: list[Refusal] = []

    def run(data: bytes) -> bytes:
        if failed:
            raise failed[0]
        if (why := refused()) is not None:
            raise why
        try:
            return stream(data)
        except BaseException as crash:
            failed.append(undeliverable(station, crash))
            on_failure(failed[0])
            raise failed[0] from None

    return run


def _of_flow(flow: http.HTTPFlow, station: str, stream: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    owner = access.of(flow)
    return guarded(
        station, stream, lambda why: setattr(owner, "refusal", why), lambda: owner.refusal or owner.time_over
    )


def stream_request(flow: http.HTTPFlow, station: str, stream: Callable[[bytes], bytes]) -> None:
    """Lets a request's body stream through a callable of the gateway's own."""
    run = _of_flow(flow, station, stream)
    proof.of(flow).request_stream = run
    flow.request.stream = run


def stream_response(flow: http.HTTPFlow, station: str, stream: Callable[[bytes], bytes]) -> None:
    """Lets an answer's body stream through a callable of the gateway's own."""
    assert flow.response is not None
    run = _of_flow(flow, station, stream)
    proof.of(flow).response_stream = run
    flow.response.stream = run
