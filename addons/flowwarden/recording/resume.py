"""Where the log stood at a checkpoint, so that a start need not read years of it again.

A shortcut, never evidence: it counts only if its tree head is the one that a checkpoint was signed over and the log's
record there has the hash that it says. Otherwise the log is read from its beginning.
"""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from .ledger import LOG, Head
from .merkle import Frontier

FILE = ".resume"
_LONGEST_LINE = 64 << 20


def leave(folder: Path, head: Head, offset: int, more: dict[str, Any]) -> None:
    """Puts down where the log stands. Nothing depends on it: what fails is left out."""
    data = {
        "offset": offset,
        "seq": head.seq,
        "prev": head.prev,
        "time": repr(head.time),
        "peaks": [peak.hex() for peak in head.tree.peaks],
        "open": [[seq, *flow] for seq, flow in head.open.items()],
        "ends": head.ends,
        **more,
    }
    fresh = folder / f"{FILE}.new"
    try:
        fresh.write_text(json.dumps(data), encoding="utf-8")
        os.replace(fresh, folder / FILE)
    except OSError:
        pass


def take(folder: Path, size: int, root: bytes) -> tuple[Head, int, dict[str, Any]] | None:
    """Head, offset and the rest, if they fit the checkpoint of this size and root; None: read the log from the start."""
    try:
        data = json.loads((folder / FILE).read_bytes())
        peaks = [bytes.fromhex(peak) for peak in data["peaks"]]
        head = Head(
            seq=int(data["seq"]),
            prev=str(data["prev"]),
            time=float(data["time"]),
            tree=Frontier(int(data["seq"]), peaks),
            open={int(seq): (str(flow), str(session)) for seq, flow, session in data["open"]},
            ends={str(name): int(end) for name, end in data["ends"].items()},
        )
        offset = int(data["offset"])
        if head.seq != size or head.tree.root() != root or len(peaks) != size.bit_count():
            return None
        if sha256(_line_before(folder / LOG, offset)).hexdigest() != head.prev:
            return None
        return head, offset, data
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _line_before(log: Path, offset: int) -> bytes:
    """The line that ends at an offset, without its newline. ValueError if none does."""
    with log.open("rb") as file:
        reach = 1 << 14
        while True:
            start = max(0, offset - reach)
            file.seek(start)
            data = file.read(offset - start)
            if len(data) != offset - start or not data.endswith(b"\n"):
                raise ValueError("no line ends there")
            at = data.rfind(b"\n", 0, len(data) - 1)
            if at >= 0 or start == 0:
                return data[at + 1 : -1]
            reach *= 8
            if reach > _LONGEST_LINE:
                raise ValueError("the line is too long")
