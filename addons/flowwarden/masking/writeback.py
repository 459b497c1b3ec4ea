"""Masked data must never be written back over real data: masks are found in requests, masked objects are remembered."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

import re2

from ..errors import Refusal
from ..types import Call, Request
from . import codings
from .replacing import MARK, MARKED
from .searcher import options
from .uploads import Framing

_CODED = tuple(
    base64.b64encode(b"\0" * pad + MARK + b"\0\0")[start:end] for pad, start, end in ((0, 0, 9), (1, 2, 10), (2, 3, 12))
)  # how the mark looks in base64 at each alignment: eight characters or more, which nothing else has by chance
_PERCENT = (b"%5BMASKED", b"%5bMASKED", b"%255BMASKED", b"%255bMASKED")
_SIGN = re2.compile(
    b"MASKED", options(1 << 20, False)
).search  # ten times as fast as Python's own search in large bodies
_REMEMBERED = 4096
_LONGEST_MASK = 4096  # bytes of a mask that is looked for across two parts of a body


def contains_mask(request: Request) -> bool:
    """Whether a request carries a mask: in its body (content-encoded, base64, URL-encoded, JSON), target or headers."""
    target = request.target.encode("latin-1", "replace")
    if b"MASKED" in target and _in_text(target):
        return True
    for name, value in request.headers:
        if b"MASKED" in value and name.lower() != b"authorization" and _in_text(value):
            return True
    if not request.body:
        return False
    applied = codings.names(request.header("content-encoding"))
    body = request.body
    if (framing := _framing(request)) is not None:
        if body_contains_mask(body):
            return True
        with suppress(Refusal):  # it is not in that form after all
            body = framing.take(body)
    if applied:
        try:
            body = codings.decode(body, applied)
        except Refusal:
            return False  # not readable here: the masks that went out were readable to whoever wrote this
    return body_contains_mask(body)


def body_contains_mask(body: bytes) -> bool:
    """Whether a body holds a mask, plain or in one of the encodings that masks are written into."""
    if b"MASKED" in body and _in_text(body):
        return True
    return any(coded in body for coded in _CODED)


def _in_text(text: bytes) -> bool:
    return MARKED.search(text) is not None or any(form in text for form in _PERCENT) or b"u005bMASKED" in text.lower()


WHY = "the request contains a mask of this gateway: writing it back would destroy what it hides"


def _framing(request: Request | None) -> Framing | None:
    """What takes the lines of the aws-chunked form off a body: they can stand in the middle of a mask."""
    streaming = request is not None and request.header("x-amz-content-sha256").startswith("STREAMING-")
    return Framing() if streaming else None


class Lookout:
    """Looks for masks in bytes that come part by part."""

    def __init__(self) -> None:
        self._before = b""  # the end of what has passed: a mask may begin in it

    def sees(self, data: bytes) -> bool:
        """Whether these bytes hold a mask or complete one."""
        return bool(_SIGN(data) and _in_text(data)) or self.completes(data, 0, len(data))

    def completes(self, data: bytes, start: int, end: int) -> bool:
        """Whether the part of the bytes from `start` to `end` completes a mask that began before it."""
        seam = self._before + data[start : min(end, start + _LONGEST_MASK)]
        long = end - start >= _LONGEST_MASK
        self._before = data[end - _LONGEST_MASK : end] if long else seam[-_LONGEST_MASK:]
        return bool(_SIGN(seam) and _in_text(seam))


class Watch:
    """A body on its way, part by part; Refusal for the part that completes a mask, which then does not go on.

    It looks for masks as they are and URL-encoded, in one pass over each part: a body of any size waits for it. In the
    aws-chunked form (`request` tells) they are looked for across the lines between two chunks as well.
    """

    def __init__(self, then: Callable[[bytes], None], request: Request | None = None) -> None:
        self._then = then
        self._framing = _framing(request)
        self._sent, self._payload = Lookout(), Lookout()

    def __call__(self, data: bytes) -> None:
        if self._sent.sees(data) or self._is_across(data):
            raise Refusal(WHY, status=400, code="MaskedDataInRequest", station="keep-masks")
        self._then(data)

    def _is_across(self, data: bytes) -> bool:
        """Within one chunk a mask has been seen already."""
        if self._framing is None:
            return False
        try:
            return any(self._payload.completes(data, start, end) for start, end in self._framing.payload(data))
        except Refusal:
            self._framing = None  # it is not in that form after all
            return False


class MaskedObjects:
    """The S3 objects that each session has seen masked: (bucket, key), the newest few thousand a session.

    `is_live` says whether a session's end is still to come, which will clear what is kept for it.
    """

    def __init__(self, is_live: Callable[[str], bool]) -> None:
        self._is_live = is_live
        self._seen: dict[str, OrderedDict[tuple[str, str], None]] = {}

    def remember(self, session: str, call: Call) -> None:
        """A GetObject answer of this call was masked. One that came after its session's end leaves nothing behind."""
        where = _object(call)
        if where is None or not self._is_live(session):
            return
        seen = self._seen.setdefault(session, OrderedDict())
        seen[where] = None
        seen.move_to_end(where)
        if len(seen) > _REMEMBERED:
            seen.popitem(last=False)

    def would_overwrite(self, session: str, call: Call) -> bool:
        """Whether this call puts an object that the session has only seen masked."""
        if call.operation is None or call.operation.service != "s3" or call.operation.name not in _PUTS:
            return False
        where = _object(call)
        return where is not None and where in self._seen.get(session, ())

    def forget(self, session: str) -> None:
        """The session has ended."""
        self._seen.pop(session, None)


_PUTS = frozenset({"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"})


def _object(call: Call) -> tuple[str, str] | None:
    if call.operation is None or call.operation.service != "s3" or call.params is None:
        return None
    bucket, key = call.params.get("Bucket"), call.params.get("Key")
    return (str(bucket), str(key)) if bucket and key else None
