"""Files written past the page cache: the same bytes at any sizes of parts, and on file systems that know no such writes."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from pathlib import Path

import pytest

from flowwarden.errors import StoreError
from flowwarden.recording.direct import BLOCK, Direct
from flowwarden.recording.disk import Disk
from flowwarden.recording.recorder import Recorder


class Unable(Disk):
    """A file system without such writes: it says so when it is asked, or with one of them, counted from 0."""

    def __init__(self, write: int | None) -> None:
        self._write = write
        self._left = 0
        self._on = False

    def open(self, path: Path) -> int:
        self._left, self._on = self._write or 0, False
        return super().open(path)

    def past_cache(self, handle: int, on: bool) -> None:
        if on and self._write is None:
            raise OSError(errno.EINVAL, "no such writes")
        self._on = on

    def write(self, handle: int, data: object) -> None:
        if self._on:
            if not self._left:
                raise OSError(errno.EINVAL, "no such writes")
            self._left -= 1
        super().write(handle, data)  # type: ignore[arg-type]


def _written(disk: Disk, path: Path, parts: list[bytes]) -> bytes:
    handle = disk.open(path)
    try:
        file = Direct(disk, handle)
        for part in parts:
            file.write(part)
        file.flush()
    finally:
        disk.close(handle)
    return path.read_bytes()


def _parts(seed: int) -> list[bytes]:
    rng = random.Random(seed)
    sizes = [0, 1, 4095, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17, 100_000]
    return [rng.randbytes(size) for size in rng.sample(sizes, rng.randrange(len(sizes) + 1))]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "disk", [Disk(), Unable(None), Unable(0), Unable(2)], ids=["disk", "unable", "unable to write", "unable later"]
)
def test_what_was_written_is_there(tmp_path: Path, seed: int, disk: Disk) -> None:
    parts = _parts(seed)
    assert _written(disk, tmp_path / "body", parts) == b"".join(parts)


def test_blocks_do_go_past_the_cache(tmp_path: Path) -> None:
    """Where the file system can: else this says nothing."""

    class Watched(Disk):
        modes: list[bool] = []

        def write(self, handle: int, data: object) -> None:
            self.modes.append(bool(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT))
            super().write(handle, data)  # type: ignore[arg-type]

    disk = Watched()
    handle = disk.open(tmp_path / "probe")
    try:
        disk.past_cache(handle, True)
    except OSError as error:
        pytest.skip(f"this file system has no direct writes: {error}")
    finally:
        disk.close(handle)
    _written(disk, tmp_path / "body", [bytes(2 * BLOCK + 5)])
    assert disk.modes == [True, True, False]


def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that is cut short goes on by the cache, from wherever it was cut, and gives the reason itself."""
    disk = Disk()
    handle = disk.open(tmp_path / "body")
    real, room = os.write, BLOCK + 1000

    def short(to: int, data: bytes) -> int:
        nonlocal room
        if to != handle:
            return real(to, data)
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = min(len(data), room)
        room -= count
        return count

    monkeypatch.setattr(os, "write", short)
    file = Direct(disk, handle)
    file.write(bytes(BLOCK))
    with pytest.raises(OSError, match="No space left"):
        file.write(bytes(BLOCK))
    assert not fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT
    disk.close(handle)


async def test_a_body_that_failed_gives_its_memory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: what it left behind is a cycle that no collection has seen yet. The disk was full in mid-write."""
    recorder = Recorder.open(tmp_path / "recordings", tmp_path / "state", configuration={})
    sink = recorder.body_sink()
    real = os.write

    def short(to: int, data: bytes) -> int:
        if to != sink._handle:
            return real(to, data)
        if len(data) == BLOCK:
            return 4096
        del data  # the traceback must not be what keeps it
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(StoreError, match="No space left") as caught:
        sink.write(bytes(BLOCK))
    assert sink._file._block.closed
    assert caught.value.__cause__ is not None
    monkeypatch.undo()
    await recorder.close()
    assert not list((tmp_path / "recordings" / "bodies").iterdir())
