"""kill -9 at random moments under load, again and again on one folder: a short form here, 1,000 times in the soak."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from mitmproxy.io import FlowReader
from mitmproxy.test import tflow
from recording_helpers import SESSION, intent

from flowwarden.recording import records
from flowwarden.recording.frames import encode
from flowwarden.recording.indexer import Indexer
from flowwarden.recording.read import outcomes
from flowwarden.recording.recorder import Recorder
from flowwarden.recording.verify import verify

ROUNDS = 1000 if os.environ.get("FLOWWARDEN_SOAK") else 12
LOAD = 16  # agents at once


async def work(root: Path, say: Callable[[str], None]) -> None:
    """A gateway under load: says E when a call would be executed upstream, A when its answer would be released."""
    indexer = Indexer(root / "recordings", pause=0.01)
    recorder = Recorder.open(root / "recordings", root / "state", configuration={}, committed=indexer.wake)
    indexer.start()

    async def agent(number: int) -> None:
        rng = random.Random()
        while True:
            flow = tflow.tflow(resp=True)
            flow.id = str(uuid.uuid4())
            seq = await recorder.append("intent", intent(flow.id))
            say(f"E {flow.id}\n")
            bodies: list[records.BodyAt] = []
            if rng.random() < 0.05:
                sink = recorder.body_sink()
                sink.write(rng.randbytes(300_000))
                digest, size, _ = await sink.finished()
                bodies.append({"of": "response", "sha256": digest, "size": size, "kept": True})
            body = rng.randbytes(rng.choice([0, 100, 3000, 200_000]))
            end = records.outcome(flow.id, "ok", intent=seq, session=SESSION, bodies=bodies)
            await recorder.outcome(end, encode(flow, response_body=body), session=f"{SESSION}-{number % 3}")
            say(f"A {flow.id}\n")

    await asyncio.gather(*(agent(number) for number in range(LOAD)))


def run_and_kill(root: Path, patience: float) -> tuple[set[str], set[str]]:
    """Starts a gateway, kills it after a while; what was executed, what was acknowledged."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            asyncio.run(work(root, lambda text: os.write(write, text.encode()) and None))
        finally:
            os._exit(3)
    os.close(write)
    said = bytearray()
    end = time.monotonic() + patience
    os.set_blocking(read, False)
    while time.monotonic() < end:
        try:
            said += os.read(read, 1 << 20)
        except BlockingIOError:
            time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the gateway ended by itself"
    os.set_blocking(read, True)
    while block := os.read(read, 1 << 20):
        said += block
    os.close(read)
    lines = [line.split(" ") for line in said.decode().splitlines(keepends=True) if line.endswith("\n")]
    return {flow.strip() for kind, flow in lines if kind == "E"}, {flow.strip() for kind, flow in lines if kind == "A"}


def test_kill_at_any_moment(tmp_path):
    """Nothing executed without an intent, nothing acknowledged without an outcome, every recording readable after."""
    rng = random.Random(11)
    executed: set[str] = set()
    acknowledged: set[str] = set()
    folder = tmp_path / "recordings"
    for number in range(ROUNDS):
        done, told = run_and_kill(tmp_path, rng.choice([0.02, 0.06, 0.2, 0.3]) * rng.uniform(0.5, 1.5))
        executed |= done
        acknowledged |= told
        if number % 50 == 49 or number == ROUNDS - 1:
            check(folder, tmp_path, executed, acknowledged)
    assert len(acknowledged) > ROUNDS


def check(folder: Path, root: Path, executed: set[str], acknowledged: set[str]) -> None:
    recorder = Recorder.open(folder, root / "state", configuration={})
    recorder.close_now()
    report = verify(folder)
    assert report.verdict == "valid", [str(f) for f in report.findings if f.severity == "invalid"][:10]
    ends = {call["flow"]: end["outcome"] for call, end in outcomes(folder)}
    assert executed <= ends.keys()
    assert acknowledged <= {flow for flow, ending in ends.items() if ending == "ok"}
    for path in folder.glob("flows/*/*.mitm"):
        with path.open("rb") as file:
            assert sum(1 for _ in FlowReader(file).stream()) > 0
