"""A power cut at any moment: what was acknowledged is there again, though no file but the journal was synced."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest
from recording_helpers import intent, one_flow, recorded

from flowwarden.errors import StoreError
from flowwarden.recording import journal, records
from flowwarden.recording.disk import Disk
from flowwarden.recording.read import outcomes
from flowwarden.recording.recorder import Recorder
from flowwarden.recording.verify import verify


class Volatile(Disk):
    """Remembers what of each file was synced, so that a power cut can take the rest."""

    def __init__(self) -> None:
        self.paths: dict[int, Path] = {}
        self.synced: dict[Path, bytes] = {}

    def open(self, path: Path) -> int:
        handle = super().open(path)
        self.paths[handle] = path
        self.synced.setdefault(path, path.read_bytes())
        return handle

    def prepare(self, path: Path, size: int) -> int:
        handle = super().prepare(path, size)
        self.paths[handle] = path
        self.synced[path] = path.read_bytes()
        return handle

    def overwrite(self, handle: int, data: bytes, offset: int) -> None:
        super().overwrite(handle, data, offset)
        self.synced[self.paths[handle]] = self.paths[handle].read_bytes()

    def sync(self, handle: int) -> None:
        super().sync(handle)
        path = self.paths[handle]
        self.synced[path] = path.read_bytes()

    def power_cut(self, folder: Path, rng: random.Random) -> None:
        """Every file as far as it was synced; of what came later the disk may hold any part, or zeros."""
        for path, kept in self.synced.items():
            if not path.exists():
                continue
            later = path.read_bytes()[len(kept) :] if path.name != journal.FILE else b""
            cut = rng.randrange(len(later) + 1) if later else 0
            rest = later[:cut] if rng.random() < 0.5 else bytes(cut)
            path.write_bytes(kept + rest)


@pytest.mark.parametrize("seed", range(8 if not os.environ.get("FLOWWARDEN_SOAK") else 500))
def test_power_cut(tmp_path, seed):
    """Every flow that was acknowledged has its outcome and frame; the log is whole; the gateway starts."""
    rng = random.Random(seed)
    disk, acknowledged = Volatile(), set()
    before = tmp_path / "before"

    async def run() -> None:
        recorder = Recorder.open(tmp_path / "recordings", tmp_path / "state", configuration={}, disk=disk)
        for _ in range(rng.randrange(1, 25)):
            size = rng.choice([10, 10, 10, 5000, 3 << 20])
            flows = await asyncio.gather(
                *(one_flow(recorder, body=rng.randbytes(size)) for _ in range(rng.randrange(1, 4)))
            )
            acknowledged.update(flows)
            if rng.random() < 0.1:
                await recorder.checkpoint()
        await recorder.append("intent", intent("left"))
        shutil.copytree(tmp_path / "recordings", before)
        copied = {before / path.relative_to(tmp_path / "recordings"): data for path, data in disk.synced.items()}
        disk.synced = copied
        await recorder.close()

    asyncio.run(run())
    shutil.rmtree(tmp_path / "recordings")
    disk.power_cut(before, rng)
    shutil.copytree(before, tmp_path / "recordings")
    folder = recorded(tmp_path, 1)
    report = verify(folder)
    assert report.verdict == "valid", report.findings
    ends = {call["flow"]: end for call, end in outcomes(folder)}
    assert {flow for flow, end in ends.items() if end["outcome"] == "ok"} >= acknowledged
    assert ends["left"]["outcome"] == "unknown"


LOG, ONE, TWO, OTHER = "evidence.ndjson", *(f"flows/2026-11-20/{name}.mitm" for name in ("one", "two", "other"))


def there(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found - {journal.FILE}


def test_a_torn_journal_entry_ends_it(tmp_path):
    """The entry that a power cut tore was acknowledged to nobody; what is before it counts."""
    made = journal.Journal(tmp_path, Disk())
    made.put([(LOG, 0, b"one")])
    made.put([(LOG, 3, b"two")])
    made.put([(ONE, 0, b"three")])
    path = tmp_path / journal.FILE
    whole = path.read_bytes()
    at = whole.index(b"three")
    path.write_bytes(whole[:at] + b"x" + whole[at + 1 :])
    journal.replay(tmp_path)
    assert (tmp_path / LOG).read_bytes() == b"onetwo"
    assert there(tmp_path) == {LOG}


def test_older_generations_are_not_replayed(tmp_path):
    """What lies behind the newest entries is from before a reset, and is left alone."""
    made = journal.Journal(tmp_path, Disk())
    made.put([(LOG, 0, b"1234")])
    made.put([(ONE, 0, b"1234")])
    made.reset()
    made.put([(TWO, 0, b"1234")])
    journal.replay(tmp_path)
    assert there(tmp_path) == {TWO}
    again = journal.Journal(tmp_path, Disk())
    again.put([(OTHER, 0, b"1234")])
    (tmp_path / TWO).unlink()
    journal.replay(tmp_path)
    assert there(tmp_path) == {OTHER}


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "flows/../../x", "bodies/x", "flows/2026-11-20/../x.mitm", "index.db", ""]
)
def test_a_journal_writes_nowhere_else(tmp_path, name):
    """Somebody who can write the folder cannot make the gateway write outside it."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    journal.Journal(folder, Disk()).put([(name, 0, b"1234"), (LOG, 0, b"5678")])
    journal.replay(folder)
    assert there(tmp_path) - {f"a/b/{journal.FILE}"} == {f"a/b/{LOG}"}
    assert (folder / LOG).read_bytes() == b"5678"


def test_no_room_for_a_journal(tmp_path):
    class Full(Disk):
        def prepare(self, path: Path, size: int) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        Recorder.open(tmp_path / "recordings", tmp_path / "state", configuration={}, disk=Full())


async def test_the_journal_wraps(tmp_path):
    """More than fits: files are synced in between, nothing is lost."""
    recorder = Recorder.open(tmp_path / "recordings", tmp_path / "state", configuration={})
    for n in range(30):
        seq = await recorder.append("intent", intent(f"f{n}"))
        frame = b"%d:%b," % (900_000, bytes(900_000))
        await recorder.outcome(records.outcome(f"f{n}", "ok", intent=seq), frame, session="s")
    await recorder.close()
    report = verify(tmp_path / "recordings")
    assert (report.verdict, report.frames) == ("valid", 30)
    assert not (tmp_path / "recordings" / journal.FILE).exists()
