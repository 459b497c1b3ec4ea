"""Mutated real requests: nothing but a decision or a refusal comes out, and nothing unknown is allowed."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from test_policy_wire import HOME, SHIPPED, STRANGERS, sent

from flowwarden.errors import Refusal
from flowwarden.policy.accounts import amendments, outside
from flowwarden.policy.ruleset import RuleSet, load
from flowwarden.recognition.recogniser import Recogniser
from flowwarden.types import Principal, Request

DEVELOPER = Principal("https://idp", "me", groups=frozenset({"developers"}))
GUEST = Principal("https://idp", "me", groups=frozenset({"guests"}))
OWN = "123456789012"
_BYTES = st.sampled_from([b"", b"\x00", b"%", b"%2F", b"%00", b"..", b"//", b"&", b"=", b'"', b"{", b"]", b"\xff", b"&Action=DeleteUser",
                          b"Action=X&", b"?delete", b"?acl", b"&versionId=", b"\xe2\x80\xae", b"A" * 200])  # fmt: skip
_HEADERS = st.sampled_from(
    [(b"x-http-method-override", b"DELETE"), (b"x-amz-target", b"IAM.DeleteUser"), (b"content-encoding", b"gzip"), (b"content-type", b"x"),
     (b"content-type", b"application/json"), (b"transfer-encoding", b"chunked"), (b"x-amz-acl", b"public-read"),
     (b"x-amz-copy-source", b"/b/%"), (b"host", b"iam.amazonaws.com"), (b"smithy-protocol", b"rpc-v2-cbor")]
)  # fmt: skip


@cache
def _parts() -> tuple[RuleSet, Recogniser, tuple[Request, ...]]:
    calls = [(service, operation, params) for service, operation, params in HOME + STRANGERS]
    calls += [(service, operation, params) for _, service, operation, params, _ in SHIPPED]
    return load(Path(__file__).parents[2] / "rules"), Recogniser(), tuple(sent(*each) for each in calls[::3])


def _spliced(data: bytes, at: int, cut: int, put: bytes) -> bytes:
    at %= len(data) + 1
    return data[:at] + put + data[at + cut :]


@st.composite
def _mutated(draw: st.DrawFn) -> Request:
    request = draw(st.sampled_from(_parts()[2]))
    method, host, target, headers, body = (
        request.method,
        request.host,
        request.target,
        list(request.headers),
        request.body,
    )
    for kind in draw(
        st.lists(
            st.sampled_from(["target", "body", "method", "drop", "add", "host", "value", "unread"]),
            min_size=1,
            max_size=3,
        )
    ):
        at, cut, put = draw(st.integers(0, 10_000)), draw(st.integers(0, 6)), draw(_BYTES)
        if kind == "target":
            target = "/" + _spliced(target.encode("latin-1"), at, cut, put).decode("latin-1").lstrip("/")
        elif kind == "body":
            body = _spliced(body or b"", at, cut, put)
        elif kind == "method":
            method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "get", ""]))
        elif kind == "drop" and headers:
            headers.pop(at % len(headers))
        elif kind == "add":
            headers.insert(at % (len(headers) + 1), draw(_HEADERS))
        elif kind == "host":
            host = draw(
                st.sampled_from(
                    [
                        "iam.amazonaws.com",
                        "example.com",
                        "s3.amazonaws.com",
                        "x.eu-west-1.amazonaws.com",
                        "10.0.0.1",
                        "",
                    ]
                )
            )
        elif kind == "value" and headers:
            name, value = headers[at % len(headers)]
            headers[at % len(headers)] = (name, _spliced(value, at, cut, put))
        elif kind == "unread":
            body = None
    return Request(method, "https", host, 443, target, tuple(headers), body)


@settings(max_examples=20_000 if os.environ.get("FLOWWARDEN_SOAK") else 500, deadline=None)
@given(st.data())
def test_no_mutation_raises_anything_but_a_refusal_and_the_unknown_is_denied(data: st.DataObject) -> None:
    rules, recogniser, _ = _parts()
    request = data.draw(_mutated())
    try:
        call = recogniser.recognise(request, OWN)
        decision = rules.decide(DEVELOPER, call, request, None)
        outside(call, request, frozenset({OWN}))
        amendments(call, request, OWN)
        rules.explain(DEVELOPER, call, request)
        assert decision.effect != "allow" or (call.operation is not None and all(each.levels for each in call.actions))
        assert decision.effect != "approve" or call.operation is not None
        guest = rules.decide(GUEST, call, request, None)
        assert guest.effect == "deny" or str(call.operation) == "sts:GetCallerIdentity"
    except Refusal:
        pass
