"""Canonical JSON, the Merkle tree and signed notes, each against an implementation that is not ours."""

from __future__ import annotations

import base64
import json
from hashlib import sha256

import pymerkle
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from flowwarden.errors import StoreError
from flowwarden.recording import merkle, note
from flowwarden.recording.canonical import canonical, parsed

SAFE = 2**53 - 1
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), plain, max_size=6))
@settings(max_examples=300)
def test_same_bytes_as_the_rfc_package(record):
    """Fast path and rfc8785 agree on everything that RFC 8785 can write."""
    assert canonical(record) == rfc8785.dumps(record)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (2**53, "9007199254740992"),
        (-(2**80), str(-(2**80))),
        ("\ud800", "\\ud800"),
        (b"\xff\x00", "\xff\x00"),
        ({"b", "a"}, ["a", "b"]),
        (float("nan"), "nan"),
        ((1, 2), [1, 2]),
    ],
)
def test_what_json_cannot_hold_is_text(value, written):
    """Nothing that an agent sends keeps a record from being written."""
    assert json.loads(canonical({"value": value})) == {"value": written}


@given(st.lists(st.binary(max_size=20), max_size=40))
@settings(max_examples=60)
def test_tree_head_is_pymerkles(data):
    """The frontier's root is the root of RFC 6962 as pymerkle computes it, at every size."""
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    frontier = merkle.Frontier()
    for item in data:
        tree.append_entry(item)
        frontier.add(merkle.leaf_hash(item))
        assert frontier.root() == tree.get_state()
    assert merkle.root_of([merkle.leaf_hash(item) for item in data]) == frontier.root()


def test_empty_tree():
    assert merkle.Frontier().root() == sha256(b"").digest()


@given(st.integers(1, 70), st.data())
@settings(max_examples=60)
def test_inclusion_path_leads_to_the_root(size, data):
    """Every leaf's path leads to the root, and no other leaf's hash or index does."""
    index = data.draw(st.integers(0, size - 1))
    leaves = [merkle.leaf_hash(bytes([at])) for at in range(size)]
    path = merkle.inclusion_path(leaves, index)
    root = merkle.root_of(leaves)
    assert merkle.root_from_path(leaves[index], index, size, path) == root
    assert merkle.root_from_path(merkle.leaf_hash(b"other"), index, size, path) != root
    assert merkle.root_from_path(leaves[index], index, size, [*path, root]) is None
    if size > 1:
        other = (index + 1) % size
        assert merkle.root_from_path(leaves[index], other, size, path) != root


def test_verifier_key_vector():
    """The key of C2SP's signed-note page: its text form and its hash."""
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    key = note.VerifierKey.parse(text)
    assert str(key) == text
    assert key.id.hex() == "c74f20a3"


def test_signed_note_vector():
    """The signed note of golang.org/x/mod/sumdb/note's documentation verifies."""
    text = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    line = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    raw = base64.b64decode(line)
    key = note.VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    assert raw[:4] == key.id
    assert key.verifies(text, raw[4:])
    assert not key.verifies(text + b" ", raw[4:])


def test_checkpoint_round_trip():
    signer = note.Signer("flowwarden.internal/x", Ed25519PrivateKey.generate())
    other = note.Signer("flowwarden.internal/x", Ed25519PrivateKey.generate())
    text = note.signed("flowwarden.internal/x", 7, sha256(b"").digest(), "2026-11-20T00:00:00Z", [signer])
    found = note.parse(text)
    assert (found.origin, found.size, found.time) == ("flowwarden.internal/x", 7, "2026-11-20T00:00:00Z")
    assert found.signed_by(signer.verifier)
    assert not found.signed_by(other.verifier)
    assert not note.parse(text.replace("\n7\n", "\n8\n")).signed_by(signer.verifier)
    assert list(note.split((text + "\n" + text).splitlines(keepends=True))) == [text, text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n",
        "a\n1\nxx\n\n\u2014 k AAAA\n",
        "a\n01\n" + "A" * 43 + "=\n\n",
        "a\n-1\n" + "A" * 43 + "=\n\n",
        "\n\n\n\n",
    ],
)
def test_not_a_checkpoint(text):
    with pytest.raises(StoreError):
        note.parse(text)


@given(st.text())
def test_parsers_only_raise_their_own_error(text):
    for parse in (note.parse, note.VerifierKey.parse):
        try:
            parse(text)
        except StoreError:
            pass


@given(st.dictionaries(st.text(), plain, max_size=4))
def test_canonical_lines_are_read_back(record):
    """What was written is read, number kinds aside, as the standard library reads it."""
    assert parsed(canonical(record)) == json.loads(canonical(record))


@pytest.mark.parametrize("line", [b"", b" {}", b"{} ", b"{}{}", b"{", b"nul", b"\xff", b'{"a":1,}'])
def test_other_lines_are_value_errors(line):
    with pytest.raises(ValueError):
        parsed(line)


def test_a_record_that_holds_itself_is_refused() -> None:
    inner: list[object] = []
    inner.append(inner)
    outer: dict[str, object] = {}
    outer["it"] = outer
    for record in ({"list": inner}, outer):
        with pytest.raises(RecursionError):
            canonical(record)
