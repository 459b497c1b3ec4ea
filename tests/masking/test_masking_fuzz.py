"""Whatever comes, the answer is masked or refused: no other error, no damage to what is clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_tools import call, github, headers, masker, shipped

from flowwarden.errors import Refusal
from flowwarden.masking.masker import Masker
from flowwarden.masking.sent import Sent

TYPES = [
    *(
        "application/json",
        "text/xml",
        "application/cbor",
        "application/x-www-form-urlencoded",
        "text/plain",
        "text/csv",
    ),
    *(
        "text/event-stream",
        "application/vnd.amazon.eventstream",
        "application/x-ndjson",
        "application/octet-stream",
        "",
    ),
    *("text/plain; charset=utf-16", "application/json; charset=utf-16", "multipart/mixed", "image/png"),
]
CALLS = [
    "",
    "logs:GetLogEvents",
    "s3:GetObject",
    "sqs:ReceiveMessage",
    "rds-data:ExecuteStatement",
    "dynamodb:Query",
    "ssm:GetParameter",
]
TOKEN = github()
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.sampled_from([TOKEN, "password=Xy7zAb12q", "JSON"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=20,
)
PIECES = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from(
            [
                TOKEN.encode(),
                b"password=",
                b'{"a":',
                b"<a>",
                b"</a>",
                b"%41",
                b"data: ",
                b"\n\n",
                b'"',
                b"\\u0041",
                b"\xff\xfe",
            ]
        ),
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(TYPES), st.sampled_from(CALLS), st.sampled_from(["", "gzip", "br", "zstd", "deflate", "x"]), PIECES
)
def test_masking_any_bytes_are_masked_or_refused(content_type: str, operation: str, coding: str, body: bytes) -> None:
    """Random bytes under every type: the only error is a refusal, and never because masking itself failed."""
    more = {"content_encoding": coding} if coding else {}
    try:
        shipped().mask_answer(call(operation), 200, headers(content_type, **more), body)
    except Refusal as refusal:
        assert refusal.code != "MaskFailed", refusal.__cause__  # noqa: PT017


@settings(max_examples=200, deadline=None)
@given(JSON, st.sampled_from(CALLS), st.booleans())
def test_masking_json_stays_json(tree: object, operation: str, ascii_only: bool) -> None:
    """Any JSON stays JSON of the same shape, with no token left, and unchanged bytes where nothing was found."""
    body = json.dumps({"tree": tree}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        body.decode()
    except UnicodeDecodeError:
        return
    out = shipped().mask_answer(call(operation), 200, headers("application/json"), body)
    assert TOKEN.encode() not in out.body
    if out.counts:
        assert _shape(json.loads(out.body)) == _shape(json.loads(body))
    else:
        assert out.body is body


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return [_shape(inner) for inner in value.values()]
    if isinstance(value, list):
        return [_shape(inner) for inner in value]
    return type(value).__name__ if isinstance(value, str | bool) or value is None else "number"


def test_masking_failure_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception within masking: 502, and nothing of the request in the recording."""
    monkeypatch.setattr(Masker, "_body", lambda *_: 1 / 0)
    monkeypatch.setattr(Sent, "_request_body", lambda *_: 1 / 0)
    with pytest.raises(Refusal) as refused:
        shipped().mask_answer(call(), 200, headers("text/plain"), b"x")
    assert (refused.value.status, refused.value.code) == (502, "MaskFailed")
    recorded = shipped().mask_request_for_recording(call(), headers("text/plain"), b"secret")
    assert recorded.body == b"[MASKED:unreadable]" and recorded.headers == () and not recorded.inspected


def test_masking_fields_in_dotenv_text(tmp_path: Path) -> None:
    """Lines NAME=value of a field's name, in text, in objects (same length) and in strings of JSON."""
    mask = masker(tmp_path, "masks:\n  - {id: m, fields: [DB_PASS, 'deep.x']}\n")
    text = b"A=1\nexport DB_PASS=hunter2\nDB_PASS='it is me'\nDB_PASS=$OTHER\nMY_DB_PASS=no\n"
    assert mask.mask_answer(call(), 200, headers("text/plain"), text).body == (
        b"A=1\nexport DB_PASS=[MASKED:m]\nDB_PASS='[MASKED:m]'\nDB_PASS=$OTHER\nMY_DB_PASS=no\n"
    )
    out = mask.mask_answer(call("s3:GetObject", "rest-xml"), 200, headers("text/plain"), text)
    assert len(out.body) == len(text) and b"hunter2" not in out.body and out.counts == {"m": 2}
    body = json.dumps({"log": text.decode()}).encode()
    assert b"hunter2" not in mask.mask_answer(call("logs:GetLogEvents"), 200, headers(), body).body
