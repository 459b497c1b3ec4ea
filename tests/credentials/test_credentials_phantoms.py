"""Phantoms look like AWS's credentials, and can never be any."""

from __future__ import annotations

import re
from base64 import b32decode

from hypothesis import given
from hypothesis import strategies as st

from flowwarden.credentials import phantoms


def account_of(key_id: str) -> int:
    """The account in a key id, as AWS encodes it: 40 bits after the first of the base-32 part."""
    return (int.from_bytes(b32decode(key_id[4:])[:6]) & 0x7FFFFFFFFF80) >> 7


def test_shape():
    """Lengths and alphabets are AWS's; long-lived ones have no token."""
    for _ in range(200):
        phantom = phantoms.mint()
        assert re.fullmatch(r"ASIA[A-Z2-7]{16}", phantom.access_key_id)
        assert re.fullmatch(r"[A-Za-z0-9+/]{40}", phantom.secret_access_key)
        assert re.fullmatch(r"IQoJb3JpZ2luX2Vj[A-Za-z0-9+/]{784}", phantom.session_token)
    long_lived = phantoms.mint("AKIA")
    assert long_lived.access_key_id.startswith("AKIA") and long_lived.session_token == ""
    sized = phantoms.mint(secret_length=44, token_length=356)
    assert (len(sized.secret_access_key), len(sized.session_token)) == (44, 356)
    assert len({phantoms.mint().access_key_id for _ in range(500)}) == 500


def test_never_a_real_key_id():
    """No account has a number of more than 12 digits, and each phantom's is above them."""
    for prefix in ("ASIA", "AKIA"):
        for _ in range(200):
            assert account_of(phantoms.mint(prefix).access_key_id) > 999_999_999_999
    assert (
        account_of("ASIA" + "QNZGKIQY56JQ7WML") == 29608264753
    )  # a published example, of the research on this encoding


def test_known_again():
    """Key ids, secrets and tokens are told from anything else, a changed character included."""
    for prefix in ("ASIA", "AKIA"):
        phantom = phantoms.mint(prefix)
        assert phantoms.is_phantom(phantom.access_key_id)
        texts = [phantom.access_key_id, phantom.secret_access_key, phantom.session_token]
        for text in filter(None, texts):
            assert phantoms.is_phantom_text(text)
            changed = text[:-5] + ("B" if text[-5] != "B" else "C") + text[-4:]
            assert not phantoms.is_phantom_text(changed)
    assert "secret" not in repr(phantom) and phantom.secret_access_key not in repr(phantom)


@given(st.text(max_size=60) | st.from_regex(r"A[KS]IA[A-Z2-7]{16}", fullmatch=True))
def test_other_texts_are_none(text):
    """Real key ids, and anything at all, are not taken for phantoms."""
    assert not phantoms.is_phantom_text(text)
