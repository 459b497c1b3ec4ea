"""What leaves for a host that is not signed: a part of an answer could split a secret, so all of it is asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from mitmproxy.test import tflow

from flowwarden import access
from flowwarden.signing.addon import Sign
from flowwarden.types import Call, Decision, Request

RANGE = ((b"Range", b"bytes=0-9"), (b"If-Range", b'"a"'))


@pytest.mark.parametrize(("mask", "left"), [(True, set()), (False, {b"range", b"if-range"})])
def test_a_range_is_asked_for_only_where_nothing_is_masked(mask: bool, left: set[bytes]) -> None:
    flow = tflow.tflow()
    owner = access.of(flow)
    head = ((b"Host", b"packages.example.com"), *RANGE)
    owner.request = Request("GET", "https", "packages.example.com", 443, "/simple/a", head)
    owner.call = Call(aws=False)
    owner.decision = Decision("allow", ("packages",), "", "", mask=mask)
    signed = Sign(cast(Any, SimpleNamespace())).sign(flow)
    assert {name.lower() for name, _ in signed.headers.fields} & {b"range", b"if-range"} == left
