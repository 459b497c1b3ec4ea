"""The attack table: what somebody with the disk does to a recording, and what verify says of it.

"without the key" is somebody who can write the folder; "with the key" also holds the evidence key and signs again. What
only proof from outside can show is tested with a checkpoint that an auditor kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from recording_helpers import intent, one_flow, recorded

from flowwarden.errors import StoreError
from flowwarden.recording import keys, note
from flowwarden.recording.canonical import canonical
from flowwarden.recording.index import rebuild
from flowwarden.recording.merkle import leaf_hash, root_of
from flowwarden.recording.recorder import Recorder
from flowwarden.recording.verify import Report, verify

LOG, NOTES = "evidence.ndjson", "checkpoints"
Lines = list[bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs of three flows each, a body outside its frame, and an index."""

    async def body(recorder: Recorder) -> None:
        from flowwarden.recording import records

        for fill in (b"one", b"two"):
            sink = recorder.body_sink()
            sink.write(fill * 1000)
            digest, size, _ = sink.finish()
            seq = await recorder.append("intent", intent(f"body-{fill.decode()}"))
            at = {"of": "response", "sha256": digest, "size": size, "kept": True}
            await recorder.outcome(records.outcome("b", "ok", intent=seq, bodies=[at]), None, session="s")

    recorded(tmp_path, 3)
    folder = recorded(tmp_path, 3, body)
    rebuild(folder)
    assert verify(folder).verdict == "valid", verify(folder).findings
    return folder


def lines_of(folder: Path) -> Lines:
    return (folder / LOG).read_bytes().splitlines(keepends=True)


def put(folder: Path, lines: Lines) -> None:
    (folder / LOG).write_bytes(b"".join(lines))


def edit(lines: Lines) -> int:
    lines[3] = lines[3].replace(b"ec2:DescribeInstances", b"ec2:DescribeVpcs")
    return 3


def delete(lines: Lines) -> int:
    del lines[3]
    return 3


def insert(lines: Lines) -> int:
    lines.insert(3, lines[3])
    return 3


def reorder(lines: Lines) -> int:
    lines[3], lines[4] = lines[4], lines[3]
    return 3


def backdate(lines: Lines) -> int:
    record = json.loads(lines[3])
    record["time"] = "2020-01-01T00:00:00.000000Z"
    lines[3] = canonical(record) + b"\n"
    return 3


ATTACKS: list[Callable[[Lines], int]] = [edit, delete, insert, reorder, backdate]


def chained(lines: Lines) -> Lines:
    """The lines with seq and prev made to fit again: what anybody with the disk can do."""
    done, prev = [], "0" * 64
    for seq, line in enumerate(lines):
        text = canonical({**json.loads(line), "seq": seq, "prev": prev})
        prev = sha256(text).hexdigest()
        done.append(text + b"\n")
    return done


def forged(root: Path, lines: Lines) -> None:
    """Chained anew and all checkpoints signed anew: what only the key's holder can do."""
    folder = root / "recordings"
    lines = chained(lines)
    put(folder, lines)
    origin = json.loads(lines[0])["origin"]
    signer = note.Signer(origin, keys.load(root / "state" / "evidence.key"))
    leaves = [leaf_hash(line[:-1]) for line in lines]
    texts = [
        note.signed(origin, size, root_of(leaves[:size]), "2026-11-20T00:00:00Z", [signer])
        for size in (1, 8, len(lines))
    ]
    (folder / NOTES).write_text("\n".join(texts) + "\n", encoding="utf-8")
    rebuild(folder)


def where(report: Report) -> set[int]:
    return {finding.seq for finding in report.findings if finding.severity == "invalid"}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_changed_log_is_named_by_seq(folder, attack):
    """Whatever is done to one record, a finding names it or its neighbour."""
    lines = lines_of(folder)
    seq = attack(lines)
    put(folder, lines)
    report = verify(folder)
    assert report.exit_code == 1
    assert where(report) & {seq, seq + 1}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_log_chained_anew_does_not_fit_its_checkpoints(folder, attack):
    """Without the key the links can be made to fit, the signatures cannot."""
    lines = lines_of(folder)
    attack(lines)
    put(folder, chained(lines))
    report = verify(folder)
    assert report.verdict == "invalid"
    assert any("not those that were signed" in finding.what or "cut off" in finding.what for finding in report.findings)


@pytest.mark.parametrize("attack", [edit, delete, insert, reorder])
def test_the_keys_holder_is_found_out_only_from_outside(tmp_path, folder, attack):
    """With the key everything can be made to fit (SECURITY.md); a checkpoint kept elsewhere shows it."""
    kept = tmp_path / "kept"
    shutil.copy(folder / NOTES, kept)
    lines = lines_of(folder)
    attack(lines)
    forged(tmp_path, lines)
    alone = {finding.what for finding in verify(folder).findings if finding.severity == "invalid"}
    assert not [what for what in alone if "signed" in what]
    report = verify(folder, checkpoint=kept)
    assert report.verdict == "invalid"
    assert any(finding.file == str(kept) for finding in report.findings)


def test_backdating_with_the_key_breaks_the_order_of_times(tmp_path, folder):
    lines = lines_of(folder)
    backdate(lines)
    forged(tmp_path, lines)
    assert any("older than the one before" in finding.what for finding in verify(folder).findings)


def test_truncated(tmp_path, folder):
    """A tail cut off below the last checkpoint is seen; with checkpoints and index cut as well, only from outside."""
    kept = tmp_path / "kept"
    shutil.copy(folder / NOTES, kept)
    lines = lines_of(folder)
    put(folder, lines[:-4])
    report = verify(folder)
    assert report.verdict == "invalid"
    assert any("its end was cut off" in finding.what for finding in report.findings)
    put(folder, lines[:8])
    (folder / "index.db").unlink()
    texts = list(note.split((folder / NOTES).read_text("utf-8").splitlines(keepends=True)))
    (folder / NOTES).write_text("\n".join(text for text in texts if note.parse(text).size <= 8) + "\n", "utf-8")
    assert not [
        finding for finding in verify(folder).findings if finding.severity == "invalid" and finding.file in (LOG, NOTES)
    ]
    assert verify(folder, checkpoint=kept).verdict == "invalid"


@pytest.mark.parametrize("attack", ATTACKS)
def test_checkpoints_deleted_so_that_the_rest_can_be_changed(folder, attack):
    """Without the key, only the first signatures left and the links made to fit: a gateway signs sooner than that."""
    lines = lines_of(folder)
    attack(lines)
    put(folder, chained(lines))
    texts = list(note.split((folder / NOTES).read_text("utf-8").splitlines(keepends=True)))
    (folder / NOTES).write_text("\n".join(text for text in texts if note.parse(text).size <= 1) + "\n", "utf-8")
    (folder / "index.db").unlink()
    assert any("checkpoints are missing" in f.what for f in verify(folder).findings if f.severity == "invalid")


def test_a_long_unsigned_end(tmp_path):
    """Thousands of records behind the last signature, in one run: not what a gateway leaves, crash or not."""
    folder = recorded(tmp_path, 3)
    lines = lines_of(folder)
    last = json.loads(lines[-1])
    more = [{**last, "type": "alarm", "kind": "x", "time": "2030-01-01T00:00:00.000000Z"} for _ in range(3100)]
    put(folder, chained([*lines[:-1], *(canonical(record) for record in more)]))
    texts = list(note.split((folder / NOTES).read_text("utf-8").splitlines(keepends=True)))
    (folder / NOTES).write_text("\n".join(texts[:-1]) + "\n", "utf-8")
    assert any("checkpoints are missing" in f.what for f in verify(folder).findings if f.severity == "invalid")


def test_files_deleted_under_a_removal_of_ones_own(folder):
    """Somebody without the key deletes a session's file and appends the record that would explain it."""
    (frames,) = (folder / "flows").glob("*/*.mitm")
    data = frames.read_bytes()
    name = frames.relative_to(folder).as_posix()
    told = {"file": name, "size": len(data), "sha256": sha256(data).hexdigest()}
    removal = {"type": "removal", "reason": "retention", "before": "2030-01-01T00:00:00Z", "files": [told]}
    lines = lines_of(folder)[:-1]
    put(folder, chained([*lines, canonical({**removal, "time": json.loads(lines[-1])["time"]})]))
    texts = list(note.split((folder / NOTES).read_text("utf-8").splitlines(keepends=True)))
    (folder / NOTES).write_text("\n".join(texts[:-1]) + "\n", "utf-8")
    (folder / "index.db").unlink()
    assert verify(folder).verdict == "valid"  # a note: it is not signed
    frames.unlink()
    report = verify(folder)
    assert report.removed == []
    assert any(f.severity == "invalid" and f.file == name for f in report.findings)


def test_an_old_key_that_was_stolen_does_not_rewrite_what_was_before_the_new_one(tmp_path):
    """The hand-over is signed over the records before it: it cannot be put behind others."""

    async def work(recorder: Recorder) -> None:
        await one_flow(recorder)
        await recorder.rotate()

    folder = recorded(tmp_path, 1, work)
    published = verify(folder).key
    lines = lines_of(folder)
    at = next(n for n, line in enumerate(lines) if b'"type":"key"' in line)
    origin = json.loads(lines[0])["origin"]
    (stolen,) = (tmp_path / "state").glob("evidence.key.*")
    signer = note.Signer(origin, keys.load(stolen))
    edit(lines)
    rewritten = chained(lines[: at + 1])  # and nothing behind the hand-over, which only the new key could sign
    put(folder, rewritten)
    leaves = [leaf_hash(line[:-1]) for line in rewritten]
    texts = [note.signed(origin, size, root_of(leaves[:size]), "2026-11-20T00:00:00Z", [signer]) for size in (1, at)]
    (folder / NOTES).write_text("\n".join(texts) + "\n", encoding="utf-8")
    (folder / "index.db").unlink(missing_ok=True)
    found = verify(folder, public_key=published).findings
    assert any("did not both sign" in f.what for f in found if f.severity == "invalid")


def test_an_intent_that_was_dropped(tmp_path):
    """Where a start was made to forget an intent, it has no outcome, not even an unknown one; `verify` names it."""

    async def work(recorder: Recorder) -> None:
        await recorder.append("intent", intent("dropped"))
        recorder._writer.ledger.head.open.clear()  # what a changed .resume does to the next start

    folder = recorded(tmp_path, 1, work)
    (found,) = [f for f in verify(folder).findings if f.severity == "invalid"]
    assert (found.seq, "no outcome" in found.what) == (3, True)


def test_whole_store_rolled_back(tmp_path):
    """An older copy of everything is valid by itself, and invalid beside a checkpoint kept elsewhere."""
    folder = recorded(tmp_path, 2)
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    recorded(tmp_path, 2)
    kept = tmp_path / "kept"
    shutil.copy(folder / NOTES, kept)
    shutil.rmtree(folder)
    shutil.copytree(old, folder)
    assert verify(folder).verdict == "valid"
    assert verify(folder, checkpoint=kept).verdict == "invalid"


def test_fork(tmp_path):
    """Two histories from one beginning: each is valid alone, neither fits the other's checkpoint."""
    folder = recorded(tmp_path, 1)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copytree(folder, other / "recordings")
    shutil.copytree(tmp_path / "state", other / "state")
    recorded(tmp_path, 2)
    fork = recorded(other, 2)
    assert verify(folder).verdict == verify(fork).verdict == "valid"
    assert verify(folder, checkpoint=fork / NOTES).verdict == "invalid"
    assert verify(fork, checkpoint=folder / NOTES).verdict == "invalid"


def test_bodies_swapped(folder):
    one, two = (path for path in (folder / "bodies").iterdir())
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    report = verify(folder)
    assert {finding.file for finding in report.findings if finding.severity == "invalid"} == {
        f"bodies/{one.name}",
        f"bodies/{two.name}",
    }


def test_body_or_session_file_removed(folder):
    body = next((folder / "bodies").iterdir())
    body.unlink()
    (frames,) = (folder / "flows").glob("*/*.mitm")
    frames.unlink()
    missing = {finding.file for finding in verify(folder).findings if finding.severity == "invalid"}
    assert missing == {f"bodies/{body.name}", frames.relative_to(folder).as_posix()}


def test_what_nothing_refers_to_is_named(folder):
    """A file, a body, and bytes behind the last frame, that no record speaks of."""
    (frames,) = (folder / "flows").glob("*/*.mitm")
    size = frames.stat().st_size
    with frames.open("ab") as file:
        file.write(b"more")
    (folder / "flows" / "2026-01-01").mkdir()
    (folder / "flows" / "2026-01-01" / "x.mitm").write_bytes(b"x")
    (folder / "bodies" / ("0" * 64)).write_bytes(b"x")
    (folder / "more.mitm").write_bytes(b"x")
    found = {(f.file, f.offset) for f in verify(folder).findings if f.severity == "invalid"}
    assert found == {
        (frames.relative_to(folder).as_posix(), size),
        ("flows/2026-01-01/x.mitm", -1),
        (f"bodies/{'0' * 64}", -1),
        ("more.mitm", -1),
    }


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE flows SET path = '/other' WHERE seq = 3",
        "UPDATE flows SET outcome = 'refused' WHERE seq = 5",
        "DELETE FROM flows WHERE seq = 3",
        "INSERT INTO flows (seq, id) VALUES (4, 'x')",
        "INSERT INTO flows (seq, id) VALUES (4000, 'x')",
        "UPDATE masks SET count = 7 WHERE flow = 3",
        "DELETE FROM masks",
        "INSERT INTO sessions (id) VALUES ('x')",
        "DROP TABLE flows",
        "INSERT INTO flows_fts (flows_fts, rowid, actions, resource, host, path) SELECT 'delete', seq, actions, resource, host,"
        " path FROM flows WHERE seq = 3",
        "CREATE TRIGGER hide AFTER INSERT ON flows BEGIN DELETE FROM flows WHERE seq = new.seq; END",
        "DROP VIEW calls; CREATE VIEW calls AS SELECT * FROM flows WHERE outcome != 'refused'",
        "DROP INDEX flows_session",
    ],
)
def test_changed_index(folder, change):
    with sqlite3.connect(folder / "index.db") as db:
        for each in change.split("; C") if "VIEW" in change else [change]:
            db.execute(each if each[:2] != "RE" else f"C{each}")
    db.close()
    report = verify(folder)
    assert report.verdict == "invalid"
    assert all(f.file == "index.db" for f in report.findings if f.severity == "invalid")


def test_no_room_to_check_the_words(folder, monkeypatch):
    """A full disk of the auditor's is no reason to call an index changed."""
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    assert verify(folder).verdict == "valid"


def test_index_behind_the_log_is_fine(tmp_path, folder):
    recorded(tmp_path, 2)
    assert verify(folder).verdict == "valid"


def test_wrong_key_and_right_key(tmp_path, folder):
    """The key that was published decides; a recording signed with another one is invalid."""
    right = verify(folder).key
    other = note.Signer(note.VerifierKey.parse(right).name, Ed25519PrivateKey.generate())
    assert verify(folder, public_key=right).verdict == "valid"
    assert verify(folder, public_key=str(other.verifier)).verdict == "invalid"
    with pytest.raises(StoreError):
        verify(folder, public_key="nonsense")


def test_key_replaced_by_a_thief(tmp_path, folder):
    """Everything signed anew with another key, the log's own `start` included: the published key shows it."""
    published = verify(folder).key
    (tmp_path / "state" / "evidence.key").unlink()
    private = keys.make(tmp_path / "state" / "evidence.key")
    origin = json.loads(lines_of(folder)[0])["origin"]
    mine = str(note.Signer(origin, private).verifier)
    forged(tmp_path, [line.replace(published.encode(), mine.encode()) for line in lines_of(folder)])
    assert verify(folder).verdict == "valid"
    assert verify(folder, public_key=published).verdict == "invalid"


def test_unproven_when_proof_from_outside_is_asked_for(tmp_path, folder):
    report = verify(folder, require_anchor=True)
    assert (report.verdict, report.exit_code) == ("unproven", 3)
    assert report.tail_records == report.records
    kept = tmp_path / "kept"
    shutil.copy(folder / NOTES, kept)
    recorded(tmp_path, 1)
    report = verify(folder, checkpoint=kept, require_anchor=True)
    assert (report.verdict, report.tail_records) == ("valid", 4)
    assert report.tail_seconds > 0


@pytest.mark.parametrize("name", [LOG, NOTES, "frames", "bodies", "index.db"])
def test_every_flipped_bit_is_found(folder, name):
    """A bit flipped anywhere in log, checkpoints, frames, bodies: invalid. In the index: invalid, or where nothing is."""
    path = {
        "frames": lambda: next((folder / "flows").glob("*/*.mitm")),
        "bodies": lambda: next((folder / "bodies").iterdir()),
    }.get(name, lambda: folder / name)()
    whole = path.read_bytes()
    rng = random.Random(7)
    missed = []
    tries = 60
    for _ in range(tries):
        at = rng.randrange(len(whole))
        data = bytearray(whole)
        data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            report = verify(folder)
        except StoreError:
            continue
        if report.verdict != "invalid":
            missed.append((at, bytes(whole[at : at + 1])))
    path.write_bytes(whole)
    if name == "index.db":
        assert len(missed) < tries  # most of a page is unused
    elif name == NOTES:
        text = whole.decode()
        assert all(text.encode()[at : at + 1] == b"\n" for at, _ in missed)
    else:
        assert missed == []


def test_nothing_there(tmp_path):
    with pytest.raises(StoreError, match="no recording"):
        verify(tmp_path)


def test_verify_while_the_gateway_runs(tmp_path):
    """A frame or body that a running gateway has just written is no reason to call its recording invalid."""

    async def run() -> Report:
        recorder = Recorder.open(tmp_path / "recordings", tmp_path / "state", configuration={})
        await one_flow(recorder)
        sink = recorder.body_sink()
        sink.write(b"x")
        sink.finish()
        report = verify(tmp_path / "recordings")
        await recorder.close()
        return report

    assert asyncio.run(run()).verdict == "valid"
    assert verify(tmp_path / "recordings").verdict == "invalid"


def test_progress_is_told(tmp_path):
    folder = recorded(tmp_path, 2, body_of(10 << 20))
    told: list[tuple[int, int]] = []
    verify(folder, progress=lambda done, total: told.append((done, total)))
    assert told and all(done <= total for done, total in told)


def body_of(size: int):
    async def work(recorder: Recorder) -> None:
        await one_flow(recorder, body=b"x" * size)

    return work


def test_verify_after_a_crash_that_nobody_repaired(tmp_path):
    """What a kill leaves at the ends is no reason to call a recording invalid; what lies before them is."""
    from test_recording_kill import run_and_kill

    executed: set[str] = set()
    while not executed:
        executed, _ = run_and_kill(tmp_path, 0.3)
    folder = tmp_path / "recordings"
    assert verify(folder).verdict == "valid", [str(finding) for finding in verify(folder).findings]
    lines = lines_of(folder)
    put(folder, [lines[0].replace(b'"pid":', b'"pid": '), *lines[1:]])
    assert verify(folder).verdict == "invalid"


@pytest.mark.skipif(
    os.geteuid() != 0 or not hasattr(os, "fork"), reason="needs root, to become somebody who may only read"
)
def test_verify_by_somebody_who_may_only_read(folder):
    """An auditor without the right to write, in a process of that user."""
    for path in (folder, *folder.parents):
        if path.owner() == "root" and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            report = verify(folder)
            os._exit({"valid": 0}.get(report.verdict, 1))
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_start_signs_nothing_that_somebody_put_there(tmp_path, folder, attack, left):
    """Checkpoints deleted, all of them or but the first, and the log rewritten: the next start does not sign it anew."""
    lines = lines_of(folder)
    attack(lines)
    put(folder, chained(lines))
    texts = list(note.split((folder / NOTES).read_text("utf-8").splitlines(keepends=True)))
    (folder / NOTES).write_text("\n".join(texts[:left]) + "\n" * left, "utf-8")
    (folder / ".resume").unlink(missing_ok=True)
    before = (folder / LOG).read_bytes()
    with pytest.raises(StoreError, match="checkpoints are missing"):
        Recorder.open(folder, tmp_path / "state", configuration={})
    assert (folder / LOG).read_bytes() == before


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("dressed", [False, True])
def test_records_behind_a_stop(tmp_path, resume, dressed):
    """Appended to a recording that had ended, bare or dressed as a start's batch: invalid, and no start signs them."""
    folder = recorded(tmp_path, 3)
    lines = lines_of(folder)
    now = json.loads(lines[-1])["time"]
    fake = [json.loads(line) for line in lines[1:3]]
    if dressed:
        fake.insert(0, json.loads(lines[0]))
    put(folder, chained([*lines, *(canonical({**record, "flow": "fake", "time": now}) for record in fake)]))
    if not resume:
        (folder / ".resume").unlink()
    assert any("behind the end of a run" in f.what or "are missing" in f.what for f in verify(folder).findings)
    assert verify(folder).verdict == "invalid"
    with pytest.raises(StoreError, match=r"behind the end of a run|checkpoints are missing"):
        Recorder.open(folder, tmp_path / "state", configuration={})


def test_a_long_time_without_a_signature(tmp_path):
    """A few records in hours behind the last signature: unproven; the next start leaves a gap record that says so."""
    signed = recorded(tmp_path, 2)
    lines = lines_of(signed)[:-1]  # killed before its end
    texts = list(note.split((signed / NOTES).read_text("utf-8").splitlines(keepends=True)))
    (signed / NOTES).write_text("\n".join(texts[:-1]) + "\n", "utf-8")
    last = json.loads(lines[-1])
    extra = canonical({**last, "type": "alarm", "kind": "x", "message": "", "time": later(lines[0], 7200)})
    put(signed, chained([*lines, extra]))
    (signed / ".resume").unlink()
    report = verify(signed)
    assert report.verdict == "unproven" and "nothing was signed for 7200 s" in str(report.findings)
    recorded(tmp_path, 1)
    report = verify(signed)
    assert report.verdict == "valid"
    assert any("had not been signed when the gateway ended" in f.what for f in report.findings)


def later(line: bytes, seconds: float) -> str:
    moment = datetime.fromisoformat(json.loads(line)["time"]) + timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_an_index_that_a_crash_left_without_its_tables_says_nothing(tmp_path):
    """One with rows and without its position was changed; one that was never made is as good as none."""
    folder = recorded(tmp_path, 3)
    index = folder / "index.db"
    index.unlink(missing_ok=True)
    with sqlite3.connect(index) as db:
        db.execute("CREATE TABLE _sqlite_migrations (migration_set TEXT, name TEXT)")
    assert verify(folder).verdict == "valid"
    index.unlink()
    rebuild(folder)
    with sqlite3.connect(index) as db:
        db.execute("DROP TABLE position")
    assert verify(folder).verdict == "invalid"
