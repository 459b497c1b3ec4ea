"""Tables, ranges and masks on their way back."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
from pathlib import Path
from unittest import mock
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_tools import aws_secret, call, github, headers, masker, shipped

from flowwarden.errors import Refusal
from flowwarden.masking import ranges, writeback
from flowwarden.masking.model import Mask
from flowwarden.masking.replacing import mask_for, mask_of_length
from flowwarden.masking.tables import TableCore
from flowwarden.masking.values import Run
from flowwarden.types import Request

CELLS = st.text(alphabet='abc ,"\n\té', max_size=12)


class _Through:
    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=12),
    st.lists(st.integers(0, 5000), max_size=6),
    st.sampled_from(",\t"),
)
def test_masking_tables_any_split(rows: list[tuple[str, str, str]], cuts: list[int], separator: str) -> None:
    """The cells of the masked column, and no others, as Python's own reader sees them; lengths stay."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\r\n")
    writer.writerows([("id", "email", "note"), *rows])
    body = out.getvalue().encode()
    core = TableCore(_Through(), Run(same_length=True), [Mask("m", columns=("email",))], separator.encode())
    ends = sorted({cut % (len(body) + 1) for cut in cuts})
    made = b"".join([core.feed(body[a:b]) for a, b in zip([0, *ends], [*ends, len(body)], strict=True)]) + core.finish()
    assert len(made) == len(body)
    read = list(csv.reader(io.StringIO(made.decode(), newline=""), delimiter=separator))
    assert [(r[0], r[2]) for r in read[1:]] == [(r[0], r[2]) for r in rows]
    assert all(set(r[1]) <= set("*[]MASKED:m") for r in read[1:])


def test_masking_csv_object_and_answer(tmp_path: Path) -> None:
    """An S3 object by its key, an answer by its type; patterns run over the other cells."""
    mask = masker(tmp_path, "include: [tokens]\nmasks:\n  - {id: m, columns: [email]}\n")
    body = f"id,email,note\n1,ada@example.com,{github()}\n2,,x\n".encode()
    called = call("s3:GetObject", "rest-xml", params={"Bucket": "b", "Key": "a/users.CSV"})
    out = mask.mask_answer(called, 200, headers("binary/octet-stream"), body)
    assert out.body == b"id,email,note\n1,[MASKED:m*****],[MASKED:github-token" + b"*" * 19 + b"]\n2,,x\n"
    out = mask.mask_answer(call(), 200, headers("text/csv"), body)
    assert out.body == b"id,email,note\n1,[MASKED:m],[MASKED:github-token]\n2,,x\n"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 300), st.sampled_from(["both", "open", "suffix"]))
def test_masking_range_is_a_slice_of_the_masked_whole(first: int, length: int, form: str) -> None:
    """Whatever part is asked for, it is what a client that fetched the masked whole would have cut out."""
    object_call = call("s3:GetObject", "rest-xml")
    body = b"".join(b"line %d %b\n" % (n, github(n).encode() if n % 7 == 0 else b"-" * 30) for n in range(70))
    whole = shipped().mask_answer(object_call, 200, headers("text/plain"), body).body
    first = min(first, len(body) - 1)
    last = min(first + length, len(body) - 1)
    value = {"both": f"bytes={first}-{last}", "open": f"bytes={first}-", "suffix": f"bytes=-{length + 1}"}[form]
    part = ranges.asked(value)
    assert part is not None
    with mock.patch.object(ranges, "NEAR_START", 0):  # the margin alone has to do
        wide = ranges.asked(ranges.widened(part, 200))
    assert wide is not None
    start = max(0, len(body) - wide.suffix) if wide.first is None else wide.first
    end = len(body) if wide.last is None else min(len(body), wide.last + 1)
    upstream = headers(
        "text/plain", content_range=f"bytes {start}-{end - 1}/{len(body)}", content_length=str(end - start)
    )
    masked = shipped().mask_answer(object_call, 206, upstream, body[start:end])
    cut = ranges.Cut(part, f"bytes {start}-{end - 1}/{len(body)}")
    expected = {"both": whole[first : last + 1], "open": whole[first:], "suffix": whole[-(length + 1) :]}[form]
    assert cut.feed(masked.body[:50]) + cut.feed(masked.body[50:]) == expected
    assert dict(cut.headers(upstream))[b"content-length"] == b"%d" % len(expected)


@pytest.mark.parametrize("value", ["bytes=5-2", "bytes=-", "items=1-2", "bytes=1-2,4-5", ""])
def test_masking_range_that_is_none(value: str) -> None:
    """What S3 answers with the whole object."""
    assert ranges.asked(value) is None


@pytest.mark.parametrize("value", ["", "bytes 0-5/*", "bytes 10-20/30"])
def test_masking_range_answer_that_does_not_fit(value: str) -> None:
    """An answer that is not the part is refused."""
    with pytest.raises(Refusal):
        ranges.Cut(ranges.Part(0, 5), value)


MASK = Mask("aws-secret-key")
FORMS = {
    "redacted": mask_for(MASK, b"x" * 40, b""),
    "hashed": mask_for(Mask("a", replace="hash"), aws_secret().encode(), b"key"),
    "partial": mask_for(Mask("a", replace="partial"), aws_secret().encode(), b""),
    "same length": mask_of_length(MASK, 40),
    "short": mask_of_length(MASK, 12),
}
WRITTEN = {
    "plain": lambda mask: b"x=" + mask,
    "json": lambda mask: json.dumps({"a": mask.decode()}).encode(),
    "json in json": lambda mask: json.dumps({"a": json.dumps({"b": mask.decode()})}).encode(),
    "form": lambda mask: b"Body=" + quote(mask).encode(),
    "base64": lambda mask: json.dumps({"Data": base64.b64encode(b"abc" + mask).decode()}).encode(),
    "base64 shifted": lambda mask: base64.b64encode(b"ab" + mask),
    "gzip": gzip.compress,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("written", WRITTEN)
def test_masking_masks_are_found_in_requests(form: str, written: str) -> None:
    """Every form of mask, in every way an agent may send it back."""
    coding = ((b"content-encoding", b"gzip"),) if written == "gzip" else ()
    request = Request("PUT", "https", "s3.amazonaws.com", 443, "/b/k", coding, WRITTEN[written](FORMS[form]))
    assert writeback.contains_mask(request)


def test_masking_ordinary_requests_have_no_mask() -> None:
    """Talk of masks, an empty body, a streaming body."""
    for body in (
        b"",
        None,
        b"MASKED",
        b"[MASKED",
        b'{"a": "[masked:x]"}',
        base64.b64encode(b"nothing to see here at all"),
    ):
        assert not writeback.contains_mask(Request("PUT", "https", "h", 443, "/k?a=b", (), body))
    assert writeback.contains_mask(Request("GET", "https", "h", 443, "/k?a=%5BMASKED%3Ax%5D", (), b""))


def test_masking_objects_seen_masked_are_not_overwritten() -> None:
    """Only in the session that saw the mask, only that object, until the session ends."""
    live = {"s1", "s2"}
    seen = writeback.MaskedObjects(live.__contains__)
    params = {"Bucket": "b", "Key": "k"}
    seen.remember("s1", call("s3:GetObject", params=params))
    put = call("s3:PutObject", params=params)
    assert seen.would_overwrite("s1", put) and not seen.would_overwrite("s2", put)
    assert not seen.would_overwrite("s1", call("s3:PutObject", params={"Bucket": "b", "Key": "other"}))
    assert not seen.would_overwrite("s1", call("s3:GetObject", params=params))
    live.remove("s1")
    seen.forget("s1")
    assert not seen.would_overwrite("s1", put)
    seen.remember("s1", call("s3:GetObject", params=params))  # an answer that was late
    assert not seen.would_overwrite("s1", put)


def test_masking_replacements() -> None:
    """hash is stable within a session and differs between sessions, and falls back to redact where it would be an oracle."""
    secret = aws_secret().encode()
    hashed = Mask("a", replace="hash")
    assert mask_for(hashed, secret, b"one") == mask_for(hashed, secret, b"one") != mask_for(hashed, secret, b"two")
    for value, key in ((b"yes", b"one"), (b"1234567890", b"one"), (secret, b"")):
        assert mask_for(hashed, value, key) == b"[MASKED:a]"
    assert mask_for(Mask("a", replace="partial"), secret, b"") == b"[MASKED:a:*" + secret[-4:] + b"]"
    assert mask_for(Mask("a", replace="partial"), b"short1234", b"") == b"[MASKED:a]"
    assert [len(mask_of_length(MASK, n)) for n in range(50)] == list(range(50))
