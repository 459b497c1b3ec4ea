"""Globs: IAM's two wildcards, like an independent matcher has them, and in linear time."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from flowwarden.policy.globs import Globs, literal_prefix, literal_suffix

_PATTERN = st.text(alphabet="ab*?\n/", max_size=8)
_VALUE = st.text(alphabet="abA\n/*", max_size=8)


@given(st.lists(_PATTERN, max_size=4), _VALUE)
def test_a_list_matches_where_fnmatch_has_one_that_matches(patterns: list[str], value: str) -> None:
    assert Globs(patterns)(value) == any(fnmatchcase(value, pattern) for pattern in patterns)


@given(st.lists(_PATTERN, max_size=4), _VALUE)
def test_case_is_ignored_only_where_asked(patterns: list[str], value: str) -> None:
    expected = any(fnmatchcase(value.lower(), pattern.lower()) for pattern in patterns)
    assert Globs(patterns, fold=True)(value) == expected


@given(_PATTERN, _VALUE)
def test_what_a_pattern_starts_and_ends_with_its_matches_do(pattern: str, value: str) -> None:
    if Globs([pattern])(value):
        assert value.startswith(literal_prefix(pattern)) and value.endswith(literal_suffix(pattern))


@given(st.lists(_PATTERN, min_size=1, max_size=3), st.lists(_PATTERN, min_size=1, max_size=3), _VALUE)
def test_what_covers_matches_all_that_is_covered(wide: list[str], narrow: list[str], value: str) -> None:
    if Globs(wide).covers(Globs(narrow)) and Globs(narrow)(value):
        assert Globs(wide)(value)


def test_brackets_are_letters() -> None:
    assert Globs(["[ab]"])("[ab]") and not Globs(["[ab]"])("a")


def test_a_hostile_value_costs_no_more_than_its_length() -> None:
    pattern = Globs(["*a*a*a*a*a*a*a*a*a*b"])
    start = time.process_time()
    assert not pattern("a" * 20_000)
    assert time.process_time() - start < 1
