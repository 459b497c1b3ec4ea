"""Where text can stand in data that is none: the only places of it on which the patterns have to be tried.

Random bytes lead the automaton of all patterns through states without end. Here vector operations look at them instead.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from itertools import accumulate
from operator import itemgetter
from typing import Any

from .patterns import first

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads, made on import, would never have anything to do

_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\r\f\x1b"})
_LARGE, _SAMPLED = 16 << 10, 4096
_FEW = 25  # text holds less than a control character in so many
_LEAST, _CORE = (
    12,
    6,
)  # bytes of a stretch, and of ASCII in it: of random data half is text, and a tenth of that is this
_end = itemgetter(1)


class Stretches:
    """What the patterns have to be tried on: all of a text, of other data only the stretches that could be some.

    A stretch is text of at least 12 bytes: ASCII, in which bytes above it may stand one by one, and six of ASCII in a row
    at some place. `text` is all of them.
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
            return first(pattern, self.text, start)
        if not self._texts:
            lengths = (end - start + 1 for start, end in self._places)
            self._texts = list(accumulate(lengths, initial=0))
        index = bisect_right(self._places, start, key=_end)
        if index == len(self._places):
            return -1
        at = self._texts[index] + max(0, start - self._places[index][0])
        found = first(pattern, self.text, at)
        if found < 0:
            return -1
        index = bisect_right(self._texts, found) - 1
        return self._places[index][0] + found - self._texts[index]


def _is_text(window: bytes) -> bool:
    if len(window) < _LARGE:
        return True
    sample = window[:: len(window) // _SAMPLED]
    if (len(sample) - len(sample.translate(None, _CONTROLS))) * _FEW < len(sample):
        return True
    import numpy as np

    # The sample may have met the one column of a table that holds them: now all are counted, and rather too few.
    codes = np.frombuffer(window, np.uint8)
    controls = (
        np.count_nonzero(codes < 32) - np.count_nonzero((codes - np.uint8(9)) < 5) - np.count_nonzero(codes == 27)
    )
    return bool(controls * _FEW < len(window))


def places(data: bytes) -> list[tuple[int, int]]:
    """Where the stretches stand: start and end of each, in order."""
    import numpy as np  # on first need: no start has to wait for it

    codes = np.frombuffer(data, np.uint8)
    ascii_text = (codes - np.uint8(32)) < 95  # below 32 it wraps around
    ascii_text |= (codes - np.uint8(9)) < 5
    text = codes > 127
    text[:-1] &= ascii_text[1:]
    text[-1:] = False
    text |= ascii_text
    starts = _doubled(np.logical_and, text, _LEAST).nonzero()[0]  # of all runs of twelve
    if not starts.size:
        return []
    with_core = _doubled(np.logical_or, _doubled(np.logical_and, ascii_text, _CORE), _LEAST - _CORE + 1)[starts]
    firsts = np.concatenate(([0], (starts[1:] - starts[:-1] > 1).nonzero()[0] + 1))  # side by side they are one stretch
    lasts = np.append(firsts[1:], starts.size) - 1
    kept = np.logical_or.reduceat(with_core, firsts)
    ends = starts[lasts[kept]] + _LEAST
    return list(zip(starts[firsts[kept]].tolist(), ends.tolist(), strict=True))


def _doubled(combine: Any, flags: Any, count: int) -> Any:
    """What `combine` makes of each flag and those behind it, `count` of them: of twice as many at each step."""
    done = 1
    while done < count:
        step = min(done, count - done)
        flags = combine(flags[:-step], flags[step:])
        done += step
    return flags
