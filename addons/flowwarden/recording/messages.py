"""Messages of a WebSocket that do not stay in memory: written as they pass, in the form that a frame has them in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mitmproxy.io import tnetstring

from ..errors import StoreError

MOST = 1 << 20  # bytes of messages that a flow holds; beyond it they go to bodies/


def encode(messages: Iterable[tuple[Any, ...]]) -> bytes:
    """States of messages, each as one tnetstring: (kind, from the client, content, time, dropped, injected)."""
    return b"".join(tnetstring.dumps(list(state)) for state in messages)


def decode(data: bytes) -> list[list[Any]]:
    """The states again. StoreError if it is anything else."""
    rest = memoryview(data)
    found: list[Any] = []
    while rest:
        try:
            state, rest = tnetstring.pop(rest)
        except (ValueError, TypeError, IndexError, RecursionError):
            raise StoreError("a body that does not hold the messages of a WebSocket") from None
        found.append(state)
    return found
