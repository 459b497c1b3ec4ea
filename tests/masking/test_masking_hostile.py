"""Bodies made to hurt: each ends soon, refused or masked, and never passes as it is where it holds a secret."""

from __future__ import annotations

import gzip
import sys
import time
from pathlib import Path

import pytest
from masking_tools import call, shipped

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import masking as bench_masking
from flowwarden.errors import Refusal

HOSTILE = bench_masking.hostile()
REFUSED = {
    "deep arrays",
    "deep objects",
    "gzip bomb",
    "deflate bomb",
    "brotli bomb",
    "gzip twice",
    "entity bomb",
    "cbor deep",
}


def test_masking_hostile_bodies_are_forty() -> None:
    """Forty of them or more."""
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize("name", HOSTILE)
def test_masking_hostile_body_ends_soon(name: str) -> None:
    """It ends, and soon; a refusal is a 502 of this station."""
    content_type, coding, body = HOSTILE[name]
    headers = ((b"content-type", content_type.encode()),)
    headers += ((b"content-encoding", coding.encode()),) if coding else ()  # type: ignore[assignment]
    started = time.process_time()
    refused: Refusal | None = None
    try:
        shipped().mask_answer(call(), 200, headers, body)
    except Refusal as refusal:
        refused = refusal
    assert time.process_time() - started < 20.0  # two seconds on a machine of its own: make bench measures that
    assert refused is None or (refused.status, refused.station) == (502, "mask")
    assert refused is not None or name not in REFUSED


@pytest.mark.parametrize("name", ["base64 runs", "character references", "escapes", "percents", "million keys"])
def test_masking_hostile_body_in_a_packed_object(name: str) -> None:
    """What a few kilobytes decode to is searched within the same bounds."""
    body = gzip.compress(HOSTILE[name][2])
    started = time.process_time()
    try:
        out = shipped().mask_answer(call("s3:GetObject", "rest-xml"), 200, ((b"content-type", b"text/plain"),), body)
        assert len(out.body) == len(body)
    except Refusal as refusal:
        assert refusal.code in {"CompressedSecret", "MaskTimeout"}  # noqa: PT017
    assert time.process_time() - started < 3.0
