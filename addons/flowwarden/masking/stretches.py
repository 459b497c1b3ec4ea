"""Where text can stand in data that is none: the only places of it on which the patterns have to be tried.

Random bytes lead the automaton of all patterns through states without end. Here vector operations look at them instead.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from itertools import accumulate
from operator import itemgetter
from typing import Any

from .patterns import locate

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads, made on import, would never have anything to do

_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\r\f\x1b"})
_LARGE = 16 << 10
_LEAST = 12  # bytes of a stretch
_NOTHING = [(-1, -1)]
_end = itemgetter(1)


class Stretches:
    """What the patterns have to be tried on: all of a text, of other data only the stretches that could be some.

    A stretch is text of at least 12 bytes: ASCII, in which bytes above it may stand one by one. `text` is all of them.
    """

    __slots__ = ("_places", "_texts", "text")

    def __init__(self, window: bytes, is_long: bool) -> None:
        """`is_long`: whatever is looked for is as long as a stretch at least."""
        self._places: list[tuple[int, int]] | None = places(window) if is_long and not _is_text(window) else None
        self._texts: list[int] = []  # where in `text` each of them begins
        self.text = window
        if self._places is not None:
            self.text = b"\0".join([window[start:end] for start, end in self._places])

    @property
    def whole(self) -> bool:
        """Whether `text` is all that there is."""
        return self._places is None

    def find(self, pattern: Any, start: int) -> int:
        """Where in the window the first match of an re2 pattern begins, from `start` on; -1 if there is none."""
        if self._places is None:
            return next(locate(pattern, self.text, start), _NOTHING)[0][0]
        if not self._texts:
            lengths = (end - start + 1 for start, end in self._places)
            self._texts = list(accumulate(lengths, initial=0))
        index = bisect_right(self._places, start, key=_end)
        if index == len(self._places):
            return -1
        at = self._texts[index] + max(0, start - self._places[index][0])
        found = next(locate(pattern, self.text, at), _NOTHING)[0][0]
        if found < 0:
            return -1
        index = bisect_right(self._texts, found) - 1
        return self._places[index][0] + found - self._texts[index]


def _is_text(window: bytes) -> bool:
    if len(window) < _LARGE:
        return True
    sample = b"".join(window[at : at + 512] for at in range(0, len(window) - 512, len(window) // 8))
    return (len(sample) - len(sample.translate(None, _CONTROLS))) * 25 < len(sample)


def places(data: bytes) -> list[tuple[int, int]]:
    """Where the stretches stand: start and end of each, in order."""
    import numpy as np  # on first need: no start has to wait for it

    codes = np.frombuffer(data, np.uint8)
    text = (codes - np.uint8(32)) < 95  # below 32 it wraps around
    text |= (codes - np.uint8(9)) < 5
    alone = codes > 127
    alone[:-1] &= text[1:]
    alone[-1:] = False
    text |= alone
    # The starts of runs of 2, 4, 8 and then 12: each is two shorter ones, one behind the other.
    run = text[:-1] & text[1:]
    run = run[:-2] & run[2:]
    run = run[:-4] & run[4:]
    starts = np.flatnonzero(run[:-4] & run[4:])
    if not starts.size:
        return []
    last_of_run = np.flatnonzero(np.diff(starts, append=len(data)) > 1)
    firsts = starts[np.concatenate(([0], last_of_run[:-1] + 1))]
    return list(zip(firsts.tolist(), (starts[last_of_run] + _LEAST).tolist(), strict=True))
