"""The small types of masking: one mask of a rule file, what was found, and what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..errors import Refusal
from ..types import Headers

Replace = Literal["redact", "hash", "partial"]
Keep = Callable[[str], bool]
"""True for a value that must stay: a phantom that the gateway itself minted."""


def keep_nothing(_value: str) -> bool:
    """The `keep` of whoever has nothing to keep."""
    return False


@dataclass(frozen=True, slots=True)
class Mask:
    """One entry of rules/masks.yaml. `groups` None: everyone; an empty set: nobody.

    `limit` is the longest match in bytes that a stream waits for. `bounded` is False where the pattern itself has no
    bound. `objects` says whether S3 objects are searched too; `object_fields` whether its fields hold in JSON objects, which
    they do only where the file says `objects: on`. `members` names a set of AWS response members.
    """

    id: str
    groups: frozenset[str] | None = None
    fields: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    pattern: bytes = b""
    keywords: tuple[bytes, ...] = ()
    replace: Replace = "redact"
    opaque: Literal["allow", "deny"] = "allow"
    kind: Literal["secret", "pii"] = "secret"
    objects: bool = True
    object_fields: bool = False
    check: str = ""
    entropy: float = 0.0
    limit: int = 4096
    bounded: bool = True
    engine: Literal["re2", "regex"] = "re2"
    members: Literal["", "secret", "sensitive"] = ""
    hits: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()
    file: str = ""
    line: int = 0


@dataclass(slots=True)
class Masked:
    """An answer as the agent gets it. `body` is the very same object where nothing was masked."""

    headers: Headers
    body: bytes
    counts: Counter[str] = field(default_factory=Counter)
    inspected: bool = True
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of bytes to hide, and the mask that says so."""

    start: int
    end: int
    mask: Mask


class Core(Protocol):
    """What masks a decoded stream: windows of text, events, frames."""

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


def refuse(code: str, message: str, rule: str = "") -> Refusal:
    """The refusal of an answer that must be read and cannot be."""
    return Refusal(message, status=502, code=code, station="mask", rule=rule)
