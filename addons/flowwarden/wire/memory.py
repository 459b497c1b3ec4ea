"""What bodies leave behind: streams, layers and flows refer to each other in circles, and a body stays with its circle.

Python looks for circles by the number of objects that were made, and a body of many megabytes is one object: without this,
a few connections that send large bodies and close would take gigabytes.
"""

from __future__ import annotations

import gc

COLLECT_AFTER = 128 << 20  # bytes of bodies held whole


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
