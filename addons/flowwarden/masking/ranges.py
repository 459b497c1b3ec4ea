"""Range requests of masked objects: a part of an object can split a secret, so more is fetched, masked, and cut to size.

RFC 9110 section 14. The gateway asks upstream for the part and a margin on both sides, at least as long as the longest
match, masks what comes, and gives the client the part it asked for. Lengths stay, because masks of objects keep theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..types import Call, Headers, Request
from . import heads
from .model import refuse

_RANGE = re.compile(r"(?i:bytes)=(\d*)-(\d*)", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

NEAR_START = 1 << 20  # bytes before a part that are fetched anyway, so that its first bytes tell what it is
FROM_START = 64 << 20  # and where its name says that it can be read from its beginning only


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes `first`..`last` that a client asked for (`last` None: to the end; `first` None: the last `suffix`)."""

    first: int | None
    last: int | None
    suffix: int = 0


def splits(call: Call, request: Request) -> str:
    """Why a call must not be made because it asks for a part that cannot be widened, empty if it does not."""
    operation = call.operation
    if operation is None:
        return ""
    name = f"{operation.service}:{operation.name}"
    if request.header("range") and name not in {"s3:GetObject", "s3:HeadObject"}:
        return "a range of this answer could split a secret in two: ask for the whole of it, without Range"
    if name == "s3:SelectObjectContent" and call.params is not None and call.params.get("ScanRange"):
        return "a scan range could split a secret in two: select from the whole object, without ScanRange"
    return ""


def asked(value: str) -> Part | None:
    """A Range header with one range; None for anything else, which S3 answers with the whole object."""
    match = _RANGE.fullmatch(value.strip().replace(" ", ""))
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return Part(None, None, int(last))
    if last and int(last) < int(first):
        return None
    return Part(int(first), int(last) if last else None)


def starts_at(headers: Headers) -> int:
    """Where in the whole the body of an answer with these fields begins; 0 for one that is the whole."""
    for name, value in headers:
        if len(name) == 13 and name.lower() == b"content-range":
            match = _CONTENT_RANGE.fullmatch(value.decode("latin-1").strip())
            return int(match.group(1)) if match is not None else 1
    return 0


def is_whole(content_range: str) -> bool:
    """Whether a Content-Range is all that there is."""
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    return match is not None and match.group(1) == "0" and match.group(3) == str(int(match.group(2)) + 1)


def widened(part: Part, margin: int, *, needs_start: bool = False) -> str:
    """The Range header for upstream: the part and `margin` bytes on both sides.

    `needs_start`: what the part is can only be told from its beginning (a table's names, a compression), which is fetched
    too where it is no more than `FROM_START` bytes before the part; so is it for every part near the beginning.
    """
    if part.first is None:
        return f"bytes=-{part.suffix + margin}"
    from_start = part.first <= (FROM_START if needs_start else NEAR_START)
    first = 0 if from_start else max(0, part.first - margin)
    last = "" if part.last is None else str(part.last + margin)
    return f"bytes={first}-{last}"


class Cut:
    """Cuts the masked answer to the widened request down to the part that was asked for, as it passes."""

    def __init__(self, part: Part, content_range: str) -> None:
        """`content_range` is upstream's; Refusal if it is not the answer to a widened request."""
        match = _CONTENT_RANGE.fullmatch(content_range.strip())
        if match is None or match.group(3) == "*":
            raise refuse("UnreadableAnswer", "the answer to a range request does not say which part it is")
        start, end, total = int(match.group(1)), int(match.group(2)), int(match.group(3))
        first = max(0, total - part.suffix) if part.first is None else part.first
        last = total - 1 if part.last is None else min(part.last, total - 1)
        if not start <= first <= last <= end:
            raise refuse("UnreadableAnswer", "the answer to a range request is not the part that was asked for")
        self.length = last - first + 1
        self.content_range = f"bytes {first}-{last}/{total}"
        self._skip = first - start
        self._left = self.length

    def headers(self, headers: Headers) -> Headers:
        """The answer's fields for the part: without checksums, which are of all that upstream sent."""
        new = {b"content-range": self.content_range.encode(), b"content-length": b"%d" % self.length}
        kept = heads.for_changed(headers, self.length)
        return tuple((name, new.get(name.lower(), value)) for name, value in kept)

    def feed(self, data: bytes) -> bytes:
        """What of the next masked bytes belongs to the part."""
        if self._skip:
            dropped = min(self._skip, len(data))
            self._skip -= dropped
            data = data[dropped:]
        data = data[: self._left]
        self._left -= len(data)
        return data
