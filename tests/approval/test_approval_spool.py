"""Spools: bodies on disk, hashed as they come, bounded, nameless, and read back only as what was hashed."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from flowwarden.approval.spool import BLOCK, Spool, Spools
from flowwarden.errors import Refusal

BODY = os.urandom(3 * BLOCK + 17)


async def filled(spools: Spools, body: bytes = BODY, announced: int = 0) -> Spool:
    spool = spools.open(announced)
    for at in range(0, len(body), 70_001):
        spool.write(body[at : at + 70_001])
    await spool.end()
    return spool


async def out(spool: Spool) -> bytes:
    read = b""
    while block := await spool.read():
        assert len(block) <= BLOCK
        read += block
    return read


async def test_in_and_out(tmp_path: Path) -> None:
    spool = await filled(Spools(tmp_path, 1 << 30))
    assert (spool.size, spool.sha256) == (len(BODY), hashlib.sha256(BODY).hexdigest())
    assert spool.said == spool.sha256
    assert await out(spool) == BODY


async def test_an_empty_body(tmp_path: Path) -> None:
    spool = await filled(Spools(tmp_path, 1), b"")
    assert await out(spool) == b""
    assert spool.sha256 == hashlib.sha256(b"").hexdigest()


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """The file has no name: not while it is there, so not after a crash either. Nobody else may read it."""
    spool = await filled(Spools(tmp_path, 1 << 30))
    assert os.listdir(tmp_path) == []
    descriptor = spool._file.fileno()
    assert os.fstat(descriptor).st_nlink == 0
    assert os.fstat(descriptor).st_mode & 0o777 == 0o600
    spool.close()
    spool._thread.shutdown(wait=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


async def test_a_byte_changed_on_disk(tmp_path: Path) -> None:
    """What leaves is what was hashed, or the end never comes."""
    spool = await filled(Spools(tmp_path, 1 << 30))
    os.pwrite(spool._file.fileno(), bytes([BODY[BLOCK] ^ 1]), BLOCK)
    with pytest.raises(Refusal, match="not the one that was approved"):
        await out(spool)


async def test_a_file_cut_short(tmp_path: Path) -> None:
    spool = await filled(Spools(tmp_path, 1 << 30))
    os.ftruncate(spool._file.fileno(), BLOCK)
    with pytest.raises(Refusal, match="not the one that was approved"):
        await out(spool)


async def test_a_body_over_the_limit(tmp_path: Path) -> None:
    """On its announcement, and as it comes."""
    spools = Spools(tmp_path, 1000)
    with pytest.raises(Refusal, match="larger than the 1000 bytes") as told:
        spools.open(1001)
    assert told.value.status == 413
    spool = spools.open(0)
    spool.write(bytes(1000))
    with pytest.raises(Refusal, match="larger than the 1000 bytes"):
        spool.write(b"x")
    spool.close()
    assert spools.used == 0


async def test_all_bodies_together(tmp_path: Path) -> None:
    """What one call takes another cannot have; its room comes back with its end, once."""
    spools = Spools(tmp_path, 1000)
    first, second = spools.open(600), spools.open(0)
    first.write(bytes(600))
    second.write(bytes(400))
    with pytest.raises(Refusal, match="try again later") as told:
        second.write(b"x")
    assert (told.value.status, told.value.code) == (503, "SlowDown")
    with pytest.raises(Refusal, match="try again later"):
        spools.open(1)
    first.close()
    first.close()
    spools.open(600)
    assert spools.used == 1000


async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, with the reason; what has come is not taken for the whole."""
    spool = Spools(tmp_path, 1 << 30).open(0)

    def full(data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "_file", type("Full", (), {"write": staticmethod(full), "close": lambda self: None})())
    spool.write(b"x")
    with pytest.raises(Refusal, match="No space left") as told:
        await spool.end()
    assert told.value.status == 503
    assert spool.sha256 == ""


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="cannot be kept"):
        Spools(tmp_path / "gone", 1000).open(0)


async def test_closed_while_it_is_read(tmp_path: Path) -> None:
    """A client that leaves: the file closes behind what was asked of it before, and no other file is touched."""
    spool = await filled(Spools(tmp_path, 1 << 30))
    reading = asyncio.ensure_future(spool.read())
    await asyncio.sleep(0)
    spool.close()
    assert await reading == BODY[:BLOCK]
    with pytest.raises(RuntimeError):
        await spool.read()
