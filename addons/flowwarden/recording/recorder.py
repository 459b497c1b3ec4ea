"""The recorder: evidence records and frames, durable before anybody is told so, written by one thread in batches."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import StoreError
from . import keys
from .bodies import BodySink
from .disk import Disk
from .ledger import Entry
from .retention import expired, remove
from .rotate import hand_over
from .start import begin
from .writer import LARGEST_BATCH, Writer


class Recorder:
    """Open it with `Recorder.open`, close it with `close`. Its methods belong to one event loop."""

    def __init__(self, folder: Path, writer: Writer, locks: list[int], disk: Disk, key: Path) -> None:
        self.folder = folder
        self._key = key
        self._writer = writer
        self._locks = locks
        self._disk = disk
        self._queue = writer.queue
        self._handing: list[Entry] = []
        self._parts: dict[str, list[Path]] = {}  # bodies whose outcome is to come: hash → their first names

    @classmethod
    def open(
        cls,
        folder: Path,
        state: Path,
        *,
        configuration: Mapping[str, Any],
        clock: Callable[[], float] = time.time,
        key: Path | None = None,
        disk: Disk | None = None,
        retry: float = 1.0,
        committed: Callable[[], None] | None = None,
    ) -> Recorder:
        """Takes both folders for this gateway, repairs what a crash left, and puts the `start` record down.

        `key` is the evidence key's file (state/evidence.key by default), `retry` the seconds between attempts to write
        again after a full disk, `committed` is called from the writer's thread after each batch. StoreError if the
        folder cannot be written, one of them belongs to a running gateway, or it holds a log that is not whole.
        """
        disk = disk or Disk()
        key = key or state / keys.FILE
        locks = [_lock(folder, 0o750, "warden_recordings")]
        try:
            locks.append(_lock(state, 0o700, "warden_state"))
            ledger = begin(folder, configuration=configuration, clock=clock, key=key, disk=disk)
        except BaseException:
            _let_go(locks)
            raise
        writer = Writer(ledger, retry=retry, committed=committed)
        writer.start()
        return cls(folder, writer, locks, disk, key)

    @property
    def ready(self) -> bool:
        """Whether records can be written."""
        return not self._writer.problem

    @property
    def problem(self) -> str:
        """Why not, in words for health and log; empty while all is well."""
        return self._writer.problem

    async def append(self, type: str, record: dict[str, Any]) -> int:
        """Puts a record down; gives its seq once it is durable. StoreError."""
        return await self._put(Entry(type, record))

    async def outcome(self, record: dict[str, Any], frame: bytes | None, *, session: str) -> int:
        """Puts a flow's frame and outcome down; gives the record's seq once both are durable. StoreError.

        The frame goes to flows/<date>/<session>.mitm, and file, offset, length and SHA-256 into the record's `frame`.
        """
        seq = await self._put(Entry("outcome", record, frame, session))
        for body in record.get("bodies") or ():
            for part in self._parts.pop(body["sha256"], ()):
                part.unlink(missing_ok=True)
        return seq

    def note(self, type: str, record: dict[str, Any]) -> None:
        """Puts a record down without waiting. What cannot be written is counted, and the count is recorded later."""
        self._writer.note(Entry(type, record))

    async def _put(self, entry: Entry) -> int:
        if self._writer.problem:
            raise self._writer.refusal()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[int] = loop.create_future()
        entry.waiter = waiter
        self._handing.append(entry)
        if len(self._handing) == 1:
            loop.call_soon(self._hand_over)
        return await waiter

    def _hand_over(self) -> None:
        """Gives the thread all that this turn of the loop has brought: waking it costs more than what it does for one."""
        entries, self._handing = self._handing, []
        for start in range(0, len(entries), LARGEST_BATCH):
            self._queue.put(entries[start : start + LARGEST_BATCH])
        if self._writer.ended:  # they came behind the last that the thread took
            for entry in entries:
                if entry.waiter is not None and not entry.waiter.done():
                    entry.waiter.set_exception(self._writer.refusal())

    def body_sink(self) -> BodySink:
        """A sink for a body that streams. StoreError if the disk refuses."""
        if self._writer.problem:
            raise self._writer.refusal()
        return BodySink(self.folder / "bodies", self._disk, self._writer.broken, self._finished)

    def _finished(self, digest: str, part: Path) -> None:
        self._parts.setdefault(digest, []).append(part)

    async def checkpoint(self) -> str:
        """Signs the log as it stands now; gives the newest checkpoint as a signed note. StoreError."""
        return await asyncio.wrap_future(self._writer.ask(self._writer.checkpoint))

    async def rotate(self) -> str:
        """Lets a new evidence key take over, signed by the old one and by itself; gives the new verifier key. StoreError."""
        writer = self._writer
        return str(await asyncio.wrap_future(writer.ask(lambda: hand_over(writer.ledger, self._key))))

    async def expire(self, keep: float) -> int:
        """Removes what was recorded more than `keep` seconds ago, whole days at a time; how many files it were.

        The record that says so is durable first. StoreError.
        """
        count = 0
        before = self._writer.ledger.clock() - keep
        for record in await asyncio.to_thread(lambda: list(expired(self.folder, before))):
            await self.append("removal", record)
            await self.checkpoint()  # verify takes nobody's word for a removal that is not signed
            count += await asyncio.to_thread(remove, self.folder, record)
        return count

    @property
    def key(self) -> str:
        """The verifier key that checkpoints bear now: what to publish, and to give to `verify`."""
        return str(self._writer.ledger.signers[0].verifier)

    async def close(self) -> None:
        """Puts outcomes down for what has none, the `stop` record and a last checkpoint, and lets the folder go."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """`close` for callers without an event loop; it waits."""
        self._writer.stop()
        _let_go(self._locks)


def _let_go(locks: list[int]) -> None:
    while locks:
        os.close(locks.pop())


def _lock(folder: Path, mode: int, option: str) -> int:
    """Holds the folder for this process. StoreError."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror}",
            f"{option} has to name a folder that the gateway may write",
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StoreError(f"another gateway uses {folder}", f"Give each gateway a {option} of its own") from None
    return handle
