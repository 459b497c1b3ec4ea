"""What a recording must not hold: anything that lets its reader make a call."""

from __future__ import annotations

import secrets

from flowwarden.recording.addon import told


def test_a_presigned_url_is_recorded_without_its_signature_and_token() -> None:
    """Both are bearer secrets for as long as the URL lives; the rest of the query stays."""
    signature, token = secrets.token_hex(32), secrets.token_urlsafe(60)
    for spelling in ("X-Amz-Signature", "x-amz-signature"):
        target = f"/key?X-Amz-Date=20260101T000000Z&X-Amz-Security-Token={token}&{spelling}={signature}&versionId=v1"
        kept = told(target)
        assert signature not in kept and token not in kept
        assert kept.startswith("/key?X-Amz-Date=20260101T000000Z&") and kept.endswith("&versionId=v1")
    assert told("/plain?x=1") == "/plain?x=1"
