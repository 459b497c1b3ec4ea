"""Times in records: RFC 3339, UTC, microseconds."""

from __future__ import annotations

from datetime import UTC, datetime


class Stamps:
    """Turns POSIX seconds into RFC 3339 text; the part up to the second is kept while it lasts."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def text(self, moment: float) -> str:
        micro = round(moment * 1_000_000)
        second, micro = divmod(micro, 1_000_000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._prefix}.{micro:06d}Z"


def posix(text: str) -> float:
    """RFC 3339 text as POSIX seconds; ValueError for anything else. A time without a zone is UTC."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
