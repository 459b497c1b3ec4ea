"""The index of patterns: no less than what each pattern finds, and never silent about a failure."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_tools import shipped

from flowwarden.errors import Refusal
from flowwarden.masking import searcher
from flowwarden.masking.examples import fill
from flowwarden.masking.patterns import Finder, Patterns
from flowwarden.masking.searcher import PREFIXED, SHORT, WORDED, Searcher, first_look, loosened, options

MASKS = [mask for mask in shipped().masks if mask.pattern]
INDEX = Patterns(MASKS)
EXAMPLES = [fill(text, random.Random(3)).encode() for mask in MASKS for text in (*mask.hits, *mask.misses)]
PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(EXAMPLES),
    st.sampled_from(EXAMPLES).flatmap(
        lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(
            lambda cut: text[min(cut) : max(cut)]
        )
    ),
    st.sampled_from([b" ", b"\n", b"\r\n", b"\t", b"\x0b", b"=", b": ", b'"', b"\xe9", b"_", b"-", b"\x00"]),
)
TEXTS = st.lists(PIECES, max_size=8).map(b"".join)


def occurs(pattern: bytes, text: bytes) -> bool:
    return re2.compile(pattern, options(1 << 24, False)).search(text) is not None


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_the_index_finds_no_less_than_each_pattern(text: bytes) -> None:
    finders = {index: INDEX.finder(index) for index in INDEX.find(text)}
    found = {finder.mask.id for finder in finders.values() if finder is not None}
    for mask in MASKS:
        assert mask.id in found or not any(Finder(mask).spans(text))


def test_the_index_finds_every_example() -> None:
    for mask in MASKS:
        for hit in mask.hits:
            text = fill(hit, random.Random(11)).encode()
            finders = [INDEX.finder(index) for index in INDEX.find(text)]
            assert mask.id in {finder.mask.id for finder in finders if finder is not None}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([mask for mask in MASKS if mask.engine == "re2"]), TEXTS, st.integers(0, 1 << 30))
def test_a_loosened_pattern_matches_wherever_the_pattern_does(mask: Any, text: bytes, seed: int) -> None:
    text = fill(random.Random(seed).choice(mask.hits), random.Random(seed)).encode() + text if mask.hits else text
    assert occurs(loosened(mask.pattern), text) or not occurs(mask.pattern, text)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (rb"a{0,24}b", rb"a{0,}b"),
        (rb"[a-z]{40}", rb"[a-z]{8,}"),
        (rb"[a-z]{3}", rb"[a-z]{3}"),
        (rb"[a-z]{3,}", rb"[a-z]{3,}"),
        (rb"[a-z]{3,5}", rb"[a-z]{3,}"),
        (rb"(?:ab){12,}?c", rb"(?:ab){8,}?c"),
        (rb"[{9}]{9}", rb"[{9}]{8,}"),
        (rb"[]{9}]{9}", rb"[]{9}]{8,}"),
        (rb"[[:alpha:]{9}]{9}", rb"[[:alpha:]{9}]{8,}"),
        (rb"[\]{9}]x{9}", rb"[\]{9}]x{8,}"),
        (rb"\{9}", rb"\{9}"),
        (rb"\\{9}", rb"\\{8,}"),
        (rb"\x{41}{9}", rb"\x{41}{8,}"),
        (rb"\p{Greek}{9}", rb"\p{Greek}{8,}"),
        (rb"${HOME}", rb"${HOME}"),
    ],
)
def test_what_is_loosened(pattern: bytes, expected: bytes) -> None:
    assert loosened(pattern) == expected
    re2.compile(expected, options(1 << 20, False))


def test_names_of_few_letters_have_a_lane_of_their_own() -> None:
    """They begin in any text of random letters; together with the others they would make an automaton without end."""
    lanes = {mask.id: first_look(mask)[1] for mask in MASKS}
    short = {name for name, lane in lanes.items() if lane == SHORT}
    assert {"cloudflare-global-key", "facebook-secret", "datadog-key", "discord-bot-token"} <= short
    assert len(short) < 15
    assert lanes["github-token"] == PREFIXED and lanes["generic-secret"] == WORDED


def made() -> Searcher:
    index = Searcher()
    for pattern in (b"one", rb"(?U)two+", b"three"):
        index.add(pattern)
    index.add(b"four", WORDED)
    index.compile()
    return index


def test_indexes_are_those_of_the_patterns_in_any_lane() -> None:
    index = made()
    assert sorted(index.find(b"four three one")) == [0, 2, 3]
    assert index.find(b"a twoo") == [1] and index.find(b"nothing") == []


@pytest.mark.parametrize("answer", [None, (), (0,)])
def test_a_set_that_does_not_hear_its_canary_refuses(answer: object) -> None:
    """None is what google-re2 says of a text in which nothing occurs, and when its memory is used up."""
    index = made()

    class Deaf:
        def Match(self, _text: bytes) -> object:
            return answer

    found, canary, indexes = index._ready[0]
    assert canary == 3 and canary in found.Match(b"one" + searcher.CANARY)
    index._ready[0] = Deaf(), canary, indexes
    with pytest.raises(Refusal, match="could not search"):
        index.find(b"one")


@pytest.mark.parametrize("pattern", [b"flowwarden-canary", b"never"])
def test_a_canary_that_does_not_sing_is_no_index(monkeypatch: pytest.MonkeyPatch, pattern: bytes) -> None:
    monkeypatch.setattr(searcher, "_CANARY_PATTERN", pattern)
    with pytest.raises(Refusal, match="canary"):
        made()


@given(st.text(alphabet="ab[]{}()0123456789,\\^x-:", max_size=24))
def test_whatever_is_a_pattern_stays_one(text: str) -> None:
    pattern = text.encode()
    try:
        re2.compile(pattern, options(1 << 20, False))
    except re2.error:
        return
    if not re.search(rb"\{\d{4,}", pattern):
        re2.compile(loosened(pattern), options(1 << 20, False))
