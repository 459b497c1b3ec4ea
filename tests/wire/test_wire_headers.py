"""Lookups in a head give what mitmproxy's own give, which are still there beneath."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.coretypes.multidict import _MultiDict
from mitmproxy.proxy.layers import http as layers_http
from mitmproxy.proxy.layers.http import _http1

from flowwarden.wire import headers

NAMES = st.sampled_from([b"Host", b"host", b"HOST", b"X-Amz-Date", b"x-amz-datE", b"K\xff", b"\xc3\x84", b""])
ASKED = st.one_of(NAMES, st.sampled_from(["host", "Host", "x-amz-date", "none", "k\udcff", "Ä", ""]))


def plain(name: str | bytes) -> bytes:
    return name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name


@given(st.lists(st.tuples(NAMES, st.binary(max_size=4)), max_size=6), ASKED)
def test_every_lookup_is_as_mitmproxys(fields: list[tuple[bytes, bytes]], name: str | bytes) -> None:
    headers.install()
    head = http.Headers(fields)
    wanted = [value.decode("utf-8", "surrogateescape") for value in _MultiDict.get_all(head, plain(name))]
    assert head.get_all(name) == wanted
    assert head.get(name) == (", ".join(wanted) if wanted else None)
    assert head.get(name, "other") == (", ".join(wanted) if wanted else "other")
    assert (name in head) is bool(wanted)


SIZES = st.sampled_from(
    [
        (b"Content-Length", b"5"),
        (b"content-length", b"0"),
        (b"Content-Length", b"7"),
        (b"Content-Length", b"x"),
        (b"Content-Length", b"-1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Transfer-Encoding", b"gzip"),
        (b"Transfer-Encoding", b"identity"),
        (b"Transfer-Encoding", b"bogus"),
        (b"Host", b"h"),
    ]
)
HEADS = st.lists(SIZES, max_size=3)


def told(size: Callable[..., int | None], request: http.Request, response: http.Response | None) -> object:
    try:
        return size(request, response)
    except ValueError as error:
        return str(error)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["GET", "HEAD", "CONNECT", "PUT"]), st.sampled_from([200, 204, 304, 404, 101]), HEADS
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_a_bodys_size_is_as_mitmproxys(
    changes: list[tuple[str, int, list[tuple[bytes, bytes]]]], answers: bool
) -> None:
    """Asked twice of each state of one message, and of what it was changed to."""
    request, response = http.Request.make("GET", "http://h/"), http.Response.make(200)
    for method, status, fields in changes:
        request.method, response.status_code = method, status
        (response if answers else request).headers.fields = tuple(fields)
        for _ in range(2):
            answer = response if answers else None
            wanted = told(headers._read, request, answer)
            assert told(headers.expected_body_size, request, answer) == wanted
            assert told(headers.expected_body_size, request.copy(), answer and answer.copy()) == wanted


def test_mitmproxy_asks_here() -> None:
    headers.install()
    assert headers._read is not headers.expected_body_size
    assert _http1.http1.expected_http_body_size is headers.expected_body_size
    assert layers_http.expected_http_body_size is headers.expected_body_size
