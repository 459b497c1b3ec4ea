"""Station 10: secrets in the answer are hidden before a byte is released. Phantoms of the gateway's own are not secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from mitmproxy import http

from .. import access, proof
from ..access import Access
from ..credentials import phantoms, swap
from ..errors import Refusal
from ..failing import stream_response
from ..judge import Judge
from ..recording.passed import Passed
from ..station import Station
from ..types import Call, Operation
from . import columns, packed, ranges, writeback
from .masker import Masker

if TYPE_CHECKING:
    from ..services import Services

Stream = Callable[[bytes], bytes]
OFF_LOOP = 128 * 1024  # bytes from which a body is masked in a thread: other calls go on meanwhile
PACKED_OFF_LOOP = 4 * 1024  # and a compressed one, which may have to be compressed again as well as can be
STREAM_FROM = 1 << 20  # bytes from which an answer that can be masked in pieces streams
_NOTHING = Call(aws=False)
_GET_OBJECT = Operation("s3", "GetObject")
_UNINSPECTED = "not inspected"


class KeepMasks(Judge):
    """A request that carries a mask would write it over what it hides. Asks for column names where masks need them."""

    name = "keep-masks"

    def __init__(self, services: Services) -> None:
        self.services = services

    def judge(self, flow: http.HTTPFlow, owner: Access) -> None:
        request, call, decision, session = owner.request, owner.call, owner.decision, owner.session
        assert request is not None and call is not None
        if decision is not None and not decision.mask:
            return
        if writeback.contains_mask(request):
            raise Refusal(writeback.WHY, status=400, code="MaskedDataInRequest", station=self.name)
        if session is not None and self.services.masked_objects.would_overwrite(session.id, call):
            why = "this session has seen the object masked only: putting it would destroy what the masks hide"
            raise Refusal(why, status=400, code="MaskedDataInRequest", station=self.name)
        if why := ranges.splits(call, request):
            raise Refusal(why, status=400, code="PartialReadRefused", station=self.name)
        owner.source_etag = self.services.copies.judge(_session(owner), call, request)
        if call.operation == _GET_OBJECT and (wanted := request.header("range")):
            owner.part = ranges.asked(wanted)
        if request.body and self.services.masker(owner.principal).hides_columns:
            owner.amended = columns.with_metadata(call, request.body)


class Mask(Station):
    """Whole answers in `response`; large ones that can be masked in pieces as a stream."""

    name = "mask"

    def __init__(self, services: Services) -> None:
        self.services = services

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        owner = access.of(flow)
        response, call = flow.response, owner.call or _NOTHING
        assert response is not None
        length = _length(response)
        copies = self.services.copies
        copies.head(_session(owner), call, response.status_code, response.headers.fields)
        if flow.request.method == "HEAD" or length == 0:
            return
        if call.operation is not None and swap.vends(call.operation):
            return  # credentials are swapped in whole answers only, whatever a rule says of masks
        if owner.decision is not None and not owner.decision.mask:
            if copies.reads(call):
                return
            stream_response(flow, self.name, self._recorded(owner, lambda data: data))
            return
        masker = self._masker(owner)
        if (length is not None and length < STREAM_FROM) or not masker.may_stream(call, response.headers.fields):
            return
        stream = masker.stream(
            call,
            response.status_code,
            response.headers.fields,
            keep=phantoms.is_phantom_text,
            session_key=self._key(owner),
        )
        if stream is None:
            return
        cut = self._cut(owner, response)
        response.headers = http.Headers(stream.headers if cut is None else cut.headers(stream.headers))
        owner.masks = stream.counts

        def masked(data: bytes) -> bytes:
            made = stream.feed(data) if data else stream.finish()
            if not stream.inspected:
                _opaque(owner)
            return made if cut is None else cut.feed(made)

        stream_response(flow, self.name, self._recorded(owner, masked))

    async def response(self, flow: http.HTTPFlow) -> None:
        owner = access.of(flow)
        response = flow.response
        assert response is not None
        if not callable(response.stream):
            call, body = owner.call or _NOTHING, owner.raw_answer or b""
            self.services.copies.body(_session(owner), call, response.status_code, body, owner.source_etag)
            await self._mask(owner, response)
        if owner.masks and owner.session is not None and owner.call is not None:
            self.services.masked_objects.remember(owner.session.id, owner.call)
        proof.let_out(flow, self.name)

    async def _mask(self, owner: Access, response: http.Response) -> None:
        body = owner.raw_answer or b""
        if owner.decision is not None and not owner.decision.mask:
            response.raw_content = body
            return
        masker, call = self._masker(owner), owner.call or _NOTHING
        arguments = (call, response.status_code, response.headers.fields, body)
        key = self._key(owner)
        is_packed = packed.coding(body) or "content-encoding" in response.headers
        if len(body) < (PACKED_OFF_LOOP if is_packed else OFF_LOOP):
            masked = masker.mask_answer(*arguments, keep=phantoms.is_phantom_text, session_key=key)
        else:
            masked = await asyncio.to_thread(
                masker.mask_answer, *arguments, keep=phantoms.is_phantom_text, session_key=key
            )
        if masked.headers is not response.headers.fields:
            response.headers = http.Headers(masked.headers)
        if not masked.inspected:
            _opaque(owner)
        content = masked.body
        if (cut := self._cut(owner, response)) is not None:
            response.headers, content = http.Headers(cut.headers(response.headers.fields)), cut.feed(content)
        if owner.amended is not None and response.status_code == 200:
            content = columns.without_metadata(content)
            response.headers["content-length"] = str(len(content))
        response.raw_content = content
        owner.raw_answer = None
        owner.masks = masked.counts
        owner.notes.extend(masked.notes)

    @staticmethod
    def _cut(owner: Access, response: http.Response) -> ranges.Cut | None:
        """What brings the answer to a widened range request down to the part that the agent asked for."""
        if response.status_code != 206:
            return None
        if owner.part is None:
            asked = owner.call is not None and owner.call.operation == _GET_OBJECT
            if asked and not ranges.is_whole(response.headers.get("content-range", "")):
                why = "the answer is a part of an object that cannot be fetched wider: ask for it by one Range of bytes"
                raise Refusal(why, status=502, code="UnreadableAnswer", station="mask")
            return None
        return ranges.Cut(owner.part, response.headers.get("content-range", ""))

    def _masker(self, owner: Access) -> Masker:
        return self.services.masker(owner.principal)

    def _key(self, owner: Access) -> bytes:
        return self.services.session_key(_session(owner))

    def _recorded(self, owner: Access, run: Stream) -> Stream:
        """What the agent gets goes into the recording too, as it passes."""
        full = owner.decision is None or owner.decision.record == "full"
        passed = owner.bodies["response"] = Passed(self.services.recorder.body_sink() if full else None)

        def stream(data: bytes) -> bytes:
            made = run(data)
            owner.answer_size += len(made)
            if made:
                passed.write(made)
            return made

        return stream


def _session(owner: Access) -> str:
    return owner.session.id if owner.session is not None else ""


def _opaque(owner: Access) -> None:
    """Notes that nobody has looked inside; refuses where the rule that let the call pass wants that."""
    if _UNINSPECTED not in owner.notes:
        owner.notes.append(_UNINSPECTED)
    if owner.decision is not None and owner.decision.opaque == "deny":
        why = "the answer cannot be searched for secrets, and the rule denies what cannot (opaque: deny)"
        raise Refusal(why, status=502, code="OpaqueAnswer", station="mask")


def _length(response: http.Response) -> int | None:
    announced = response.headers.get("content-length")
    if response.status_code in (101, 204, 304):
        return 0
    return int(announced) if announced is not None and announced.isdigit() else None
