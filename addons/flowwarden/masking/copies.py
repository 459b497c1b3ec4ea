"""Copies of ranges of S3 objects: an upload of them is completed only as the whole of one object, so that none is split.

S3 itself is made to hold what is decided here. The answer that tells a source's size tells its ETag too, and every copy of a
range goes out with that ETag as its condition (x-amz-copy-source-if-match): nobody can put another object in the source's
place between the two. And a part is known by the ETag that S3 gave it, which CompleteMultipartUpload has to list and S3
compares: whatever else was sent under the part's number, in whatever order, is another part.

Whatever is forgotten is refused: an upload that was not begun through this gateway since its start cannot be completed,
because ranges may have been copied into it before.

A call whose rule says `mask: off` is neither refused nor remembered. A range that it copies cannot spoil an upload of others:
its part has an ETag that is not known here, so that S3 would refuse the Complete that was let pass. It does not make its own
upload suspicious either: whoever wrote the rule lets these bytes be read as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import Refusal
from ..types import Call, Headers, Request
from . import copysource
from .copysource import Name, Told

_SIZES = 4096  # objects a session whose size is known
_UPLOADS = 1024  # that a session may have begun and not ended; its oldest is forgotten
_ALL_UPLOADS = 32_768
_PARTS = 20_000  # copied parts of one session's uploads: two uploads of as many parts as S3 has
_ALL_PARTS = 100_000  # of all sessions, some 30 MiB; the oldest upload with parts is forgotten
_RANGE_FIELD = "x-amz-copy-source-range"
_LISTINGS = frozenset({"ListObjects", "ListObjectsV2"})
_WHOLE = (
    "copy the whole object (without x-amz-copy-source-range), or in parts that follow each other from its first byte \
to its last, in one upload of nothing else"
)
_AGAIN = "begin the upload again"


@dataclass(slots=True)
class _Upload:
    """A multipart upload; the parts are of ranges that S3 said it has copied: number and ETag, then first and last byte."""

    session: str  # that began it
    source: tuple[Name, Told] | None = None  # of the ranges that were asked for, whether they were copied or not
    parts: dict[tuple[int, str], tuple[int, int]] = field(default_factory=dict)
    plain: bool = False  # it was let pass to its completion as one without ranges
    done: bool = False


class Copies:
    """Sizes of objects as answers told them, by session; uploads of all sessions, by id.

    `is_live` says whether a session's end is still to come, which will clear what is kept for it.
    """

    def __init__(self, is_live: Callable[[str], bool]) -> None:
        self._is_live = is_live
        self._told: dict[str, OrderedDict[Name, Told]] = {}
        self._uploads: OrderedDict[str, _Upload] = OrderedDict()
        self._of: dict[str, OrderedDict[str, None]] = {}  # a session's uploads, the oldest first
        self._copied: dict[str, int] = {}  # a session's parts
        self._all_copied = 0

    # -- what is asked ---------------------------------------------------------------------------------------------

    def judge(self, session: str, call: Call, request: Request) -> str:
        """The ETag that the source of this call has to have, empty for a call that copies no range; or Refusal."""
        name = _name(call)
        if name == "UploadPartCopy":
            return self._part(session, call, request)
        if name and _RANGE_FIELD in request.fields:
            raise _refuse(f"a range can be copied by UploadPartCopy only: {_WHOLE}")
        if name == "CompleteMultipartUpload":
            self._complete(call, request)
        return ""

    def _part(self, session: str, call: Call, request: Request) -> str:
        params = call.params
        if params is None:
            raise _refuse("the copy's parameters cannot be read")
        if params.get("CopySourceRange") is None and _RANGE_FIELD not in request.fields:
            return ""
        name = copysource.source(str(params.get("CopySource") or ""))
        if name is None or copysource.span(str(params.get("CopySourceRange") or "")) is None:
            raise _refuse(
                "x-amz-copy-source has to be bucket/key, URL-encoded, and x-amz-copy-source-range bytes=first-last"
            )
        upload = self._uploads.get(str(params.get("UploadId")))
        if upload is None:
            raise _refuse(f"this gateway has not seen the upload's beginning: {_AGAIN}")
        if upload.plain or upload.done:
            raise _refuse(f"the upload is being completed: {_AGAIN}")
        known = self._told.get(session)
        told = known.get(name) if known is not None else None
        if told is None:
            raise _refuse(
                "the source's size is not known: ask HeadObject on it first, or copy it whole, without a range"
            )
        if copysource.bare(str(params.get("CopySourceIfMatch", told.etag))) != told.etag:
            raise _refuse("the source has changed since its size was told: ask HeadObject on it again")
        if any(key.startswith("CopySourceIf") and key != "CopySourceIfMatch" for key in params):
            raise _refuse(
                "a copy of a range can have x-amz-copy-source-if-match only, no other condition on its source"
            )
        if upload.source not in (None, (name, told)):
            raise _refuse(f"the upload has ranges of another object, or of another state of it: {_WHOLE}")
        if self._copied.get(upload.session, 0) >= _PARTS:
            raise _refuse(
                "too many parts of copies are under way: complete or abort uploads first, or copy whole objects"
            )
        upload.source = (name, told)  # before it leaves: its answer may get lost, and the part be there
        return told.etag

    def _complete(self, call: Call, request: Request) -> None:
        params = call.params or {}
        upload = self._uploads.get(str(params.get("UploadId")))
        if upload is None:
            raise _refuse(
                f"this gateway has not seen the upload's beginning, and parts of it may be halves of a secret: {_AGAIN}"
            )
        if upload.done:
            return  # S3 has it no more: it is an SDK's second try
        if upload.source is None:
            upload.plain = True  # a range that comes from now on would be too late to be seen here
            return
        parts = copysource.listed(params, request)
        if parts is None:
            raise _refuse("the parts cannot be read: list number and ETag of each, as SDKs do")
        _check(upload, parts)

    # -- what is answered ------------------------------------------------------------------------------------------

    def head(self, session: str, call: Call, status: int, headers: Headers) -> None:
        """The head of an answer as upstream sent it."""
        if _name(call) in {"HeadObject", "GetObject"} and (told := copysource.of_head(call, status, headers)):
            params = call.params or {}
            version = str(params.get("VersionId") or "")
            self._learn(session, Name(str(params.get("Bucket")), str(params.get("Key")), version), told)

    @staticmethod
    def reads(call: Call) -> bool:
        """Whether `body` has to see the answer to this call whatever a rule says of masks: an upload's begin and end."""
        return _name(call) in {"CreateMultipartUpload", "CompleteMultipartUpload"}

    def body(self, session: str, call: Call, status: int, body: bytes, pinned: str = "") -> None:
        """A whole answer as upstream sent it; `pinned` is what `judge` said of the call."""
        name, params = _name(call), call.params or {}
        if not name or not 200 <= status < 300:
            return
        if name in _LISTINGS:
            for key, told in copysource.of_listing(body):
                self._learn(session, Name(str(params.get("Bucket")), key), told)
        elif name == "CreateMultipartUpload" and (found := copysource.upload_id(body)):
            self._begin(session, found)
        elif name == "UploadPartCopy" and pinned and (etag := copysource.part_etag(body)):
            self._copy(call, etag)
        elif name == "AbortMultipartUpload":
            self._drop(str(params.get("UploadId")))
        elif name == "CompleteMultipartUpload" and b"<CompleteMultipartUploadResult" in body:
            self._end(str(params.get("UploadId")))

    def forget(self, session: str) -> None:
        """The session has ended. Its uploads stay: another session may complete them."""
        self._told.pop(session, None)

    # -- memory ----------------------------------------------------------------------------------------------------

    def _learn(self, session: str, name: Name, told: Told) -> None:
        if not self._is_live(session):
            return
        known = self._told.setdefault(session, OrderedDict())
        known[name] = told
        known.move_to_end(name)
        if len(known) > _SIZES:
            known.popitem(last=False)

    def _begin(self, session: str, upload: str) -> None:
        if upload in self._uploads:
            return
        self._uploads[upload] = _Upload(session)
        mine = self._of.setdefault(session, OrderedDict())
        mine[upload] = None
        if len(mine) > _UPLOADS:
            self._drop(next(iter(mine)))
        if len(self._uploads) > _ALL_UPLOADS:
            self._drop(next(iter(self._uploads)))

    def _copy(self, call: Call, etag: str) -> None:
        params = call.params or {}
        upload = self._uploads.get(str(params.get("UploadId")))
        copied = copysource.span(str(params.get("CopySourceRange")))
        if upload is None or upload.done or copied is None:
            return
        before = len(upload.parts)
        upload.parts[int(params.get("PartNumber") or 0), etag] = copied
        self._count(upload, len(upload.parts) - before)
        if self._all_copied > _ALL_PARTS:
            self._drop(next(oldest for oldest, found in self._uploads.items() if found.parts))

    def _end(self, upload: str) -> None:
        """Completed: kept for a second try of the same, and the first to be forgotten."""
        if (found := self._uploads.get(upload)) is not None:
            found.done = True
            self._count(found, -len(found.parts))
            found.parts.clear()
            self._uploads.move_to_end(upload, last=False)
            self._of[found.session].move_to_end(upload, last=False)

    def _drop(self, upload: str) -> None:
        if (found := self._uploads.pop(upload, None)) is not None:
            self._count(found, -len(found.parts))
            mine = self._of[found.session]
            del mine[upload]
            if not mine:
                del self._of[found.session]

    def _count(self, upload: _Upload, more: int) -> None:
        self._all_copied += more
        count = self._copied[upload.session] = self._copied.get(upload.session, 0) + more
        if not count:
            del self._copied[upload.session]


def _check(upload: _Upload, parts: list[tuple[int, str]]) -> None:
    """Refusal unless the listed parts are the whole of the upload's one source, in its order."""
    assert upload.source is not None
    size, reached, number_before = upload.source[1].size, 0, 0
    for number, etag in parts:
        copied = upload.parts.get((number, etag))
        if copied is None:
            raise _refuse(f"part {number} is not known as a copied range, in an upload with ranges: {_WHOLE}")
        if number <= number_before or copied[0] != reached:
            raise _refuse(f"part {number} does not follow the part before it in the source: {_WHOLE}")
        number_before, reached = number, copied[1] + 1
    if reached != size:
        raise _refuse(f"the parts end at byte {reached} of a source of {size} bytes: {_WHOLE}")


def _name(call: Call) -> str:
    operation = call.operation
    return operation.name if operation is not None and operation.service == "s3" else ""


def _refuse(why: str) -> Refusal:
    why = f"{why}; or a rule with mask: off"
    return Refusal(why, status=400, code="PartialCopyRefused", station="keep-masks")
