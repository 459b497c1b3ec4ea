"""The recorder: durable before it says so, one gateway a folder, repaired after a crash, closed when the disk fails."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from mitmproxy.io import FlowReader
from recording_helpers import SESSION, intent, one_flow, recorded, until

from flowwarden.errors import StoreError
from flowwarden.recording import records, writer
from flowwarden.recording.disk import Disk
from flowwarden.recording.read import frame_bytes, outcomes
from flowwarden.recording.read import records as read_records
from flowwarden.recording.recorder import Recorder
from flowwarden.recording.recover import recover
from flowwarden.recording.verify import verify


class Faulty(Disk):
    """A disk that fails when told to: `fail` maps a method to an errno."""

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.calls: list[tuple[str, int]] = []
        self.partly = False

    def _maybe(self, what: str, handle: int) -> None:
        self.calls.append((what, handle))
        if what in self.fail:
            raise OSError(self.fail[what], os.strerror(self.fail[what]))

    def write(self, handle: int, data: bytes) -> None:
        if self.partly and "write" in self.fail:
            super().write(handle, data[: len(data) // 2])
        self._maybe("write", handle)
        super().write(handle, data)

    def overwrite(self, handle: int, data: bytes, offset: int) -> None:
        self._maybe("overwrite", handle)
        super().overwrite(handle, data, offset)

    def sync(self, handle: int) -> None:
        self._maybe("sync", handle)
        super().sync(handle)

    def cut(self, handle: int, length: int) -> None:
        self._maybe("cut", handle)
        super().cut(handle, length)


def open_at(root: Path, **options: object) -> Recorder:
    return Recorder.open(root / "recordings", root / "state", configuration={"a": 1}, **options)  # type: ignore[arg-type]


def kinds(folder: Path) -> list[str]:
    return [record["type"] for _, record in read_records(folder)]


def test_a_run_leaves_a_whole_recording(tmp_path):
    """Start, intents, outcomes, stop: linked, in order, and every frame opens in stock mitmproxy."""
    folder = recorded(tmp_path, 3)
    assert kinds(folder) == ["start", *["intent", "outcome"] * 3, "stop"]
    assert [record["seq"] for _, record in read_records(folder)] == list(range(8))
    for call, end in outcomes(folder):
        (flow,) = FlowReader(io.BytesIO(frame_bytes(folder, end["frame"]))).stream()
        assert flow.id == call["flow"]
        assert end["intent"] == call["seq"]
    (file,) = (folder / "flows").glob(f"*/{SESSION}.mitm")
    with file.open("rb") as stream:
        assert len(list(FlowReader(stream).stream())) == 3
    report = verify(folder)
    assert report.verdict == "valid", report.findings
    assert (report.records, report.frames) == (8, 3)


def test_key_is_private_and_made_once(tmp_path):
    recorded(tmp_path, 1)
    key = tmp_path / "state" / "evidence.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    folder = recorded(tmp_path, 1)
    assert key.read_bytes() == before
    assert verify(folder).verdict == "valid"


def test_a_key_open_to_others_is_refused(tmp_path):
    recorded(tmp_path, 1)
    (tmp_path / "state" / "evidence.key").chmod(0o644)
    with pytest.raises(StoreError, match="can be read by others"):
        open_at(tmp_path)


def test_another_key_is_refused_and_not_left_behind(tmp_path):
    """A lost key is not replaced in silence."""
    recorded(tmp_path, 1)
    key = tmp_path / "state" / "evidence.key"
    key.unlink()
    with pytest.raises(StoreError, match="not the key"):
        open_at(tmp_path)
    assert not key.exists()


@pytest.mark.parametrize(("recordings", "state"), [("recordings", "state"), ("recordings", "b"), ("b", "state")])
async def test_second_gateway_refuses(tmp_path, recordings, state):
    """Two gateways that share recordings, state, or both: the second does not start, and the first goes on."""
    first = open_at(tmp_path)
    for _ in range(2):  # a refusal leaves no lock behind
        with pytest.raises(StoreError, match="another gateway uses"):
            Recorder.open(tmp_path / recordings, tmp_path / state, configuration={})
        await open_at(tmp_path / "elsewhere").close()
    await Recorder.open(tmp_path / "b", tmp_path / "free", configuration={}).close()
    await one_flow(first)
    await first.close()
    await open_at(tmp_path).close()


def test_unwritable_folder(tmp_path):
    (tmp_path / "recordings").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written"):
        open_at(tmp_path)


async def test_append_returns_behind_the_fsync(tmp_path):
    """When append has returned, the record is in the log, and in the journal, which was synced after it.

    A large frame and its outcome are synced in their own files instead, the frame first.
    """
    disk = Faulty()
    recorder = open_at(tmp_path, disk=disk)
    disk.calls.clear()
    seq = await recorder.append("intent", intent("f"))
    assert [what for what, _ in disk.calls] == ["write", "overwrite"]
    lines = (tmp_path / "recordings" / "evidence.ndjson").read_bytes().splitlines()
    assert json.loads(lines[seq])["flow"] == "f"
    disk.calls.clear()
    await recorder.outcome(records.outcome("f", "ok", intent=seq), b"5:hello,", session="s")
    frame, log, journal = disk.calls
    assert [what for what, _ in disk.calls] == ["write", "write", "overwrite"]
    assert len({frame[1], log[1], journal[1]}) == 3
    disk.calls.clear()
    large = records.outcome("f", "ok", intent=seq)
    await recorder.outcome(large, b"%d:%b," % (2 << 20, bytes(2 << 20)), session="s")
    frame, log, first, second = disk.calls
    assert [what for what, _ in disk.calls] == ["write", "write", "sync", "sync"]
    assert (first[1], second[1]) == (frame[1], log[1])
    await recorder.close()


async def test_many_writers_share_commits(tmp_path):
    """Records of one batch are synced together; each gets its own seq, without a hole."""
    disk = Faulty()
    recorder = open_at(tmp_path, disk=disk)
    disk.calls.clear()
    seqs = await asyncio.gather(*(recorder.append("session", {"n": n}) for n in range(200)))
    assert sorted(seqs) == list(range(1, 201))
    assert sum(what == "overwrite" for what, _ in disk.calls) < 50
    await recorder.close()
    assert verify(tmp_path / "recordings").verdict == "valid"


async def test_a_busy_recorder_gathers_and_a_quiet_one_does_not(tmp_path, monkeypatch):
    """While several calls are under way, records that come one by one share a commit; a call alone waits for nobody."""
    asked, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def gather(seconds: float) -> None:
        assert seconds == writer.GATHER_SECONDS
        loop.call_soon_threadsafe(asked.set)
        assert go.wait(20)

    monkeypatch.setattr(writer.time, "sleep", gather)
    disk = Faulty()
    recorder = open_at(tmp_path, disk=disk)
    await recorder.append("session", {})
    assert not asked.is_set()
    await asyncio.gather(*(recorder.append("session", {}) for _ in range(3)))  # one turn of the loop, one batch
    before = [what for what, _ in disk.calls].count("overwrite")
    waiting = []
    for _ in range(3):
        waiting.append(asyncio.ensure_future(recorder.append("session", {})))
        await asyncio.sleep(0)
        recorder._hand_over()  # each as if in a turn of the loop of its own
    await asyncio.wait_for(asked.wait(), 20)
    go.set()
    await asyncio.gather(*waiting)
    assert [what for what, _ in disk.calls].count("overwrite") == before + 1
    await recorder.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("partly", [False, True])
async def test_full_disk_refuses_and_recovers(tmp_path, code, partly):
    """A disk that is full (or read-only) at intent: refused, not ready, said why; once it is not, all by itself ready."""
    disk = Faulty()
    recorder = open_at(tmp_path, disk=disk, retry=0.01)
    await one_flow(recorder)
    disk.partly = partly
    disk.fail = {"write": code}
    with pytest.raises(StoreError):
        await recorder.append("intent", intent("lost"))
    assert not recorder.ready
    assert os.strerror(code) in recorder.problem
    with pytest.raises(StoreError):
        await recorder.append("intent", intent("lost too"))
    recorder.note("alarm", records.alarm("x", "y"))
    disk.fail = {}
    await until(lambda: recorder.ready)
    await one_flow(recorder)
    await recorder.close()
    folder = tmp_path / "recordings"
    gap = next(record for _, record in read_records(folder) if record["type"] == "gap")
    assert os.strerror(code) in gap["reason"]
    assert gap["lost"] == 1
    assert b"lost" not in b"".join(
        line for line in (folder / "evidence.ndjson").read_bytes().splitlines() if b'"intent"' in line
    )
    assert verify(folder).verdict == "valid"


async def test_full_disk_at_outcome_becomes_unknown(tmp_path):
    """A frame that cannot be written: the caller hears of it, and the flow ends as unknown once the disk works again."""
    disk = Faulty()
    recorder = open_at(tmp_path, disk=disk, retry=0.01)
    seq = await recorder.append("intent", intent("f"))
    disk.fail, disk.partly = {"write": errno.ENOSPC}, True
    with pytest.raises(StoreError, match="nothing can be recorded"):
        await recorder.outcome(records.outcome("f", "ok", intent=seq), b"x" * 100, session="s")
    disk.fail = {}
    await until(lambda: recorder.ready)
    await recorder.close()
    folder = tmp_path / "recordings"
    ((call, end),) = outcomes(folder)
    assert (call["flow"], end["outcome"], end["code"]) == ("f", "unknown", "OUTCOME_UNKNOWN")
    assert verify(folder).verdict == "valid"


@pytest.mark.parametrize("file", ["log", "frame"])
async def test_failed_fsync_is_never_retried(tmp_path, file):
    """EIO from fsync: not ready until a restart, and no further fsync on any file."""
    disk = Faulty()
    recorder = open_at(tmp_path, disk=disk, retry=0.01)
    seq = await recorder.append("intent", intent("f"))
    disk.calls.clear()
    disk.fail = {"sync": errno.EIO, "overwrite": errno.EIO}
    end = records.outcome("f", "ok", intent=seq)
    refused = recorder.append("session", {}) if file == "log" else recorder.outcome(end, b"1:x,", session="s")
    with pytest.raises(StoreError):
        await refused
    disk.fail = {}
    await asyncio.sleep(0.1)  # ten times the pause between attempts
    assert not recorder.ready
    assert "restart" in recorder.problem
    with pytest.raises(StoreError):
        await recorder.append("intent", intent("h"))
    assert [what for what, _ in disk.calls if what != "write"] == ["overwrite"]
    await recorder.close()
    await open_at(tmp_path).close()
    report = verify(tmp_path / "recordings")
    assert report.verdict == "valid", report.findings
    assert all(end["outcome"] in ("unknown", "ok") for _, end in outcomes(tmp_path / "recordings"))


async def test_cut_that_fails_keeps_it_closed(tmp_path):
    """If the torn tail cannot be cut after a full disk, nothing is written behind it."""
    disk = Faulty()
    recorder = open_at(tmp_path, disk=disk, retry=0.01)
    disk.fail, disk.partly = {"write": errno.ENOSPC, "cut": errno.EIO}, True
    with pytest.raises(StoreError):
        await recorder.append("intent", intent("f"))
    disk.fail = {"cut": errno.EIO}
    await until(lambda: "restart" in recorder.problem)
    await recorder.close()
    await open_at(tmp_path).close()
    assert verify(tmp_path / "recordings").verdict == "valid"


@pytest.mark.parametrize("cut", [1, 17, 200])
def test_torn_log_is_cut_and_noted(tmp_path, cut):
    """A torn last line is cut at the last good offset; the cut bytes are kept, and a gap record says where."""
    folder = recorded(tmp_path, 2)
    log = folder / "evidence.ndjson"
    whole = log.read_bytes()
    log.write_bytes(whole + whole.splitlines(keepends=True)[1][:cut])
    recorded(tmp_path, 1)
    (gap,) = [record for _, record in read_records(folder) if record["type"] == "gap"]
    assert (gap["file"], gap["offset"], gap["length"]) == ("evidence.ndjson", len(whole), cut)
    assert (folder / "bodies" / gap["sha256"]).stat().st_size == cut
    report = verify(folder)
    assert report.verdict == "valid", report.findings


def test_torn_frame_is_cut_and_later_flows_are_readable(tmp_path):
    folder = recorded(tmp_path, 2)
    (file,) = (folder / "flows").glob("*/*.mitm")
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:100])
    recorded(tmp_path, 1)
    with file.open("rb") as stream:
        assert len(list(FlowReader(stream).stream())) == 3
    assert "gap" in kinds(folder)
    assert verify(folder).verdict == "valid"


def test_torn_checkpoint_is_cut(tmp_path):
    folder = recorded(tmp_path, 2)
    notes = folder / "checkpoints"
    notes.write_bytes(notes.read_bytes() + b"flowwarden.internal/x\n12\nAA")
    recorded(tmp_path, 1)
    assert verify(folder).verdict == "valid"


async def test_crash_between_intent_and_outcome(tmp_path):
    """An intent that a crash left alone gets an outcome: unknown. A whole frame behind it is kept as what is known."""
    recorder = open_at(tmp_path)
    await one_flow(recorder)
    await recorder.append("intent", intent("left"))
    await asyncio.to_thread(recorder._writer.queue.put, None)
    recorder._writer._thread.join()
    for lock in recorder._locks:
        os.close(lock)
    folder = tmp_path / "recordings"
    log = folder / "evidence.ndjson"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-2]))  # as if outcome and stop had never been written
    notes = folder / "checkpoints"
    notes.write_bytes(notes.read_bytes()[: notes.read_bytes().rfind(b"\n\nflow") + 2])
    await open_at(tmp_path).close()
    ends = {call["flow"]: end for call, end in outcomes(folder)}
    assert ends["left"]["outcome"] == "unknown"
    assert verify(folder).verdict == "valid"


def test_frame_without_outcome_is_kept_for_its_intent(tmp_path):
    """A crash between frame and outcome: the frame stays, and the unknown outcome names it."""
    folder = recorded(tmp_path, 2)
    log, notes = folder / "evidence.ndjson", folder / "checkpoints"
    lines = log.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[4])["type"] == "outcome"
    log.write_bytes(b"".join(lines[:4]))
    notes.write_bytes(notes.read_bytes()[: notes.read_bytes().find(b"\n\nflow") + 1])
    recorded(tmp_path, 0)
    ends = [end for _, end in outcomes(folder)]
    assert [end["outcome"] for end in ends] == ["ok", "unknown"]
    recorded(tmp_path, 0)  # and the start after that one, which reads from the last checkpoint on, knows of it too
    (flow,) = FlowReader(io.BytesIO(frame_bytes(folder, ends[1]["frame"]))).stream()
    assert flow.id == ends[1]["flow"]
    assert verify(folder).verdict == "valid"


def test_cut_log_is_not_written_on(tmp_path):
    """A log that is shorter than what was signed is evidence of something: the gateway does not start on it."""
    folder = recorded(tmp_path, 3)
    log = folder / "evidence.ndjson"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-3]))
    with pytest.raises(StoreError, match="a checkpoint was signed over"):
        open_at(tmp_path)
    assert log.read_bytes() == b"".join(lines[:-3])


def test_changed_log_is_not_written_on(tmp_path):
    """A record changed: seen at start by whoever reads the whole log; with the shortcut, if it is the last one."""
    folder = recorded(tmp_path, 3)
    log = folder / "evidence.ndjson"
    whole = log.read_bytes()
    for old, new, shortcut in ((b'"status":200', b'"status":201', False), (b'"type":"stop"', b'"type":"Stop"', True)):
        if not shortcut:
            (folder / ".resume").rename(tmp_path / "kept")
        log.write_bytes(whole.replace(old, new, 1))
        before = log.read_bytes()
        with pytest.raises(StoreError):
            open_at(tmp_path)
        assert log.read_bytes() == before
        if not shortcut:
            (tmp_path / "kept").rename(folder / ".resume")


@pytest.mark.parametrize("damage", ["none", "gone", "garbage", "older", "other peaks", "other offset"])
def test_a_start_need_not_read_everything(tmp_path, damage):
    """From the last checkpoint on, or from the beginning if the shortcut does not fit: the same head either way."""
    folder = recorded(tmp_path, 3)
    resume = folder / ".resume"
    older = resume.read_bytes()
    recorded(tmp_path, 3)
    data = json.loads(resume.read_bytes())
    if damage == "gone":
        resume.unlink()
    elif damage == "garbage":
        resume.write_bytes(b"{")
    elif damage == "older":
        resume.write_bytes(older)
    elif damage == "other peaks":
        resume.write_text(json.dumps({**data, "peaks": ["00" * 32] * len(data["peaks"])}))
    elif damage == "other offset":
        resume.write_text(json.dumps({**data, "offset": data["offset"] - 10}))
    found = recover(folder)
    assert found.resumed == (damage == "none")
    resume.unlink(missing_ok=True)
    whole = recover(folder)
    assert not whole.resumed
    assert (found.head.prev, found.head.seq) == (whole.head.prev, whole.head.seq)
    assert found.head.time == pytest.approx(whole.head.time, abs=1e-5)
    assert found.head.tree.root() == whole.head.tree.root()
    assert (found.head.ends, found.origin, found.key, found.runs) == (
        whole.head.ends,
        whole.origin,
        whole.key,
        whole.runs,
    )
    recorded(tmp_path, 1)
    assert verify(folder).verdict == "valid"


def test_clock_set_back(tmp_path):
    """The order by seq stays, and the record that jumps says by how much."""
    now = [1_800_000_000.0]

    async def work(recorder: Recorder) -> None:
        now[0] -= 3600
        await one_flow(recorder)
        now[0] += 1
        await one_flow(recorder)

    folder = recorded(tmp_path, 1, work, clock=lambda: now[0])
    flagged = [record for _, record in read_records(folder) if "clock_back_ms" in record]
    assert [record["clock_back_ms"] for record in flagged] == [3_600_000]
    report = verify(folder)
    assert report.verdict == "valid"
    assert any("set back" in finding.what for finding in report.findings)


async def test_streamed_body_is_kept_under_its_hash(tmp_path):
    recorder = open_at(tmp_path)
    sink = recorder.body_sink()
    for _ in range(5):
        sink.write(b"x" * 100_000)
    digest, size, path = await sink.finished()
    assert (size, path.read_bytes()) == (500_000, b"x" * 500_000)
    seq = await recorder.append("intent", intent("f"))
    body = {"of": "response", "sha256": digest, "size": size, "kept": True}
    await recorder.outcome(records.outcome("f", "ok", intent=seq, bodies=[body]), None, session="s")
    await recorder.close()
    report = verify(tmp_path / "recordings")
    assert (report.verdict, report.bodies) == ("valid", 1)


async def test_body_on_a_full_disk(tmp_path):
    """A body that cannot be written stops at once, and so does all recording until the disk works again."""
    disk = Faulty()
    recorder = open_at(tmp_path, disk=disk, retry=0.01)
    sink = recorder.body_sink()
    disk.fail = {"write": errno.ENOSPC}
    with pytest.raises(StoreError):
        sink.write(b"x" * 600_000)
    assert not recorder.ready
    disk.fail = {}
    await until(lambda: recorder.ready)
    await recorder.close()
    assert list((tmp_path / "recordings" / "bodies").iterdir()) == []


def test_half_a_body_after_a_crash(tmp_path):
    folder = recorded(tmp_path, 1)
    (folder / "bodies" / ".part-abc").write_bytes(b"half")
    recorded(tmp_path, 1)
    assert not list((folder / "bodies").glob(".part-*"))
    assert verify(folder).verdict == "valid"


async def test_a_record_that_cannot_be_written_fails_alone(tmp_path):
    """Deeply nested nonsense gets its own error; the batch and the chain go on."""
    recorder = open_at(tmp_path)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    results = await asyncio.gather(
        recorder.append("session", {"n": 1}),
        recorder.append("session", {"deep": deep}),
        recorder.append("session", {"n": 2}),
        return_exceptions=True,
    )
    assert isinstance(results[1], StoreError)
    assert sorted(seq for seq in results if isinstance(seq, int)) == [1, 2]
    assert recorder.ready
    await recorder.close()
    assert verify(tmp_path / "recordings").verdict == "valid"


async def test_after_close_everything_is_refused(tmp_path):
    recorder = open_at(tmp_path)
    await recorder.close()
    await recorder.close()
    with pytest.raises(StoreError, match="closed"):
        await recorder.append("intent", intent("f"))
    with pytest.raises(StoreError):
        await recorder.checkpoint()


async def test_session_names_cannot_leave_the_folder(tmp_path):
    recorder = open_at(tmp_path)
    seq = await recorder.append("intent", intent("f"))
    await recorder.outcome(records.outcome("f", "ok", intent=seq), b"1:x,", session="../../etc/x")
    await recorder.close()
    assert [path.name for path in (tmp_path / "recordings").glob("flows/*/*")] == ["unidentified.mitm"]


async def test_checkpoint_every_thousand_records(tmp_path):
    recorder = open_at(tmp_path)
    await asyncio.gather(*(recorder.append("session", {"n": n}) for n in range(2500)))
    await recorder.close()
    report = verify(tmp_path / "recordings")
    assert report.verdict == "valid"
    assert report.checkpoints >= 4


async def test_body_without_its_outcome_is_noted(tmp_path):
    """A crash between a whole body and its outcome: the next start says so, and the body stays."""
    recorder = open_at(tmp_path)
    sink = recorder.body_sink()
    sink.write(b"whole")
    digest, _, path = sink.finish()
    await recorder.close()
    folder = tmp_path / "recordings"
    assert verify(folder).verdict == "invalid"
    await asyncio.to_thread(recorded, tmp_path, 1)
    (gap,) = [record for _, record in read_records(folder) if record["type"] == "gap"]
    assert gap["sha256"] == digest
    assert [entry.name for entry in path.parent.iterdir()] == [digest]
    assert verify(folder).verdict == "valid"


async def test_a_body_asked_for_twice_and_one_that_failed(tmp_path):
    """`finish` may be called again; a sink that failed says so, and does not harm the recorder a second time."""
    disk = Faulty()
    recorder = open_at(tmp_path, disk=disk, retry=0.01)
    sink = recorder.body_sink()
    sink.write(b"x")
    assert sink.finish() == sink.finish()
    broken = recorder.body_sink()
    disk.fail = {"write": errno.ENOSPC}
    with pytest.raises(StoreError):
        broken.write(bytes(600_000))
    disk.fail = {}
    await until(lambda: recorder.ready)
    for again in (lambda: broken.write(b"y"), broken.finish):
        with pytest.raises(StoreError):
            again()
    assert recorder.ready
    given_up = recorder.body_sink()
    given_up.write(b"abc")
    assert given_up.discard()[1] == 3
    await recorder.close()
