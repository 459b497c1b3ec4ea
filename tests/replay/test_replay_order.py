"""Order and concurrency of a replay are those of the recording."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mitmproxy import http
from mitmproxy.test import tflow
from replay_helpers import SESSION

from flowwarden import replay
from flowwarden.recording import records
from flowwarden.recording.frames import encode
from flowwarden.recording.recorder import Recorder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """/a and /b overlap; /c begins when both have ended; /d when /c has."""

    async def run() -> None:
        recorder = Recorder.open(tmp_path / "recordings", tmp_path / "state", configuration={})

        async def begin(path: str) -> tuple[http.HTTPFlow, int]:
            flow = tflow.tflow(resp=True)
            flow.id, flow.request.path = f"flow{path}", path
            about = {
                "flow": flow.id,
                "session": SESSION,
                "service": "s3",
                "signing_name": "s3",
                "host": "b.s3.amazonaws.com",
            }
            return flow, await recorder.append("intent", {**about, "method": "GET", "path": path})

        async def end(begun: tuple[http.HTTPFlow, int]) -> None:
            flow, seq = begun
            frame = encode(flow, request_headers=(), request_body=b"", response_body=b"")
            outcome = records.outcome(flow.id, "ok", intent=seq, session=SESSION, status=200)
            await recorder.outcome(outcome, frame, session=SESSION)

        a, b = await begin("/a"), await begin("/b")
        await end(b)
        await end(a)
        for path in ("/c", "/d"):
            await end(await begin(path))
        await recorder.close()

    asyncio.run(run())
    return tmp_path / "recordings"


def test_overlapping_calls_overlap_and_others_do_not(folder):
    """The server answers /a and /b only when both are there, and counts how many are there at once."""
    both = threading.Barrier(2)
    lock = threading.Lock()
    seen: list[tuple[str, int]] = []
    present = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal present
            with lock:
                present += 1
                seen.append((self.path, present))
            if self.path in ("/a", "/b"):
                both.wait(10)
            with lock:
                present -= 1
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        compared = replay.replay_to(folder, SESSION, f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
    assert [one.verdict for one in compared] == ["same"] * 4, compared
    assert [one.path for one in compared] == ["/a", "/b", "/c", "/d"]
    assert {path for path, _ in seen[:2]} == {"/a", "/b"}
    assert seen[2:] == [("/c", 1), ("/d", 1)]
