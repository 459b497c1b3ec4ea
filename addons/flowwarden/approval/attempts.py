"""Attempts: an SDK's retry of a call that was let through gets the answer of the first attempt, and is not carried out again."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

KEEP = 60.0  # seconds that an answer is kept for a retry
MOST = 1000  # attempts that are known at a time
LARGEST = 256 << 10  # bytes of an answer that is kept

_INVOCATION = re.compile(r"[0-9A-Za-z-]{8,64}")

Key = tuple[str, str, str]
"""Session, digest of the request, and the `amz-sdk-invocation-id` that an SDK gives to all attempts at one call."""


@dataclass(eq=False)
class Attempt[Answer]:
    """One call that a grant let through. `answer` is what its agent got; None: not known, or not to be given again."""

    key: Key
    flow: str
    approval: str
    over: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Answer | None = None
    ended: float = 0.0


class Attempts[Answer]:
    """What was let through lately. It joins retries and authorises nothing: only the same session's same request finds it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Key, Attempt[Answer]] = {}

    def find(self, key: Key | None) -> Attempt[Answer] | None:
        self._forget()
        return self._known.get(key) if key is not None else None

    def begin(self, key: Key | None, flow: str, approval: str) -> Attempt[Answer] | None:
        """Notes that a call is about to be let through; None where no retry could be told from a new call."""
        if key is None or len(self._known) >= MOST:
            return None
        made = self._known[key] = Attempt(key, flow, approval)
        return made

    def end(self, attempt: Attempt[Answer], answer: Answer | None, *, again: bool = False) -> None:
        """`again`: who waits now gets this answer, and a later retry is a new call."""
        attempt.answer, attempt.ended = answer, self._clock()
        attempt.over.set()
        if again:
            self._known.pop(attempt.key, None)

    def _forget(self) -> None:
        now = self._clock()
        for key, attempt in list(self._known.items()):
            if attempt.over.is_set() and now - attempt.ended > KEEP:
                del self._known[key]


def key(session: str, digest: str, invocation: str) -> Key | None:
    """None where the request names no invocation."""
    return (session, digest, invocation) if _INVOCATION.fullmatch(invocation) else None
