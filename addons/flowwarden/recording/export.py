"""Takes flows out of a recording, one after the other: as .mitm frames, HAR, or JSON lines; never all in memory."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, Literal

from ..errors import StoreError
from .frames import har_entry, restate
from .read import frame_bytes, frame_state, full_bodies, outcomes

Format = Literal["mitm", "har", "jsonl"]
FORMATS: tuple[Format, ...] = ("mitm", "har", "jsonl")
Record = dict[str, Any]


def export(
    folder: Path,
    out: BinaryIO,
    *,
    format: Format = "mitm",
    session: str | None = None,
    flows: Collection[str] | None = None,
    verbatim: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Writes flows of one session, or of all, or just the named ones, in the order of their decision; how many it were.

    Bodies that were too large for their frame are put back in, unless `verbatim`: then .mitm frames are byte for byte
    those whose hashes the evidence log holds. What was not recorded as a frame (tunnels) is left out of mitm and har.
    StoreError if there is no recording, or if a frame or body is not what was recorded.
    """
    if format not in FORMATS:
        raise StoreError(f"{format!r} is not a format of export", f"One of {', '.join(FORMATS)}")
    chosen = set(flows) if flows is not None else None
    picked = ((call, end) for call, end in outcomes(folder, session) if chosen is None or call.get("flow") in chosen)
    write = {"mitm": _mitm, "har": _har, "jsonl": _jsonl}[format]
    count = 0
    for count, data in enumerate(write(folder, picked, verbatim), 0 if format == "har" else 1):
        out.write(data)
        if progress:
            progress(count)
    return count - 1 if format == "har" else count


def matching(
    folder: Path, *, session: str | None = None, action: str = "", decision: str = "", since: str = "", until: str = ""
) -> set[str]:
    """The ids of flows that fit all that is asked; `action` is a glob, times are RFC 3339 or their beginnings. StoreError."""
    found = set()
    for call, _ in outcomes(folder, session):
        names = [*(call.get("actions") or ()), f"{call.get('service', '')}:{call.get('operation', '')}"]
        if (
            (not action or any(fnmatchcase(name, action) for name in names))
            and (not decision or call.get("decision") == decision)
            and (not since or call["time"] >= since)
            and (not until or call["time"] < until)
        ):
            found.add(str(call.get("flow", "")))
    return found


def _mitm(folder: Path, picked: Iterator[tuple[Record, Record]], verbatim: bool) -> Iterator[bytes]:
    for _, end in picked:
        if not end.get("frame"):
            continue
        frame = frame_bytes(folder, end["frame"])
        if not verbatim and any(body["kept"] for body in end.get("bodies", ())):
            frame = restate(full_bodies(folder, frame_state(folder, end["frame"]), end))
        yield frame


def _har(folder: Path, picked: Iterator[tuple[Record, Record]], verbatim: bool) -> Iterator[bytes]:
    from .. import __version__

    creator = json.dumps({"name": "flowwarden", "version": __version__})
    yield f'{{"log": {{"version": "1.2", "creator": {creator}, "entries": ['.encode()
    comma = b"\n"
    for call, end in picked:
        if end.get("frame"):
            entry = har_entry(full_bodies(folder, frame_state(folder, end["frame"]), end))
            entry["comment"] = f"{call.get('decision', '')} by {', '.join(call.get('rules') or ())}"
            entry["_flowwarden"] = {"intent": call, "outcome": end}
            yield comma + json.dumps(entry).encode()
            comma = b",\n"
    yield b"\n]}}\n"


def _jsonl(folder: Path, picked: Iterator[tuple[Record, Record]], verbatim: bool) -> Iterator[bytes]:
    for call, end in picked:
        yield json.dumps(line(folder, call, end)).encode() + b"\n"


def line(folder: Path, call: Record, end: Record) -> Record:
    """One flow as `flowwarden explain` reads it (method, url, headers, body in base64), with its records beside it."""
    state = full_bodies(folder, frame_state(folder, end["frame"]), end) if end.get("frame") else {}
    request, response = state.get("request"), state.get("response")
    found: Record = {
        "flow": call.get("flow", ""),
        "method": call.get("method", ""),
        "url": url(call),
        "headers": _headers(request),
        "body": _body(request),
    }
    principal = call.get("principal")
    if principal:
        found["principal"] = {"sub": principal.get("subject", ""), "groups": principal.get("groups", [])}
    if response:
        found["response"] = {
            "status": response["status_code"],
            "headers": _headers(response),
            "body": _body(response),
        }
    return {**found, "intent": call, "outcome": end}


def url(call: Record) -> str:
    """The URL that a call was for, as its intent has it."""
    scheme, port = call.get("scheme") or "https", call.get("port")
    usual = {"https": 443, "http": 80}.get(scheme)
    host = str(call.get("host", ""))
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}{f':{port}' if port and port != usual else ''}{call.get('path', '')}"


def _headers(message: Record | None) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in message["headers"]] if message else []


def _body(message: Record | None) -> str | None:
    """The body in base64; None where it was not recorded."""
    if message is None or message["content"] is None:
        return None
    return base64.b64encode(message["content"]).decode()
