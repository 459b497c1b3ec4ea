"""Export: what goes out opens elsewhere, and its proof can be checked by a script that knows nothing of us."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from mitmproxy.io import FlowReader
from recording_helpers import SESSION, intent, one_flow, recorded

from flowwarden.cli import main
from flowwarden.errors import StoreError
from flowwarden.recording import records
from flowwarden.recording.export import FORMATS, export
from flowwarden.recording.proof import proof
from flowwarden.recording.read import record_at
from flowwarden.recording.read import records as read_records
from flowwarden.recording.recorder import Recorder
from flowwarden.recording.verify import verify

SCRIPT = Path(__file__).parents[2] / "docs" / "verify_proof.py"
OTHER = "0199cccc-0000-7000-8000-000000000002"


@pytest.fixture
def folder(tmp_path):
    async def work(recorder: Recorder) -> None:
        await one_flow(recorder, session=OTHER)
        seq = await recorder.append("intent", intent("tunnel"))
        await recorder.outcome(records.outcome("tunnel", "cut", intent=seq, session=SESSION), None, session=SESSION)

    return recorded(tmp_path, 3, work)


def out(folder, **options) -> tuple[int, bytes]:
    stream = io.BytesIO()
    return export(folder, stream, **options), stream.getvalue()


def test_mitm_opens_in_stock_mitmproxy(folder):
    count, data = out(folder, session=SESSION)
    flows = list(FlowReader(io.BytesIO(data)).stream())
    assert len(flows) == count == 3
    assert out(folder, flows=[flows[1].id])[0] == 1
    assert out(folder)[0] == 4


def test_har_opens_in_stock_mitmproxy(folder):
    count, data = out(folder, format="har")
    assert count == 4 == len(json.loads(data)["log"]["entries"])
    flows = list(FlowReader(io.BytesIO(data)).stream())
    assert [flow.response.content for flow in flows] == [b"answer"] * 4
    assert json.loads(out(folder, format="har", session="nobody")[1])["log"]["entries"] == []


def test_jsonl_is_what_explain_reads(folder):
    count, data = out(folder, format="jsonl", session=SESSION)
    lines = [json.loads(line) for line in data.splitlines()]
    assert count == len(lines) == 4
    assert lines[0]["url"] == "https://ec2.eu-west-1.amazonaws.com/"
    assert lines[0]["principal"] == {"sub": "dev", "groups": []}
    assert lines[0]["body"] == "cXVlc3Rpb24="
    assert lines[3]["outcome"]["outcome"] == "cut" and lines[3]["body"] is None


def test_large_bodies_are_put_back(tmp_path):
    async def work(recorder: Recorder) -> None:
        sink = recorder.body_sink()
        sink.write(b"large" * 1000)
        digest, size, _ = sink.finish()
        from mitmproxy.test import tflow

        from flowwarden.recording.frames import encode

        flow = tflow.tflow(resp=True)
        seq = await recorder.append("intent", intent(flow.id))
        body = {"of": "response", "sha256": digest, "size": size, "kept": True}
        end = records.outcome(flow.id, "ok", intent=seq, session=SESSION, bodies=[body])
        await recorder.outcome(end, encode(flow), session=SESSION)

    folder = recorded(tmp_path, 0, work)
    (flow,) = FlowReader(io.BytesIO(out(folder)[1])).stream()
    assert flow.response.content == b"large" * 1000
    (flow,) = FlowReader(io.BytesIO(out(folder, verbatim=True)[1])).stream()
    assert flow.response.raw_content is None
    next((folder / "bodies").iterdir()).write_bytes(b"other")
    with pytest.raises(StoreError, match="not the body"):
        out(folder)


@pytest.mark.parametrize("format", FORMATS)
def test_a_changed_frame_is_not_exported(folder, format):
    file = next((folder / "flows").glob("*/*.mitm"))
    file.write_bytes(file.read_bytes().replace(b"answer", b"ANSWER"))
    with pytest.raises(StoreError, match="does not hold the recorded frame"):
        out(folder, format=format)


def test_unknown_format(folder):
    with pytest.raises(StoreError, match="not a format"):
        out(folder, format="pcap")


def check(tmp_path: Path, found: dict, *more: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "proof.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-I", "-O", str(SCRIPT), str(path), *more], capture_output=True, text=True, check=False
    )


def test_proof_is_checked_by_the_script_alone(tmp_path, folder):
    """Records, checkpoint, key and frames of one session; the recording is not at hand."""
    key = verify(folder).key
    found = proof(folder, session=SESSION)
    frames = tmp_path / "s.mitm"
    frames.write_bytes(out(folder, session=SESSION, verbatim=True)[1])
    done = check(tmp_path, found, "--key", key, "--frames", str(frames))
    assert done.returncode == 0, done.stderr
    assert "proven: 8 records" in done.stdout
    assert len(SCRIPT.read_text("utf-8").splitlines()) < 100


def test_proof_of_anything_else_fails(tmp_path, folder):
    found = proof(folder, session=SESSION)
    good = json.dumps(found)
    changed = json.loads(good)
    changed["records"][1]["record"] = changed["records"][1]["record"].replace("ok", "no")
    moved = json.loads(good)
    moved["records"][0]["path"], moved["records"][1]["path"] = moved["records"][1]["path"], moved["records"][0]["path"]
    unsigned = json.loads(good)
    unsigned["checkpoint"] = unsigned["checkpoint"].replace("time 2", "time 3")
    for bad in (changed, moved, unsigned):
        assert check(tmp_path, bad).returncode == 1
    other = verify(recorded(tmp_path / "other", 1)).key
    assert check(tmp_path, found, "--key", other).returncode == 1
    frames = tmp_path / "s.mitm"
    frames.write_bytes(out(folder, session=OTHER, verbatim=True)[1])
    assert check(tmp_path, found, "--frames", str(frames)).returncode == 1


def test_nothing_to_prove(folder):
    with pytest.raises(StoreError, match="nothing of session"):
        proof(folder, session="nobody")


def test_records_by_number(folder):
    """Each record is found by its number; others are not there."""
    every = [record for _, record in read_records(folder)]
    assert [record_at(folder, record["seq"]) for record in every] == every
    for absent in (-1, len(every), 10**9):
        with pytest.raises(StoreError, match="no record"):
            record_at(folder, absent)


@pytest.mark.parametrize(
    ("asked", "count"),
    [([], 5), (["--action", "ec2:Desc*"], 5), (["--action", "s3:*"], 0), (["--decision", "deny"], 0),
     (["--since", "2999"], 0), (["--since", "2020", "--until", "2999", SESSION], 4), (["--flow", "tunnel"], 1),
     (["--flow", "tunnel", "--until", "2020"], 0)],
)  # fmt: skip
def test_export_by_filter(folder, tmp_path, asked, count):
    """What does not fit is not in it; nothing at all is a no."""
    target = tmp_path / "out"
    done = CliRunner().invoke(
        main, ["export", *asked, "--format", "jsonl", "-o", str(target), "--recordings", str(folder)]
    )
    assert done.exit_code == (0 if count else 1), done.output
    assert (len(target.read_text().splitlines()) if target.exists() else 0) == count


def test_verify_proves_a_session(folder, tmp_path):
    """`verify --session S` leaves a proof that the script checks alone."""
    file = tmp_path / "s.proof"
    done = CliRunner().invoke(main, ["verify", "--session", SESSION, "--proof", str(file), "--recordings", str(folder)])
    assert done.exit_code == 0, done.output
    checked = check(tmp_path, json.loads(file.read_text()), "--key", verify(folder).key)
    assert checked.returncode == 0 and "proven: 8 records" in checked.stdout
