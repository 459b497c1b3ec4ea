"""Principals become names that STS takes, and come back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowwarden.credentials import names

TEXT = st.text(max_size=90) | st.text(alphabet="ab=-_@.é日 ", max_size=90)


@given(TEXT)
def test_session_name(text):
    """STS's pattern and length always; decoded, the text or its start; no other text matches."""
    name = names.session_name(text)
    assert re.fullmatch(r"[\w+=,.@-]{2,64}", name, re.ASCII)
    back, whole = names.decode(name)
    assert back == text if whole else (text.startswith(back) and len(name) <= 64)
    assert names.matches(name, text)


@given(TEXT, TEXT)
def test_different_texts_have_different_names(one, two):
    """Two principals never share a name."""
    assert (names.session_name(one) == names.session_name(two)) == (one == two)


def test_readable():
    """Usual subjects stay as they are."""
    assert names.session_name("alice@example.com") == "alice@example.com"
    assert names.session_name("auth0|x") == "auth0=7Cx"
    assert names.session_name("a") == "=61"


@given(TEXT)
def test_tags(text):
    """Tag values come back; their alphabet is that of STS."""
    value = names.tag(text)
    assert names.decode(value) == (text, True)
    assert all(one.isalnum() or one in " _.:/=+-@" or re.match(r"\w", one) for one in value)


def test_lists():
    """Groups can be asked for one by one, and none can pass for two."""
    assert names.tag_list([]) == ""
    assert names.tag_list(["b", "a"]) == ":a:b:"
    assert names.tag_list(["a:b"]) == ":a=3Ab:"


@pytest.mark.parametrize("name", ["a=zz", "=4", "x=-short", "=-" + "a" * 20, "==x"])
def test_foreign_names(name):
    """A name that the gateway did not give is said to be none."""
    with pytest.raises(ValueError):
        names.decode(name)
