"""Files written past the page cache: the same bytes at any sizes of parts, and on file systems that know no such writes."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from pathlib import Path

import pytest

from flowwarden.recording.direct import BLOCK, Direct
from flowwarden.recording.disk import Disk


class Unable(Disk):
    """A file system without such writes: it says so at once, or with the first of them."""

    def __init__(self, at_once: bool) -> None:
        self.at_once = at_once
        self.asked: list[bool] = []

    def past_cache(self, handle: int, on: bool) -> None:
        self.asked.append(on)
        if on and self.at_once:
            raise OSError(errno.EINVAL, "no such writes")

    def write(self, handle: int, data: object) -> None:
        if self.asked == [True]:
            raise OSError(errno.EINVAL, "no such writes")
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
@pytest.mark.parametrize("disk", [Disk(), Unable(True), Unable(False)], ids=["disk", "unable", "unable to write"])
def test_what_was_written_is_there(tmp_path: Path, seed: int, disk: Disk) -> None:
    if isinstance(disk, Unable):
        disk.asked.clear()
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
