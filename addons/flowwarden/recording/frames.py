"""Frames of .mitm files: written by a direct encoder that keeps what repeats, read back without mitmproxy's flow objects.

A frame is one tnetstring of a flow's state, as `mitmproxy.io.FlowWriter` writes it (flow format 21). A connection's bytes
repeat with every call on it and hold its certificates, so they are kept while the connection lives and does not change.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mitmproxy.io import tnetstring

from ..errors import StoreError

if TYPE_CHECKING:
    from mitmproxy import connection, http

    from ..types import Headers

FLOW_FORMAT = 21
_NONE = b"0:~"
_KEPT = "_warden_frame"
_FLAG = {True: b"4:true!", False: b"5:false!"}


def _raw(value: bytes) -> bytes:
    return b"%d:%b," % (len(value), value)


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "replace")
    return b"%d:%b;" % (len(raw), raw)


def _number(value: float | None) -> bytes:
    if value is None:
        return _NONE
    text = repr(value).encode()
    return b"%d:%b%b" % (len(text), text, b"^" if isinstance(value, float) else b"#")


def _any(value: Any) -> bytes:
    """Anything else; what mitmproxy's format cannot hold becomes text."""
    try:
        return tnetstring.dumps(value)
    except (ValueError, UnicodeEncodeError):
        return _text(str(value))


def _headers(headers: Iterable[tuple[bytes, bytes]] | None) -> bytes:
    if headers is None:
        return _NONE
    pairs = [b"%d:%b,%d:%b," % (len(name), name, len(value), value) for name, value in headers]
    inner = b"".join([b"%d:%b]" % (len(pair), pair) for pair in pairs])
    return b"%d:%b]" % (len(inner), inner)


def _body(body: bytes | None) -> bytes:
    return _NONE if body is None else b"%d:%b," % (len(body), body)


def encode(
    flow: http.HTTPFlow,
    *,
    request_headers: Headers | None = None,
    request_body: bytes | None = None,
    response_headers: Headers | None = None,
    response_body: bytes | None = None,
    request_path: bytes | None = None,
    request_trailers: Headers | None = None,
    response_trailers: Headers | None = None,
    metadata: Mapping[str, Any] | None = None,
    comment: str = "",
    marked: str = "",
    error: str | None = None,
) -> bytes:
    """The flow as one frame, with these headers and bodies in place of its own.

    Headers of None are the flow's own, trailers too then; beside headers that were given, trailers are recorded only
    if they were given as well, because nobody masked the flow's own. A body of None is recorded as not kept, whatever the flow holds. The flow's
    metadata and backup are never taken: they may hold what must not be recorded.
    """
    response = flow.response
    problem = flow.error
    parts = [
        b"7:version;2:21#4:type;4:http;2:id;",
        _text(flow.id),
        b"5:error;",
        _any({"msg": error if error is not None else problem.msg, "timestamp": problem.timestamp})
        if problem
        else _NONE,
        b"11:client_conn;",
        _client(flow.client_conn),
        b"11:server_conn;",
        _server(flow.server_conn),
        b"11:intercepted;5:false!9:is_replay;",
        _NONE if flow.is_replay is None else _text(flow.is_replay),
        b"6:marked;",
        _text(marked),
        b"8:metadata;",
        _any(dict(metadata)) if metadata else b"0:}",
        b"7:comment;",
        _text(comment),
        b"17:timestamp_created;",
        _number(flow.timestamp_created),
        b"6:backup;0:~7:request;",
        _request(flow.request.data, request_headers, request_body, request_path, request_trailers),
        b"8:response;",
        _NONE if response is None else _response(response.data, response_headers, response_body, response_trailers),
        b"9:websocket;",
        _any(flow.websocket.get_state()) if flow.websocket else _NONE,
    ]
    inner = b"".join(parts)
    return b"%d:%b}" % (len(inner), inner)


def _client(conn: connection.Client) -> bytes:
    state = (conn.timestamp_end, conn.timestamp_tls_setup, conn.sni, conn.error, conn.alpn, conn.mitmcert)
    return _connection(conn, state)


def _server(conn: connection.Server) -> bytes:
    state = (
        conn.timestamp_end, conn.timestamp_start, conn.timestamp_tcp_setup, conn.timestamp_tls_setup,
        conn.address, conn.peername, conn.sockname, conn.sni, conn.error, conn.alpn, conn.tls, conn.via,
    )  # fmt: skip
    return _connection(conn, state)


def _connection(conn: connection.Connection, state: tuple[Any, ...]) -> bytes:
    kept = vars(conn).get(_KEPT)
    if kept is not None and kept[0] == conn.id and kept[1] == state:
        return bytes(kept[2])
    encoded = tnetstring.dumps(conn.get_state())
    vars(conn)[_KEPT] = conn.id, state, encoded  # mitmproxy saves and copies no field but those that it declares
    return encoded


def _trailers(data: Any, headers: Headers | None, trailers: Headers | None) -> bytes:
    if trailers is None and headers is None and data.trailers is not None:
        trailers = data.trailers.fields
    return _headers(trailers)


def _message(data: Any, headers: Headers | None, body: bytes | None, trailers: Headers | None) -> tuple[bytes, ...]:
    """What a request's and a response's states begin with."""
    return (
        b"12:http_version;",
        _raw(data.http_version),
        b"7:headers;",
        _headers(data.headers.fields if headers is None else headers),
        b"7:content;",
        _body(body),
        b"8:trailers;",
        _trailers(data, headers, trailers),
        b"15:timestamp_start;",
        _number(data.timestamp_start),
        b"13:timestamp_end;",
        _number(data.timestamp_end),
    )


def _request(
    data: Any, headers: Headers | None, body: bytes | None, path: bytes | None, trailers: Headers | None
) -> bytes:
    inner = b"".join(
        (
            *_message(data, headers, body, trailers),
            b"4:host;",
            _text(data.host),
            b"4:port;",
            _number(data.port),
            b"6:method;",
            _raw(data.method),
            b"6:scheme;",
            _raw(data.scheme),
            b"9:authority;",
            _raw(data.authority),
            b"4:path;",
            _raw(data.path if path is None else path),
        )
    )
    return b"%d:%b}" % (len(inner), inner)


def _response(data: Any, headers: Headers | None, body: bytes | None, trailers: Headers | None) -> bytes:
    inner = b"".join(
        (
            *_message(data, headers, body, trailers),
            b"11:status_code;",
            _number(data.status_code),
            b"6:reason;",
            _raw(data.reason),
        )
    )
    return b"%d:%b}" % (len(inner), inner)


def decode(frame: bytes) -> dict[str, Any]:
    """A frame as the state of its flow. StoreError if it is not a whole frame of this format."""
    try:
        state, rest = tnetstring.pop(memoryview(frame))
    except (ValueError, TypeError, IndexError, RecursionError):
        raise StoreError("not a frame: the tnetstring is broken") from None
    if not isinstance(state, dict) or len(rest) or state.get("version") != FLOW_FORMAT:
        raise StoreError(f"not one frame of flow format {FLOW_FORMAT}")
    return state


def flow_id(frame: bytes) -> str:
    """The id of a frame's flow; empty if it is not a frame."""
    try:
        return str(decode(frame).get("id", ""))
    except StoreError:
        return ""


def whole_frames(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each whole frame in the data begins and ends, up to the first that is not whole."""
    at = 0
    while True:
        colon = data.find(b":", at, at + 13)
        if colon <= at or not data[at:colon].isdigit():
            return
        end = colon + 1 + int(data[at:colon]) + 1
        if end > len(data) or data[end - 1 : end] != b"}":
            return
        yield at, end
        at = end


def restate(state: Mapping[str, Any]) -> bytes:
    """A flow's state as a frame."""
    return tnetstring.dumps(dict(state))


def har_entry(state: dict[str, Any]) -> dict[str, Any]:
    """A flow's state as mitmproxy's own HAR entry, a binary request body in base64. StoreError if it is no flow."""
    from mitmproxy.addons.savehar import SaveHar
    from mitmproxy.flow import Flow
    from mitmproxy.http import HTTPFlow

    content = state["request"]["content"] or b""
    try:
        flow = Flow.from_state(state)
        if not isinstance(flow, HTTPFlow):
            raise StoreError("not an HTTP flow")
        entry: dict[str, Any] = SaveHar().flow_entry(flow, set())
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise StoreError(f"a frame that is not a flow: {error}") from None
    post = entry["request"].get("postData")
    if post is not None:
        try:
            content.decode()
        except UnicodeDecodeError:
            post.update(text=base64.b64encode(content).decode(), encoding="base64", params=[])
    return entry
