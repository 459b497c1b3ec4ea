"""Requests as the recording keeps them: with the masks applied to what the agent itself sends; the wire is not touched."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..errors import Refusal
from ..types import Call, Headers, Operation
from . import coders, codings, heads, jsontree, kinds, objects, xmlmask
from .budget import Budget
from .model import Masked
from .profiles import Plan
from .uploads import BLOCK as UPLOAD_BLOCK
from .uploads import Kept
from .values import Run
from .windows import Windows

if TYPE_CHECKING:
    from .masker import Masker

UNREADABLE = b"[MASKED:unreadable]"
_UPLOADS = frozenset({Operation("s3", "PutObject"), Operation("s3", "UploadPart")})


class Sent:
    """The masker's side that looks at requests."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker

    def mask_request(self, call: Call, headers: Headers, body: bytes) -> Masked:
        """A request as the recording keeps it: secrets that the agent itself sends are masked. Never raises a Refusal."""
        plan = self._masker.profiles.plan(call, "input")
        run = Run(off=plan.off, call=call)
        masked = Masked(headers, body, run.counts)
        try:
            masked = self._masker.beginning(headers, body, run, plan)
            if body:
                self._request_body(call, masked, plan, run)
        except Exception as error:
            masked.body = UNREADABLE if body else body
            masked.headers = ()
            masked.inspected = False
            why = error.message if isinstance(error, Refusal) else type(error).__name__
            masked.notes.append(f"the request was left out: {why}")
        return masked

    def upload(self, call: Call, headers: Headers) -> Kept:
        """What the recording keeps of a request whose body streams: see `uploads.py`."""
        plan = self._masker.profiles.plan(call, "input")
        run = Run(off=plan.off, call=call, budget=Budget(float("inf")))
        run.content_type, run.key = heads.first(headers, b"content-type"), str((call.params or {}).get("Key", ""))
        applied = [name.strip().lower() for name in heads.first(headers, b"content-encoding").split(",")]
        coding = ", ".join(codings.names(",".join(applied)))
        is_s3 = call.operation is not None and call.operation.service == "s3"
        values = self._masker.object_values if is_s3 else self._masker.values
        masks = [mask for mask in plan.columns if mask.objects or not is_s3]
        fields = plan.object_fields if is_s3 else None
        inner = objects.search(values, masks, run, (), fields=fields, block=UPLOAD_BLOCK)
        plain = partial(Windows, values, run, UPLOAD_BLOCK)
        core = objects.reader(inner, run, (), lambda: None, plain=plain, encoding=coding)
        streaming = heads.first(headers, b"x-amz-content-sha256").startswith("STREAMING-")
        kept = Kept(core, run, framed=streaming or "aws-chunked" in applied)
        if coding and coding not in coders.STREAMABLE:
            kept.withheld = f"its content coding {coding!r} cannot be read"
        return kept

    def _whole_upload(self, call: Call, masked: Masked, run: Run) -> None:
        """An upload that was read whole is kept like one that streams: at its length, within its framing."""
        kept = self.upload(call, masked.headers)
        made = kept.feed(masked.body) + kept.finish()
        run.counts.update(kept.counts)
        if kept.withheld:
            masked.inspected = False
            masked.notes.append(f"the request's body was left out: {kept.withheld}")
        masked.body = UNREADABLE if kept.withheld else made

    def _request_body(self, call: Call, masked: Masked, plan: Plan, run: Run) -> None:
        encoding = heads.first(masked.headers, b"content-encoding").lower()
        if "aws-chunked" in encoding or (call.operation is not None and call.operation in _UPLOADS):
            self._whole_upload(call, masked, run)
            return
        content_type = heads.first(masked.headers, b"content-type")
        applied = codings.names(heads.first(masked.headers, b"content-encoding"))
        plain = codings.decode(masked.body, applied) if applied else masked.body
        protocol = "" if call.protocol in {"query", "ec2"} else call.protocol
        kind = kinds.of_type(content_type, protocol)
        if kind in {"json", "lines", "text"} or call.protocol in {"json", "rest-json"}:
            kind = "json" if jsontree.is_json(plain) else "text"
        elif kind == "xml":
            kind = "xml" if xmlmask.is_xml(plain) else "text"
        elif kind not in self._masker.readers:
            if not kinds.looks_like_text(plain[:4096]):
                masked.inspected = False
                masked.notes.append("not inspected: the request's body")
                return
            kind = "text"
        changed = self._masker.readers[kind](plain, run, plan)
        if changed is not None:
            masked.body = codings.encode(changed, applied) if applied else changed
