"""How much work one answer may cost: time, depth and size. Beyond it the answer is refused, never half masked."""

from __future__ import annotations

import time

from .model import refuse

SECONDS = 1.5  # of one thread's CPU for one answer; hostile bodies must end within two seconds
DEPTH = 200  # nesting of one document
LAYERS = 6  # encodings inside each other
_CHECK_EVERY = 512


class Budget:
    """Spent by the careful readers; raises a Refusal once it is used up.

    A thread's CPU time is asked of the kernel, which costs more than masking a short text. So the first third is counted
    by the clock, which cannot be less; hardly an answer takes longer.
    """

    __slots__ = ("_ends", "_seconds", "_ticks", "_until")

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._until = time.perf_counter() + seconds / 3
        self._ends: float | None = None  # by the thread's CPU time
        self._ticks = 0

    def tick(self) -> None:
        """One small step; the clock is read every few hundred."""
        self._ticks += 1
        if self._ticks % _CHECK_EVERY == 0:
            self.check()

    def check(self) -> None:
        if time.perf_counter() <= self._until:
            return
        now = time.thread_time()
        if self._ends is None:
            self._ends = now + self._seconds * 2 / 3
        elif now > self._ends:
            raise refuse("MaskTimeout", "this answer takes too long to be searched for secrets")


def deep(depth: int) -> None:
    """Refuses a document that is nested too deeply."""
    if depth > DEPTH:
        raise refuse("TooDeep", f"the answer is nested deeper than {DEPTH} levels")
