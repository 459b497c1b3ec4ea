"""A recording made by the real recorder, for tests to read, break and judge."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mitmproxy.test import tflow

from flowwarden.recording import records
from flowwarden.recording.frames import encode
from flowwarden.recording.recorder import Recorder

SESSION = "0199aaaa-0000-7000-8000-000000000001"


def intent(flow: str, session: str = SESSION, **more: Any) -> dict[str, Any]:
    return {
        "flow": flow,
        "session": session,
        "principal": {"issuer": "https://idp.example.com", "subject": "dev", "agent": "bot", "owner": "", "groups": []},
        "service": "ec2",
        "operation": "DescribeInstances",
        "actions": ["ec2:DescribeInstances"],
        "resources": ["arn:aws:ec2:eu-west-1:123456789012:instance/i-1"],
        "region": "eu-west-1",
        "account": "123456789012",
        "host": "ec2.eu-west-1.amazonaws.com",
        "method": "POST",
        "path": "/",
        "decision": "allow",
        "rules": ["read-only"],
        **more,
    }


async def one_flow(recorder: Recorder, *, session: str = SESSION, body: bytes = b"answer", **more: Any) -> str:
    """One call from intent to outcome; gives its flow id."""
    flow = tflow.tflow(resp=True)
    flow.id = str(uuid.uuid4())
    seq = await recorder.append("intent", intent(flow.id, session, **more))
    frame = encode(flow, request_body=b"question", response_body=body)
    ending = records.outcome(flow.id, "ok", intent=seq, session=session, status=200, masks={"secret-fields": 1})
    await recorder.outcome(ending, frame, session=session)
    return flow.id


def recorded(
    root: Path, flows: int = 5, work: Callable[[Recorder], Awaitable[Any]] | None = None, **options: Any
) -> Path:
    """A closed recording with some flows below `root`; run again it goes on with the same one."""

    async def run() -> None:
        recorder = Recorder.open(root / "recordings", root / "state", configuration={"a": 1}, **options)
        try:
            for _ in range(flows):
                await one_flow(recorder)
            if work:
                await work(recorder)
        finally:
            await recorder.close()

    asyncio.run(run())
    return root / "recordings"


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits for what another thread does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the other thread sets no event
            await asyncio.sleep(0.01)
