"""What a recording must not hold: anything that lets its reader make a call."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import pytest

from flowwarden.recording.addon import told
from flowwarden.recording.read import frame_state
from support import whole as support
from support.whole import whole


def test_a_presigned_url_is_recorded_without_its_signature_and_token() -> None:
    """Both are bearer secrets for as long as the URL lives; the rest of the query stays."""
    signature, token = secrets.token_hex(32), secrets.token_urlsafe(60)
    for spelling in ("X-Amz-Signature", "x-amz-signature"):
        target = f"/key?X-Amz-Date=20260101T000000Z&X-Amz-Security-Token={token}&{spelling}={signature}&versionId=v1"
        kept = told(target)
        assert signature not in kept and token not in kept
        assert kept.startswith("/key?X-Amz-Date=20260101T000000Z&") and kept.endswith("&versionId=v1")
    assert told("/plain?x=1") == "/plain?x=1"


@pytest.mark.parametrize("streams", [True, False])
async def test_what_a_rule_leaves_out_leaves_hash_and_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    """`record: metadata`: no body in the recording, of request or answer, but what it was can be compared."""
    rule = {"id": "quiet", "effect": "allow", "actions": ["s3:*"], "record": "metadata"}
    monkeypatch.setitem(support.POLICY, "rules", [rule | ({"mask": "off"} if streams else {})])
    sent = b"what the agent sent"
    async with whole(tmp_path) as gateway:
        put = await gateway.put("h1", "/key", sent, streams=streams)
        got = await gateway.get("h1", "/key")
        assert got.status == 200 and got.body
        evidence = await gateway.evidence()
    intents = [record for record in evidence if record["type"] == "intent"]
    first, second = [record for record in evidence if record["type"] == "outcome"]
    told = {(body["of"], body["sha256"], body["size"], body["kept"]) for body in (*first["bodies"], *second["bodies"])}
    assert ("response", hashlib.sha256(got.body).hexdigest(), len(got.body), False) in told
    hashes = {record["request_sha256"] for record in intents} | {digest for of, digest, *_ in told if of == "request"}
    assert hashlib.sha256(sent).hexdigest() in hashes or put.status != 200
    for record in (first, second):
        state = frame_state(tmp_path / "recordings", record["frame"])
        assert state["response"]["content"] is None
    for path in (tmp_path / "recordings").rglob("*"):
        assert not path.is_file() or sent not in path.read_bytes()
