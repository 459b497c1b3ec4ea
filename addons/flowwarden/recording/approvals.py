"""What became of one question, out of the log: asked, viewed, answered, used, revoked, each with who and which digest."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .canonical import parsed
from .ledger import LOG


def events(folder: Path, approval_id: str) -> list[dict[str, Any]]:
    """The records of type `approval` about one question, in order. StoreError.

    The log is searched as bytes, in which canonical JSON spells a member in one way only; no index has these records.
    """
    wanted, found = f'"approval":"{approval_id}"'.encode(), []
    try:
        with (folder / LOG).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as log:
            at = log.find(wanted)
            while at >= 0:
                start, end = log.rfind(b"\n", 0, at) + 1, log.find(b"\n", at)
                if end < 0:
                    break  # still being written
                record = parsed(log[start:end])
                if record.get("type") == "approval" and record.get("approval") == approval_id:
                    found.append(record)
                at = log.find(wanted, end)
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / LOG} cannot be read: {error}", "Run `flowwarden verify`") from None
    return found
