"""Lookups in a head give what mitmproxy's own give, which are still there beneath."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.coretypes.multidict import _MultiDict

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
