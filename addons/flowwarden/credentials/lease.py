"""Lease: real, short-lived credentials that the gateway holds for one session."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..types import Credentials


@dataclass(frozen=True, slots=True)
class Lease:
    """`role_arn` is empty for a source's own credentials. `accounts`: those whose resources may be named. `expires`: POSIX
    seconds."""

    session_id: str
    credentials: Credentials = field(repr=False)
    account: str
    role_arn: str
    accounts: tuple[str, ...]
    expires: float
