"""Recorded requests as the pure modules take them, with the credential scope that no recording holds put back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import StoreError
from ..types import Principal, Request


def request(state: Mapping[str, Any], call: Mapping[str, Any]) -> Request:
    """A request from a frame's state and its intent.

    Signatures are not recorded. One that is worth nothing stands in, because its scope tells what service was meant.
    """
    found = state["request"]
    headers = [(bytes(name), bytes(value)) for name, value in found["headers"]]
    signing, region = str(call.get("signing_name") or ""), str(call.get("region") or "us-east-1")
    if signing and not any(name.lower() == b"authorization" for name, _ in headers):
        scope = (
            f"Credential=AKIDRECORDED/{str(call.get('time', ''))[:10].replace('-', '')}/{region}/{signing}/aws4_request"
        )
        value = f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature={'0' * 64}"
        headers.append((b"Authorization", value.encode("latin-1", "replace")))
    scheme = found["scheme"].decode("latin-1") or "https"
    return Request(
        method=found["method"].decode("latin-1"),
        scheme=scheme,
        host=str(call.get("host") or found["host"]),
        port=int(call.get("port") or found["port"] or (443 if scheme == "https" else 80)),
        target=found["path"].decode("latin-1"),
        headers=tuple(headers),
        body=None if found["content"] is None else bytes(found["content"]),
    )


def no_session(session: str, folder: Path) -> StoreError:
    """The error for a session of which the recording has nothing to replay."""
    return StoreError(
        f"there is no session {session} in {folder}", "`flowwarden flows --json` names the session of each call"
    )


def principal(call: Mapping[str, Any]) -> Principal | None:
    """Who made a recorded call."""
    found = call.get("principal")
    if not found:
        return None
    return Principal(
        issuer=str(found.get("issuer", "")),
        subject=str(found.get("subject", "")),
        agent=str(found.get("agent", "")),
        owner=str(found.get("owner", "")),
        groups=frozenset(str(group) for group in found.get("groups") or ()),
        name=str(found.get("name", "")),
    )
