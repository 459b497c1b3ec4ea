"""Refusals of strangers, bounded: whoever can reach the port could else fill the disk with records of being refused.

Of what one address is refused without a session the first twenty in a minute are recorded one by one; the rest of that minute
is one record with their number. Whatever has a session is recorded always.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SECONDS = 60.0
EACH = 20  # refusals of one address in that time that have a record of their own
ADDRESSES = 2000  # that are told apart at a time; what is beyond shares one count


@dataclass(slots=True)
class _Count:
    until: float
    seen: int = 0
    last: str = ""


class Repeats:
    """Counts refusals by address. `write` takes the records of type `tunnel` that say how many were not recorded alone."""

    def __init__(self, write: Callable[[dict[str, Any]], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._counts: dict[str, _Count] = {}

    def alone(self, address: str, what: str) -> bool:
        """Whether a refusal gets a record of its own; if not it is counted. `what` was refused, and why."""
        now = self._clock()
        client = network(address)
        if client not in self._counts and len(self._counts) >= ADDRESSES:
            client = "others"
        count = self._counts.get(client)
        if count is not None and now >= count.until:
            self._end(client, count)
            count = None
        if count is None:
            count = self._counts[client] = _Count(now + SECONDS)
        count.seen += 1
        count.last = what
        return count.seen <= EACH

    def flush(self, *, all: bool = False) -> None:
        """Records the counts whose time is over; `all` at a stop."""
        now = self._clock()
        for client, count in list(self._counts.items()):
            if all or now >= count.until:
                self._end(client, count)

    def _end(self, client: str, count: _Count) -> None:
        del self._counts[client]
        if count.seen > EACH:
            self._write(
                {"refused": "more of the same", "client": client, "count": count.seen - EACH, "last": count.last[:300]}
            )


def network(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 address: its owner has all of that."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
