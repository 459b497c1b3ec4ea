"""What happens to a recording over the years: keys change, days are removed, anchors are set, CloudTrail is compared."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from recording_helpers import SESSION, intent, one_flow, recorded

from flowwarden.errors import ConfigError, StoreError
from flowwarden.recording import note, records
from flowwarden.recording.anchor import Anchors, CommandAnchor, Outside, S3Anchor, from_option
from flowwarden.recording.disk import Disk
from flowwarden.recording.ledger import DiskError
from flowwarden.recording.read import records as read_records
from flowwarden.recording.reconcile import reconcile
from flowwarden.recording.recorder import Recorder
from flowwarden.recording.verify import verify

DAY = 86400.0


class Deaf:
    """An anchor that does not answer."""

    kind = "s3"

    def put(self, checkpoint):
        raise StoreError("the anchor does not answer")

    fetch = put


# keys


def test_rotated_key_is_valid_for_either_key(tmp_path):
    """Old and new key both sign the hand-over; the recording is valid for whoever knows either."""
    keys: list[str] = []

    async def work(recorder: Recorder) -> None:
        keys.append(recorder.key)
        keys.append(await recorder.rotate())
        await one_flow(recorder)

    recorded(tmp_path, 2, work)
    folder = recorded(tmp_path, 1)
    old, new = keys
    assert old != new
    assert verify(folder).key == new
    assert [verify(folder, public_key=key).verdict for key in keys] == ["valid", "valid"]
    assert {path.name for path in (tmp_path / "state").iterdir()} == {
        ".lock",
        "evidence.key",
        f"evidence.key.{old.split('+')[1]}",
    }


def test_rotation_that_only_one_key_signed_is_invalid(tmp_path):
    """Somebody with only the new key cannot take the log over, nor with only the old one put another key in."""

    async def work(recorder: Recorder) -> None:
        await recorder.rotate()

    folder = recorded(tmp_path, 1, work)
    other = recorded(tmp_path / "other", 0, work)
    lines = (folder / "evidence.ndjson").read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"type":"key"' in line)
    mine = json.loads(lines[at])
    theirs = next(
        json.loads(line) for line in (other / "evidence.ndjson").read_bytes().splitlines() if b'"type":"key"' in line
    )
    for field in ("old_signature", "new_signature", "new"):
        changed = {**mine, field: theirs[field]}
        lines[at] = json.dumps(changed).encode() + b"\n"
        (folder / "evidence.ndjson").write_bytes(b"".join(lines))
        assert any("did not both sign" in finding.what for finding in verify(folder).findings)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_crash_in_a_rotation(tmp_path, monkeypatch, moment):
    """Before the record: the old key goes on. After it: the new key is found and put in its place."""

    async def work(recorder: Recorder) -> None:
        def crash(*_: object) -> None:
            raise DiskError(OSError(errno.EIO, "crash"), "crash", False)

        if moment == "before":
            monkeypatch.setattr(recorder._writer.ledger, "commit", crash)
        else:
            monkeypatch.setattr("flowwarden.recording.rotate.settle", crash)
        with pytest.raises(StoreError):
            await recorder.rotate()

    recorded(tmp_path, 1, work)
    monkeypatch.undo()
    folder = recorded(tmp_path, 1)
    report = verify(folder)
    assert report.verdict == "valid", report.findings
    assert [record["type"] for _, record in read_records(folder)].count("key") == (moment == "after")


# retention


def test_retention_leaves_hashes(tmp_path):
    """Old days go, a record says what they were and when, and verify still says valid and lists them."""
    now = [1_800_000_000.0]

    async def with_body(recorder: Recorder, fill: bytes) -> None:
        sink = recorder.body_sink()
        sink.write(fill)
        digest, size, _ = sink.finish()
        seq = await recorder.append("intent", intent(f"b-{fill.decode()}"))
        body = {"of": "request", "sha256": digest, "size": size, "kept": True}
        await recorder.outcome(records.outcome("b", "ok", intent=seq, bodies=[body]), None, session="s")

    async def work(recorder: Recorder) -> None:
        await one_flow(recorder)
        await with_body(recorder, b"old")
        await with_body(recorder, b"both")
        now[0] += 100 * DAY
        await one_flow(recorder)
        await with_body(recorder, b"both")
        assert await recorder.expire(90 * DAY) == 2
        assert await recorder.expire(90 * DAY) == 0

    folder = recorded(tmp_path, 0, work, clock=lambda: now[0])
    assert len(list(folder.glob("flows/*/*.mitm"))) == 1
    assert [path.read_bytes() for path in (folder / "bodies").iterdir()] == [b"both"]
    report = verify(folder)
    assert report.verdict == "valid", report.findings
    assert [entry["file"].split("/")[0] for entry in report.removed] == ["flows", "bodies"]
    assert all(len(entry["sha256"]) == 64 and entry["time"].startswith("2027") for entry in report.removed)
    recorded(tmp_path, 1, clock=lambda: now[0])
    assert verify(folder).verdict == "valid"


def test_a_removal_is_signed_before_anything_goes(tmp_path, monkeypatch):
    """verify takes no unsigned word for a removal, so that a kill in between must not leave one."""
    now = [1_800_000_000.0]
    signed: list[bool] = []

    def remove(folder: Path, record: dict) -> int:
        text = (folder / "checkpoints").read_text("utf-8").splitlines(keepends=True)
        last = max(note.parse(each).size for each in note.split(text))
        signed.append(any(r["type"] == "removal" for _, r in list(read_records(folder))[:last]))
        return 0

    async def work(recorder: Recorder) -> None:
        await one_flow(recorder)
        now[0] += 100 * DAY
        await recorder.expire(90 * DAY)

    monkeypatch.setattr("flowwarden.recording.recorder.remove", remove)
    recorded(tmp_path, 0, work, clock=lambda: now[0])
    assert signed == [True]


def test_removal_without_a_record_is_invalid(tmp_path):
    folder = recorded(tmp_path, 2)
    shutil.rmtree(next((folder / "flows").iterdir()))
    assert verify(folder).verdict == "invalid"


# anchors


def s3_bucket():
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="anchors", ObjectLockEnabledForBucket=True)
    return client


def test_s3_anchor_vouches_from_outside(tmp_path, monkeypatch):
    """A checkpoint under Object Lock, its receipt in the log; a forged store is found out by fetching it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        anchor = S3Anchor("anchors", "gw/", days=1, client=s3_bucket())

        async def work(recorder: Recorder) -> None:
            anchors = Anchors(recorder, [anchor])
            seq = await recorder.append("intent", intent("f"))
            await anchors.cover(seq)
            await anchors.cover(seq)
            await recorder.outcome(records.outcome("f", "ok", intent=seq), None, session="s")

        folder = recorded(tmp_path, 2, work)
        (record,) = [record for _, record in read_records(folder) if record["type"] == "anchor"]
        assert record["receipt"]["bucket"] == "anchors" and record["size"] == 6
        report = verify(folder, require_anchor=True, outside=Outside([anchor]))
        assert (report.verdict, report.tail_records) == ("valid", report.records - 6)
        assert verify(folder, require_anchor=True).verdict == "unproven"
        old = recorded(tmp_path / "other", 6)
        shutil.copy(old / "checkpoints", folder / "checkpoints")
        assert verify(folder, outside=Outside([anchor])).verdict == "invalid"


def test_an_anchor_that_has_nothing_to_show_proves_nothing(tmp_path):
    """A command cannot be asked what it has seen, and this recording names none of its receipts."""
    folder = recorded(tmp_path, 2)
    report = verify(folder, outside=Outside([CommandAnchor(["/bin/false"])]))
    assert (report.verdict, report.exit_code, report.proven) == ("unproven", 3, False)
    assert "no anchor was asked" in str(report.findings[0])
    assert verify(folder).verdict == "valid"


def test_s3_anchor_shows_what_was_cut_off(tmp_path, monkeypatch):
    """Rolled back to before an anchor that it no longer speaks of, with all signatures right: the bucket knows of more.

    Neither a delete marker on the newest checkpoint nor a later version of it hides that.
    """
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        client = s3_bucket()
        anchor = S3Anchor("anchors", "gw/", days=1, client=client)

        async def work(recorder: Recorder) -> None:
            await recorder.append("intent", intent("f"))
            anchors = Anchors(recorder, [anchor])
            await anchors.cover(recorder._writer.ledger.head.seq - 1)

        folder = recorded(tmp_path, 2, work)
        old = tmp_path / "old"
        shutil.copytree(folder, old)
        assert verify(folder, outside=Outside([anchor]), require_anchor=True).verdict == "valid"
        for _ in range(2):  # moto skips the first key behind a marker that is none itself
            recorded(tmp_path, 2, work)
        assert verify(folder, outside=Outside([anchor]), require_anchor=True).verdict == "valid"
        for attempt in ("plain", "deleted", "overwritten"):
            newest = client.list_objects_v2(Bucket="anchors").get("Contents", [{}])[-1].get("Key")
            if attempt == "deleted":
                client.delete_object(Bucket="anchors", Key=newest)
            elif attempt == "overwritten":
                client.put_object(Bucket="anchors", Key=newest, Body=b"nothing")
            assert verify(old).verdict == "valid"
            report = verify(old, outside=Outside([anchor]))
            assert any("its end was cut off" in f.what for f in report.findings if f.severity == "invalid"), attempt


def test_a_locked_checkpoint_cannot_be_deleted(monkeypatch):
    """Object Lock in compliance mode, as the bucket enforces it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        client = s3_bucket()
        anchor = S3Anchor("anchors", days=3, client=client)
        text = "flowwarden.internal/x\n1\n" + "A" * 43 + "=\n\n"
        receipt = anchor.put(text)
        lock = client.head_object(Bucket="anchors", Key=receipt["key"], VersionId=receipt["version"])
        assert lock["ObjectLockMode"] == "COMPLIANCE"
        assert lock["ObjectLockRetainUntilDate"] > datetime.now(UTC) + timedelta(days=2.9)
        with pytest.raises(ClientError, match="AccessDenied"):
            client.delete_object(Bucket="anchors", Key=receipt["key"], VersionId=receipt["version"])
        assert anchor.fetch(receipt) == text


def test_unlocked_bucket_is_no_anchor(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="plain")
        with pytest.raises(StoreError):
            S3Anchor("plain", client=client).put("flowwarden.internal/x\n0\n" + "A" * 43 + "=\n\n")
        with pytest.raises(StoreError):
            S3Anchor("nowhere", client=client).put("flowwarden.internal/x\n0\n" + "A" * 43 + "=\n\n")


async def test_unreachable_anchor_refuses_calls_that_demand_it(tmp_path):
    """Unproven, and calls that demand an anchor are refused; others go on."""
    recorder = Recorder.open(tmp_path / "recordings", tmp_path / "state", configuration={})
    anchors = Anchors(recorder, [Deaf()])
    seq = await recorder.append("intent", intent("f"))
    with pytest.raises(StoreError, match="does not answer"):
        await anchors.cover(seq)
    with pytest.raises(StoreError, match="none is set up"):
        await Anchors(recorder, []).cover(seq)
    assert recorder.ready
    await recorder.close()
    assert verify(tmp_path / "recordings", require_anchor=True).exit_code == 3


async def test_anchors_by_the_clock(tmp_path):
    put: list[str] = []

    class Kept(Deaf):
        kind = "kept"

        def put(self, checkpoint):
            put.append(checkpoint)
            return {}

    recorder = Recorder.open(tmp_path / "recordings", tmp_path / "state", configuration={})
    anchors = Anchors(recorder, [Kept()], every=0.01)
    anchors.start()
    async with asyncio.timeout(10):
        while not put:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await anchors.stop()
    await recorder.close()
    assert anchors.problem == ""
    assert verify(tmp_path / "recordings").verdict == "valid"


def test_command_anchor(tmp_path):
    """The checkpoint comes on standard input; what is printed is the receipt; a failure is a failure."""
    keep = tmp_path / "kept"
    program = f"import sys; open({str(keep)!r}, 'w').write(sys.stdin.read()); print('receipt 7')"
    receipt = CommandAnchor([sys.executable, "-c", program]).put("note\n")
    assert (receipt["output"], keep.read_text()) == ("receipt 7\n", "note\n")
    for bad in ([sys.executable, "-c", "exit(3)"], ["/no/such/program"]):
        with pytest.raises(StoreError):
            CommandAnchor(bad).put("note\n")
    with pytest.raises(StoreError):
        CommandAnchor([sys.executable, "-c", "import time; time.sleep(9)"], timeout=0.1).put("x")


def test_anchor_options():
    assert from_option("") is None
    assert isinstance(from_option('["/bin/true", "x"]'), CommandAnchor)
    assert isinstance(from_option("s3://b/p?account=123456789012&days=7", client=object()), S3Anchor)
    for bad in ("nonsense", "[]", "[1]", "s3://", "s3://b?x=1", "s3://b?days=x"):
        with pytest.raises(ConfigError):
            from_option(bad)


# CloudTrail


def event(request_id: str, *, key: str = "ASIALEASE", time: str = "2026-11-20T12:00:00Z", **more: object) -> dict:
    return {
        "eventTime": time, "eventName": "DescribeInstances", "eventSource": "ec2.amazonaws.com", "requestID": request_id,
        "eventID": f"e-{request_id}", "userIdentity": {"accessKeyId": key, "arn": "arn:x"}, **more,
    }  # fmt: skip


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """Calls r1 and r2 answered by AWS, one refused, one without an id; a lease."""
    moment = 1_795_176_000.0  # 2026-11-20T12:00:00Z

    async def work(recorder: Recorder) -> None:
        lease = records.lease_event(
            SESSION,
            access_key_id="ASIALEASE",
            role="arn:aws:iam::1:role/agents",
            account="1",
            expires=1.0,
            source_identity="dev",
        )
        await recorder.append("session", lease)
        for request_id in ("r1", "r2", ""):
            seq = await recorder.append("intent", intent(f"f{request_id}"))
            end = records.outcome(f"f{request_id}", "ok", intent=seq, session=SESSION, aws_request_id=request_id)
            await recorder.outcome(end, None, session=SESSION)
        refused = records.outcome("x", "refused", intent=None, session=SESSION, call=intent("x"))  # type: ignore[arg-type]
        await recorder.outcome(refused, None, session=SESSION)

    return recorded(tmp_path, 0, work, clock=lambda: moment)


def test_reconcile(tmp_path, day):
    """Both directions: what did not pass the gateway, what CloudTrail does not have; strangers do not matter."""
    late = event("r9", key="other", time="2026-11-20T13:00:00Z")
    by_identity = event("r7", key="other", userIdentity={"sessionContext": {"sourceIdentity": "dev"}})
    by_role = event("r8", userIdentity={"sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::1:role/agents"}}})
    trail = tmp_path / "trail.json.gz"
    trail.write_bytes(
        gzip.compress(json.dumps({"Records": [event("r1"), event("r6"), by_identity, by_role, late]}).encode())
    )
    found = reconcile(day, [trail])
    assert (found.matched, found.events, found.without_id, found.exit_code) == (1, 5, 1, 1)
    assert {seen.request_id for seen in found.beside} == {"r6", "r7", "r8"}
    assert [seen.request_id for seen in found.missing] == ["r2"]


@pytest.mark.parametrize(
    ("role", "arn", "ours"),
    [
        ("arn:aws:iam::2:role/ci", "arn:aws:sts::2:assumed-role/ci/build-7", True),
        ("arn:aws:iam::2:role/team/a/ci", "arn:aws:sts::2:assumed-role/ci/build-7", True),  # STS leaves the path out
        ("arn:aws-cn:iam::2:role/ci", "arn:aws-cn:sts::2:assumed-role/ci/build-7", True),
        ("arn:aws:iam::2:role/ci", "arn:aws:sts::3:assumed-role/ci/build-7", False),
        ("arn:aws:iam::2:role/ci", "arn:aws:sts::2:assumed-role/ci2/build-7", False),
        ("arn:aws:iam::2:role/ci", "arn:aws:iam::2:user/ci", False),
    ],
)
def test_reconcile_knows_a_role_by_its_sessions(tmp_path, day, role, arn, ours):
    """Not every event of an assumed role says who issued the session; its own ARN always names the role."""
    trail = tmp_path / "trail.json"
    who = {"type": "AssumedRole", "accessKeyId": "other", "arn": arn}
    trail.write_text(json.dumps({"Records": [event("r9", userIdentity=who)]}))
    assert [seen.request_id for seen in reconcile(day, [trail], roles=[role]).beside] == ["r9"] * ours


def test_reconcile_knows_a_lease_s_role_by_its_sessions(tmp_path, day):
    trail = tmp_path / "trail.json"
    who = {"type": "AssumedRole", "accessKeyId": "other", "arn": "arn:aws:sts::1:assumed-role/agents/by-hand"}
    trail.write_text(json.dumps(event("r9", userIdentity=who)))
    assert reconcile(day, [trail]).exit_code == 1


def test_reconcile_forms_of_export(tmp_path, day):
    """JSON lines, and what `aws cloudtrail lookup-events` prints."""
    lines, looked = tmp_path / "a.jsonl", tmp_path / "b.json"
    lines.write_text("\n".join(json.dumps(event(f"r{n}")) for n in (1, 2)))
    looked.write_text(json.dumps([{"CloudTrailEvent": json.dumps(event("r1"))}]))
    assert reconcile(day, [lines, looked]).matched == 2
    assert reconcile(day, [lines]).exit_code == 0


@pytest.mark.parametrize(
    "data", [b"", b"x", b"{}", b'{"Records": [1]}', b"\x1f\x8bxx", b'[{"eventTime": "x", "eventName": "y"}]']
)
def test_not_a_trail(tmp_path, day, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    if data == b"":
        assert reconcile(day, [path]).events == 0
        return
    with pytest.raises(StoreError):
        reconcile(day, [path])


# a disk that really is full


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which only Linux has")
async def test_a_device_that_really_is_full(tmp_path):
    """The kernel's own ENOSPC, by writing to /dev/full, not an imitation of it."""

    class Full(Disk):
        on = False

        def write(self, handle: int, data: bytes) -> None:
            if self.on:
                handle = os.open("/dev/full", os.O_WRONLY)  # closed with the process
            super().write(handle, data)

    disk = Full()
    recorder = Recorder.open(tmp_path / "recordings", tmp_path / "state", configuration={}, disk=disk, retry=0.01)
    disk.on = True
    with pytest.raises(StoreError, match="No space left"):
        await recorder.append("intent", intent("f"))
    disk.on = False
    async with asyncio.timeout(10):
        while not recorder.ready:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await recorder.close()
    assert verify(tmp_path / "recordings").verdict == "valid"
