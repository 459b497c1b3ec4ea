"""What recording costs: CPU and latency of a small call with its records durable, verify, and a search in many flows."""

from __future__ import annotations

import asyncio
import io
import os
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow

from flowwarden.recording import records
from flowwarden.recording.frames import encode
from flowwarden.recording.index import Index
from flowwarden.recording.recorder import Recorder
from flowwarden.recording.schema import FLOW_COLUMNS
from flowwarden.recording.verify import verify

SESSION = "0199aaaa-0000-7000-8000-000000000001"
ROWS = int(os.environ.get("FLOWWARDEN_BENCH_ROWS", "1000000"))
FLOWS = {1: 1000, 8: 4000, 64: 20000}


def about(flow: str) -> dict[str, object]:
    """An intent of usual size."""
    return {
        "flow": flow, "session": SESSION, "service": "ec2", "signing_name": "ec2", "operation": "DescribeInstances",
        "principal": {"issuer": "https://idp.example.com", "subject": "dev@example.com", "agent": "agent", "owner": "dev@example.com",
                      "groups": ["developers"], "name": "Dev"},
        "actions": ["ec2:DescribeInstances"], "resources": ["*"], "region": "eu-west-1", "account": "123456789012",
        "scheme": "https", "host": "ec2.eu-west-1.amazonaws.com", "port": 443, "method": "POST", "path": "/",
        "request_sha256": "0" * 64, "request_bytes": 60, "decision": "allow", "rules": ["read-only"], "rules_digest": "0" * 64,
        "approval": "", "lease": "", "source_identity": "",
    }  # fmt: skip


async def record(folder: Path, agents: int, flows: int) -> tuple[float, float, float]:
    """CPU and latency of a flow's two records in µs, and flows a second."""
    recorder = Recorder.open(folder / "recordings", folder / "state", configuration={})
    flow = tflow.tflow(resp=True)
    waited = 0.0

    async def agent() -> None:
        nonlocal waited
        for _ in range(flows // agents):
            began = time.perf_counter()
            seq = await recorder.append("intent", about(str(uuid.uuid4())))
            frame = encode(flow, request_body=b"x" * 60, response_body=b"x" * 1000)
            end = records.outcome(flow.id, "ok", intent=seq, session=SESSION, status=200, size=1000)
            await recorder.outcome(end, frame, session=SESSION)
            waited += time.perf_counter() - began

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(agent() for _ in range(agents)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await recorder.close()
    return cpu / flows * 1e6, waited / flows * 1e6, flows / wall


def frames() -> tuple[float, float]:
    """CPU of one frame in µs, by the encoder and by mitmproxy's own writer."""
    flow = tflow.tflow(resp=True)
    stock = FlowWriter(io.BytesIO())
    times = []
    for write in (lambda: encode(flow, request_body=b"x", response_body=b"y" * 1000), lambda: stock.add(flow)):
        began = time.process_time()
        for _ in range(3000):
            write()
        times.append((time.process_time() - began) / 3000 * 1e6)
    return times[0], times[1]


def search(folder: Path) -> dict[str, float]:
    """Milliseconds of the slowest of filtered searches in an index of many flows."""
    path = folder / "index.db"
    Index(path).close()
    fill(path)
    index = Index(path)
    asked = {
        "session": {"session": "s-77"},
        "action": {"action": "svc13:Describe13"},
        "glob": {"action": "svc13:*"},
        "decision": {"decision": "deny"},
        "since": {"since": "2026-11-20T23:00:00"},
        "word": {"search": "describe13"},
        "rare word": {"search": "bucket-424242"},
        "word and session": {"search": "describe13", "session": "s-77"},
        "common word and decision": {"search": "amazonaws", "decision": "deny"},
        "request id": {"request_id": "req-4242"},
    }
    times: dict[str, float] = {}
    for name, question in asked.items():
        began = time.perf_counter()
        index.flows(limit=50, **question)
        times[name] = (time.perf_counter() - began) * 1e3
    index.close()
    return times


def fill(path: Path) -> None:
    """Rows as a month of agents would leave them."""
    blank = dict.fromkeys(FLOW_COLUMNS, "")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    insert = f"INSERT INTO flows ({', '.join(FLOW_COLUMNS)}) VALUES ({', '.join('?' * len(FLOW_COLUMNS))})"  # noqa: S608

    def rows() -> Iterator[list[object]]:
        for n in range(ROWS):
            day, second = 1 + n * 20 // ROWS, n * 86400 // ROWS
            yield list({
                **blank, "seq": n, "id": f"{n:032x}", "session": f"s-{n % 5000}", "action": f"svc{n % 100}:Describe{n % 700}",
                "actions": f"svc{n % 100}:Describe{n % 700}", "resource": f"arn:aws:s3:::bucket-{n}/key", "outcome": "ok",
                "time": f"2026-11-{day:02d}T{second // 3600:02d}:{second // 60 % 60:02d}:00Z",
                "host": f"svc{n % 100}.eu-west-1.amazonaws.com", "path": f"/path/{n % 1000}", "status": 200,
                "decision": "deny" if n % 97 == 0 else "allow", "request_id": f"req-{n}",
            }.values())  # fmt: skip

    db.executemany(insert, rows())
    db.execute("INSERT INTO flows_fts (flows_fts) VALUES ('rebuild')")
    db.execute("COMMIT")
    db.close()


def measure() -> dict[str, float]:
    """Every number of this file, by name and unit."""
    found: dict[str, float] = {}
    found["frame, us"], found["frame by mitmproxy's writer, us"] = frames()
    for agents, flows in FLOWS.items():
        with tempfile.TemporaryDirectory() as folder:
            cpu, latency, rate = asyncio.run(record(Path(folder), agents, flows))
            found[f"recording a call at {agents} connections, CPU us"] = cpu
            found[f"recording a call at {agents} connections, latency us"] = latency
            found[f"calls recorded a second at {agents} connections"] = rate
            if agents == max(FLOWS):
                began = time.perf_counter()
                report = verify(Path(folder) / "recordings")
                found["verify, MB/s"] = report.bytes / 1e6 / (time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        times = search(Path(folder))
        found[f"slowest search of {ROWS} flows, ms"] = max(times.values())
    return found


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:55} {value:12.1f}")
