"""Event streams, Server-Sent Events and CBOR: masked within and across their borders, still readable by their clients."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

import botocore.eventstream
import cbor2
import pytest
from awscrt.eventstream import Header
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_tools import alnum, call, github, headers, shipped

from flowwarden.errors import Refusal
from flowwarden.masking import frames

BEDROCK = call("bedrock-runtime:InvokeModelWithResponseStream", "rest-json")
EVENTS = "application/vnd.amazon.eventstream"


def _frame(payload: bytes, kind: str = "chunk", content_type: str = "application/json") -> bytes:
    heads = [
        (b":event-type", 7, kind.encode()),
        (b":content-type", 7, content_type.encode()),
        (b":message-type", 7, b"event"),
    ]
    return frames.build(heads, payload)


def _read(stream: bytes) -> list[bytes]:
    """botocore's own reader, which checks every CRC."""
    buffer = botocore.eventstream.EventStreamBuffer()
    buffer.add_data(stream)
    return [event.payload for event in buffer]


def _pieces(text: str, size: int) -> Iterable[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def _run(content_type: str, chunks: list[bytes], called: object = BEDROCK) -> tuple[bytes, dict[str, int]]:
    stream = shipped().stream(called, 200, headers(content_type))  # type: ignore[arg-type]
    assert stream is not None
    out = b"".join([stream.feed(chunk) for chunk in chunks]) + stream.finish()
    return out, dict(stream.counts)


@pytest.mark.parametrize("size", [1, 3, 17, 400])
def test_masking_events_bedrock_words_across_messages(size: int) -> None:
    """A token that a model says in pieces, each in base64 in JSON in its own message."""
    text = f"Here is the token: {github()} and that is all there is to say about it."
    body = b"".join(
        _frame(
            json.dumps({"bytes": base64.b64encode(json.dumps({"delta": {"text": piece}}).encode()).decode()}).encode()
        )
        for piece in _pieces(text, size)
    )
    out, counts = _run(EVENTS, [body[i : i + 100] for i in range(0, len(body), 100)])
    said = "".join(json.loads(base64.b64decode(json.loads(p)["bytes"]))["delta"]["text"] for p in _read(out))
    assert said == text.replace(github(), "[MASKED:github-token]")
    assert counts == {"github-token": 1}


def test_masking_events_converse_and_exceptions() -> None:
    """Text in plain JSON messages, and a secret in an exception message, in a whole answer."""
    parts = ["key ", github()[:11], github()[11:], " ok, so much for the key"]
    body = b"".join(
        _frame(json.dumps({"contentBlockIndex": 0, "delta": {"text": p}, "p": "ab"}).encode()) for p in parts
    )
    body += _frame(json.dumps({"message": f"bad {github(2)}"}).encode(), "modelStreamErrorException")
    out = shipped().mask_answer(BEDROCK, 200, headers(EVENTS), body)
    said = [json.loads(p) for p in _read(out.body)]
    assert "".join(m["delta"]["text"] for m in said[:4]) == "key [MASKED:github-token] ok, so much for the key"
    assert said[4] == {"message": "bad [MASKED:github-token]"}


def test_masking_events_s3_select_records() -> None:
    """Records messages hold raw text that may be cut anywhere."""
    rows = f"1,alice,{github(5)}\n2,bob,none\n" * 3
    body = b"".join(_frame(p.encode(), "Records", "application/octet-stream") for p in _pieces(rows, 29))
    out, counts = _run(EVENTS, [body], call("s3:SelectObjectContent", "rest-xml"))
    assert b"".join(_read(out)).decode() == rows.replace(github(5), "[MASKED:github-token]")
    assert counts == {"github-token": 3}


def test_masking_events_clean_passes_byte_for_byte() -> None:
    """Messages without a secret keep their bytes, binary ones too."""
    body = _frame(b'{"delta": {"text": "hello world, how are you"}}') + _frame(
        bytes(range(256)), "AudioEvent", "audio/pcm"
    )
    assert shipped().mask_answer(BEDROCK, 200, headers(EVENTS), body).body is body


@pytest.mark.parametrize("at", [0, 9, 30, -1])
def test_masking_events_bad_crc_is_refused(at: int) -> None:
    """A message that was altered is refused, and so is one that is cut off."""
    body = bytearray(_frame(b'{"delta": {"text": "hello"}}'))
    body[at] ^= 1
    for broken in (bytes(body), _frame(b"{}")[:-3]):
        with pytest.raises(Refusal):
            shipped().mask_answer(BEDROCK, 200, headers(EVENTS), broken)


def test_masking_frames_are_those_of_the_aws_runtime() -> None:
    """Every header type is read as AWS's own C runtime writes it, and written again the same."""
    made = [
        Header.from_bool("t", True),
        Header.from_int32("n", -5),
        Header.from_string("s", "ü"),
        Header.from_byte_buf("b", b"\1"),
    ]
    assert [h.name for h in made] == ["t", "n", "s", "b"]
    heads = [(b"t", 0, b""), (b"n", 4, b"\xff\xff\xff\xfb"), (b"s", 7, "ü".encode()), (b"b", 6, b"\1")]
    raw = frames.build(heads, b"x")
    buffer = botocore.eventstream.EventStreamBuffer()
    buffer.add_data(raw)
    assert next(iter(buffer)).headers == {"t": True, "n": -5, "s": "ü", "b": b"\1"}
    assert frames.Reader().feed(raw)[0].heads == heads


def _sse(pieces: Iterable[str], end: str = "\n\n") -> bytes:
    lines = [
        "event: delta" + end[: len(end) // 2] + "data: " + json.dumps({"choices": [{"delta": {"content": p}}]})
        for p in pieces
    ]
    return (end.join([*lines, "data: [DONE]"]) + end).encode()


def _said(stream: bytes) -> str:
    found = []
    for line in stream.decode().replace("\r\n", "\n").split("\n"):
        if line.startswith("data: {"):
            found.append(json.loads(line[6:])["choices"][0]["delta"]["content"])
    return "".join(found)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(0, 100_000), max_size=8), st.sampled_from(["\n\n", "\r\n\r\n"]))
def test_masking_sse_any_split(size: int, cuts: list[int], end: str) -> None:
    """A token over any number of events, and events over any number of chunks."""
    text = f"so: password = Xy7{alnum(9)} and {github(3)} here, that is all of it my friend"
    body = _sse(_pieces(text, size), end)
    ends = sorted({cut % (len(body) + 1) for cut in cuts})
    out, _ = _run("text/event-stream", [body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True)], call())
    said = _said(out)
    assert said == "so: password = [MASKED:generic-secret] and [MASKED:github-token] here, that is all of it my friend"
    assert out.endswith(b"data: [DONE]" + end.encode())


def test_masking_sse_is_not_held_for_long() -> None:
    """Ordinary words leave some words behind the newest, and all at the end."""
    stream = shipped().stream(call(), 200, headers("text/event-stream"))
    assert stream is not None
    words = [f"word{n} " for n in range(50)]
    given = ""
    for n, word in enumerate(words):
        given += _said(stream.feed(_sse([word]).split(b"data: [DONE]")[0]))
        assert len(given.split()) >= n - 4
    assert given + _said(stream.finish()) == "".join(words)


def test_masking_sse_plain_data_and_comments() -> None:
    """Events that are no JSON, comments, ids and keep-alives pass; a token in plain data does not."""
    body = b": keep-alive\n\nid: 7\ndata: one\ndata: two\n\n" + f"data: {github()}\n\n".encode()
    out, _ = _run("text/event-stream", [body], call())
    assert out == b": keep-alive\n\nid: 7\ndata: one\ndata: two\n\ndata: [MASKED:github-token]\n\n"


CBOR = call("cloudwatch:GetMetricData", "smithy-rpc-v2-cbor")
LEAVES = st.one_of(
    st.text(max_size=40), st.binary(max_size=40), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)
)
TREES = st.recursive(
    LEAVES, lambda t: st.one_of(st.lists(t, max_size=4), st.dictionaries(st.text(max_size=9), t, max_size=4))
)


@settings(max_examples=80, deadline=None)
@given(TREES, st.booleans())
def test_masking_cbor_leaves_the_rest_as_it_is(tree: object, indefinite: bool) -> None:
    """Whatever stands around a token, only the token changes, as an independent decoder reads it."""
    value = {"before": tree, "it": ["x " + github() + " y", github().encode()], "after": tree}
    body = cbor2.dumps(value, indefinite_containers=indefinite)
    out = shipped().mask_answer(CBOR, 200, headers("application/cbor"), body)
    read = cbor2.loads(out.body)
    assert read == {"before": tree, "it": ["x [MASKED:github-token] y", b"[MASKED:github-token]"], "after": tree}


def test_masking_cbor_fields_and_chunked_strings() -> None:
    """A field by name, and a token cut into the chunks of an indefinite string."""
    token = github()
    chunked = b"\x7f" + cbor2.dumps(token[:9]) + cbor2.dumps(token[9:]) + b"\xff"
    body = b"\xa2" + cbor2.dumps("dbPassword") + cbor2.dumps("short") + cbor2.dumps("t") + chunked
    out = shipped().mask_answer(CBOR, 200, headers("application/cbor"), body)
    assert cbor2.loads(out.body) == {"dbPassword": "[MASKED:secret-fields]", "t": "[MASKED:github-token]"}


@pytest.mark.parametrize(
    "body", [b"\xa1", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", b"\x81" * 5000, b"\x7f\x61a", b"\x00\x00", b"\xff"]
)
def test_masking_cbor_broken_is_refused(body: bytes) -> None:
    """Broken, endless and too deep documents are refused."""
    with pytest.raises(Refusal):
        shipped().mask_answer(CBOR, 200, headers("application/cbor"), body)
