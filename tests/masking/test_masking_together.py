"""A head and a small body are searched in one go, and short texts once: nothing may come through that either would stop."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_tools import alnum, aws_secret, call, github, headers, shipped

from flowwarden.masking import masker as module
from flowwarden.masking.model import Masked

WORDS = st.sampled_from(
    [
        "running",
        "0123456789ABCDEF0123456789ABCDEF",
        github(3),
        base64.b64encode(f"note {github(4)} end".encode()).decode(),
        "aws_secret_access_key=" + aws_secret(),
        "AKIA" + "Q" * 16,
        aws_secret(9),
        "password",
        "Xy7" + alnum(9),
        '{"password": "geheim123"}',
        "%67hp_" + alnum(36, 5),
        "",
    ]
)
CASES = [
    (call("dynamodb:GetItem"), "application/x-amz-json-1.0", lambda words: json.dumps({"items": words}).encode()),
    (call("sts:GetCallerIdentity", "query"), "text/xml", lambda words: f"<r>{' '.join(words)}</r>".encode()),
    (call(), "text/plain; charset=utf-8", lambda words: "\n".join(words).encode()),
    (call(), "application/x-www-form-urlencoded", lambda words: "&".join(f"a={word}" for word in words).encode()),
]


@pytest.mark.parametrize("case", CASES, ids=[case[1] for case in CASES])
@given(fields=st.lists(WORDS, max_size=3), words=st.lists(WORDS, max_size=3))
@settings(max_examples=60, deadline=None)
def test_together_is_as_one_after_the_other(case, fields: list[str], words: list[str]) -> None:
    asked, content_type, write = case
    body = write(words)
    head = headers(content_type, **{f"x_{number}": value for number, value in enumerate(fields)})

    def both() -> tuple[Masked, Masked]:
        return (
            shipped().mask_answer(asked, 200, head, body),
            shipped().mask_request_for_recording(asked, head, body),
        )

    together = both()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TOGETHER", -1)
        assert both() == together
    for made in together:
        if github(3) in fields:
            assert github(3).encode() not in b"".join(value for _, value in made.headers)
        if github(3) in words:
            assert github(3).encode() not in made.body


def test_short_texts_are_remembered_only_where_they_hold_nothing() -> None:
    masker = shipped()
    hidden = masker.mask_text(f"/path?token={github()}")
    assert github() not in hidden
    assert masker.mask_text(f"/path?token={github()}") == hidden
    for number in range(2 * module._REMEMBERED):
        assert masker.mask_text(f"/clean/{number}") == f"/clean/{number}"
    assert masker.mask_text("/clean/0") == "/clean/0"
    assert len(masker._clean_texts) <= module._REMEMBERED
    assert masker.mask_text(f"/path?token={github()}") == hidden
