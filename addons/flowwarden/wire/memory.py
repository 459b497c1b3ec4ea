"""Bodies that are held: how much at once, and what they leave behind.

Streams, layers and flows refer to each other in circles, and a body stays with its circle. Python looks for circles by
the number of objects that were made, and a body of many megabytes is one object: without this, a few connections that
send large bodies and close would take gigabytes.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable

SMALL = 64 * 1024  # bytes of one body that nobody counts
COLLECT_AFTER = 128 << 20  # bytes of bodies held whole


def grown(before: int, after: int) -> int:
    """Bytes to count as a body grows, which is none of them as long as it is small."""
    return after - (before if before > SMALL else 0) if after > SMALL else 0


class Held:
    """Counts the bytes of bodies that are held whole, and has circles looked for when they could have become too many."""

    def __init__(self) -> None:
        self.since = 0

    def more(self, size: int) -> None:
        self.since += size
        if self.since >= COLLECT_AFTER:
            self.since = 0
            gc.collect()


HELD = Held()


class Share:
    """What one call holds, and whose it is."""

    __slots__ = ("session", "size")

    def __init__(self, session: str) -> None:
        self.session = session
        self.size = 0


class Memory:
    """Bytes of bodies that are held at once, by session and in all; beyond either bound no more is taken."""

    def __init__(self, session: int = 96 << 20, whole: int = 512 << 20) -> None:
        self.session = session
        self.whole = whole
        self.held = 0
        self._sessions: Counter[str] = Counter()
        self._leaving: dict[Share, Callable[[], int]] = {}

    def share(self, session: str, owner: object) -> Share:
        """A share that is given back with its owner, unless its answer is still on its way then."""
        made = Share(session)
        weakref.finalize(owner, self._gone, made).atexit = False
        return made

    def _gone(self, share: Share) -> None:
        if share not in self._leaving:  # what is leaving outlives its call
            self.release(share)

    def take(self, share: Share, size: int) -> str:
        """Counts `size` bytes more (or less, if negative); says which bound they would break, and then counts nothing."""
        if size > 0:
            self._look()
            if self._sessions[share.session] + size > self.session:
                return "session"
            if self.held + size > self.whole:
                return "gateway"
        share.size += size
        self.held += size
        self._sessions[share.session] += size
        return ""

    def release(self, share: Share) -> None:
        """Gives all of a share back."""
        self._leaving.pop(share, None)
        self.take(share, -share.size)
        if not self._sessions[share.session]:
            del self._sessions[share.session]

    def leave(self, share: Share, unsent: Callable[[], int]) -> None:
        """A share's body is on its way to the client: it is given back as far as the client reads it."""
        self._leaving[share] = unsent
        self._look()

    def _look(self) -> None:
        for share, unsent in list(self._leaving.items()):
            left = unsent()
            if left == 0:
                self.release(share)
            elif left < share.size:
                self.take(share, left - share.size)
