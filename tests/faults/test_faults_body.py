"""A body over the limit where it has to be read whole (fault 10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.whole import whole

VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])


@VERSIONS
async def test_a_body_over_the_limit_is_413_in_the_protocols_form_and_recorded(tmp_path: Path, version: str) -> None:
    """DeleteObjects names its keys in the body: without it nothing can be decided."""
    async with whole(tmp_path / "gateway", warden_body_limit="4k") as gateway:
        body = b"<Delete>" + b"<Object><Key>k</Key></Object>" * 400 + b"</Delete>"
        target, fields = gateway.head("POST", "/?delete", body)
        async with gateway.client(version) as client:
            answer = client.start("POST", target, fields, length=len(body))
            client.data(answer, body, end=True)
            await client.over(answer)
        assert answer.status == 413
        assert b"<Code>RequestEntityTooLarge</Code>" in answer.body
        assert gateway.upstream.requests == []
        ends = [record for record in await gateway.evidence() if record["type"] == "outcome"]
        assert [(end["outcome"], end["status"], end["code"]) for end in ends] == [
            ("refused", 413, "RequestEntityTooLarge")
        ]
