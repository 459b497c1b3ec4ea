"""Facts: everything that one decision is made on, and the law by which conditions judge it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ..types import Call, Principal, Request

Hit = bool | None
"""Whether one value of the request matches a condition; None: that cannot be known."""

UNKNOWN: tuple[Hit, ...] = (None,)


@dataclass(frozen=True, slots=True)
class Facts:
    """One request to decide on. A `now` of None, as in examples without a time, is an unknown time."""

    principal: Principal | None
    call: Call
    request: Request
    now: datetime | None = None


class Condition(Protocol):
    """One condition of a rule: which key it stands under, and a hit for each value of the request that it speaks of."""

    @property
    def key(self) -> str: ...

    def hits(self, facts: Facts) -> Iterable[Hit]:
        """Empty where the request has no value that this condition speaks of: then it does not hold."""


def judge(hits: Iterable[Hit], sure: bool) -> bool:
    """The law. Sure, as an allow has to be: every value matches. Else, for deny and approve: any value may match."""
    if sure:
        seen = False
        for hit in hits:
            if hit is not True:
                return False
            seen = True
        return seen
    for hit in hits:  # noqa: SIM110 (half the cost of any() here)
        if hit is not False:
            return True
    return False
