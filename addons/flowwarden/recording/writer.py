"""The thread that writes: it takes what waits, makes it durable in one go, and tells the event loop once."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ..errors import StoreError
from .ledger import PASSING, DiskError, Entry, Ledger
from .records import UNKNOWN, outcome

CHECKPOINT_SECONDS = 10.0
CHECKPOINT_RECORDS = 1000
LARGEST_BATCH = 512
# What a batch waits for more records while several calls are under way: each batch costs two wake-ups and the
# interpreter's lock, 150 us of a call's CPU.
GATHER_SECONDS = 0.001
MOST_UNSIGNED = 2 * (CHECKPOINT_RECORDS + LARGEST_BATCH)  # records that can await their checkpoint, and twice that
LONGEST_UNSIGNED = 300.0  # seconds, of a machine that does not sleep
MOST_NOTES = 10_000  # notes that may wait; a flood of refused tunnels must not fill the memory
HINT = "No call passes while nothing can be recorded"

_Job = tuple[Callable[[], Any], "Future[Any]"]


class Writer:
    """Owns the ledger. `queue` takes entries and jobs; `problem` is empty while all is well."""

    def __init__(self, ledger: Ledger, *, retry: float, committed: Callable[[], None] | None) -> None:
        self.ledger = ledger
        self.queue: queue.SimpleQueue[Entry | list[Entry] | _Job | None] = queue.SimpleQueue()
        self.problem = ""
        self._lasting = False  # the problem stays until a restart
        self._retry = retry
        self._committed = committed
        self._lost = 0
        self._failed: dict[int, Entry] = {}  # outcomes that could not be written, by intent
        self._thread = threading.Thread(target=self._run, name="flowwarden-recorder", daemon=True)
        self._signed = time.monotonic()
        self._stopping = False
        self._crowded = False  # whether the last batch held more than one record
        self.ended = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Writes what waits and ends the thread. May be called twice."""
        if self._thread.is_alive():
            self.queue.put(None)
            self._thread.join()

    def refusal(self) -> StoreError:
        return StoreError(f"nothing can be recorded: {self.problem}", HINT)

    def note(self, entry: Entry) -> None:
        if self.problem or self.queue.qsize() > MOST_NOTES:
            self._lost += 1
        else:
            self.queue.put(entry)

    def ask(self, job: Callable[[], Any]) -> Future[Any]:
        """Runs a job in the writer's thread, behind what waits already. The future gets its result or StoreError."""
        future: Future[Any] = Future()
        if self._stopping or not self._thread.is_alive():
            future.set_exception(StoreError("the recorder is closed"))
        else:
            self.queue.put((job, future))
        return future

    def checkpoint(self) -> str:
        """Signs the log as it stands. Only in the writer's thread."""
        self.ledger.checkpoint()
        self._signed = time.monotonic()
        return self.ledger.last_note

    def broken(self, cause: OSError, doing: str) -> None:
        """Something beside the log could not be written; called from any thread."""
        error = DiskError(cause, doing, cause.errno in PASSING)
        self._trouble(error)
        self.queue.put((lambda: None, Future()))  # wakes the thread, which tries to mend it

    # the thread

    def _run(self) -> None:
        while True:
            entries, jobs, stop = self._take()
            if self.problem:
                self._refuse(entries)
                self._mend()
            elif entries:
                self._commit(entries)
            for job in jobs:
                self._do(job)
            if not self.problem and self._due():
                self._guarded(self.checkpoint)
            if stop:
                self._end()
                return

    def _take(self) -> tuple[list[Entry], list[_Job], bool]:
        """Waits for something to do, then takes all that is there."""
        entries: list[Entry] = []
        jobs: list[_Job] = []
        try:
            item = self.queue.get(timeout=self._patience())
            if self._crowded:
                time.sleep(GATHER_SECONDS)
            while True:
                if item is None:
                    return entries, jobs, True
                if isinstance(item, list):
                    entries.extend(item)
                elif isinstance(item, Entry):
                    entries.append(item)
                else:
                    jobs.append(item)
                if jobs or len(entries) >= LARGEST_BATCH:
                    break
                item = self.queue.get_nowait()
        except queue.Empty:
            pass
        self._crowded = len(entries) > 1
        return entries, jobs, False

    def _patience(self) -> float | None:
        if self.problem:
            return None if self._lasting else self._retry
        if self.ledger.head.tree.size == self.ledger.checkpointed and not self._lost:
            return None
        return max(0.0, self._signed + CHECKPOINT_SECONDS - time.monotonic())

    def _due(self) -> bool:
        fresh = self.ledger.head.tree.size - max(self.ledger.checkpointed, 0)
        return fresh >= CHECKPOINT_RECORDS or (fresh > 0 and time.monotonic() >= self._signed + CHECKPOINT_SECONDS)

    def _commit(self, entries: list[Entry]) -> None:
        if self._lost:
            entries.append(self._gap("records were lost while nothing could be written"))
        if self._guarded(lambda: self.ledger.commit(entries)):
            self._lost = 0
            self._tell(entries)
            if self._committed is not None:
                self._committed()
        else:
            self._refuse(entries)

    def _guarded(self, work: Callable[[], Any]) -> bool:
        """Does something with the disk; whatever goes wrong becomes the recorder's problem, never a dead thread."""
        try:
            work()
        except DiskError as error:
            self._trouble(error)
            return False
        except Exception as error:  # a fault of ours: refuse all that follows rather than write nonsense
            self._trouble(DiskError(OSError(f"{type(error).__name__}: {error}"), "the recorder failed", False))
            return False
        return True

    def _trouble(self, error: DiskError) -> None:
        self._lasting = self._lasting or not error.passing
        self.problem = f"{error}; restart the gateway when the disk is sound" if self._lasting else str(error)

    def _refuse(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            entry.error = self.refusal()
            if entry.waiter is None:
                self._lost += 1
            elif entry.type == "outcome" and isinstance(entry.record.get("intent"), int):
                self._failed[entry.record["intent"]] = entry
        self._tell(entries)

    def _mend(self) -> None:
        """Tries to write again after a disk that was full or read-only: first the gap, then what became unknown."""
        if self._lasting:
            return
        problem = self.problem
        entries = [self._gap(problem)]
        entries += [
            Entry("outcome", _unknown(failed.record))
            for seq, failed in self._failed.items()
            if seq in self.ledger.head.open
        ]
        try:
            self.ledger.undo()
            self.ledger.commit(entries)
            self.ledger.checkpoint()
        except DiskError as error:
            self._trouble(error)
            return
        self._failed.clear()
        self._lost = 0
        self._signed = time.monotonic()
        self.problem = ""

    def _gap(self, reason: str) -> Entry:
        return Entry("gap", {"reason": reason, "lost": self._lost})

    def _tell(self, entries: Sequence[Entry]) -> None:
        """Hands results back: one call into the event loop for all of them."""
        waiting: dict[asyncio.AbstractEventLoop, list[Entry]] = {}
        for entry in entries:
            if entry.waiter is not None:
                waiting.setdefault(entry.waiter.get_loop(), []).append(entry)
        for loop, told in waiting.items():
            try:
                loop.call_soon_threadsafe(_settle, told)
            except RuntimeError:  # the loop is closed: nobody waits any more
                pass

    def _do(self, job: _Job) -> None:
        work, future = job
        try:
            if self.problem:
                raise self.refusal()
            future.set_result(work())
        except DiskError as error:
            self._trouble(error)
            future.set_exception(self.refusal())
        except Exception as error:
            future.set_exception(error if isinstance(error, StoreError) else StoreError(str(error)))

    def _end(self) -> None:
        self._stopping = True
        whole = False
        if not self.problem:
            left = [
                Entry("outcome", _unknown({"flow": flow, "session": session, "intent": seq}))
                for seq, (flow, session) in self.ledger.head.open.items()
            ]
            self._guarded(lambda: self.ledger.commit([*left, Entry("stop", {})]))
            whole = self._guarded(self.ledger.checkpoint)
        self.problem = self.problem or "the recorder is closed"
        entries, _, _ = self._drain()
        self._refuse(entries)
        self.ended = True
        self.ledger.close(whole)

    def _drain(self) -> tuple[list[Entry], list[_Job], bool]:
        entries: list[Entry] = []
        while True:
            try:
                item = self.queue.get_nowait()
            except queue.Empty:
                return entries, [], True
            if isinstance(item, list):
                entries.extend(item)
            elif isinstance(item, Entry):
                entries.append(item)
            elif item is not None:
                item[1].set_exception(StoreError("the recorder is closed"))


def _settle(entries: list[Entry]) -> None:
    for entry in entries:
        waiter = entry.waiter
        if waiter is None or waiter.done():
            continue
        if entry.error is None:
            waiter.set_result(entry.seq)
        elif isinstance(entry.error, StoreError):
            waiter.set_exception(entry.error)
        else:
            waiter.set_exception(StoreError(f"a record cannot be written as JSON: {entry.error}"))


def _unknown(left: dict[str, Any]) -> dict[str, Any]:
    return outcome(
        str(left.get("flow", "")),
        UNKNOWN,
        intent=left.get("intent"),
        session=str(left.get("session", "")),
        code="OUTCOME_UNKNOWN",
        reason="the outcome could not be recorded",
        status=left.get("status"),
    )
