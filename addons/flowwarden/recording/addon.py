"""Station 6, intend: the intent is on disk before anything leaves. Station 11, record: the outcome before the release."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING

from mitmproxy import http

from .. import access, proof
from ..access import Access
from ..credentials import names
from ..errors import Refusal, StoreError
from ..failing import stream_request
from ..judge import Judge
from ..masking import writeback
from ..signing.upload import Upload
from ..station import Station
from ..types import Call, Headers, Request
from . import frames, messages, records
from .passed import Passed

if TYPE_CHECKING:
    from ..masking.masker import Masker
    from ..services import Services

MARKS = {"denied": ":no_entry:", "held": ":hourglass:", "masked": ":lock:"}
_BROKEN = 1006  # a WebSocket whose connection broke (RFC 6455 section 7.4.1)
_EMPTY = hashlib.sha256(b"").hexdigest()
_NOTHING = Call(aws=False)
_PRESIGNED = re.compile(r"([?&]X-Amz-(?:Signature|Security-Token)=)[^&]*", re.IGNORECASE)
_SSE_C = b"server-side-encryption-customer-key"
_SECRET_HEADERS = frozenset(
    {b"authorization", b"x-amz-security-token", b"cookie", b"set-cookie", b"x-amz-" + _SSE_C}
    | {b"x-amz-copy-source-" + _SSE_C, b"x-amz-mfa", b"api-key", b"x-api-key", b"x-goog-api-key", b"x-auth-token"}
    | {b"private-token", b"x-vault-token"}
)


class Intend(Judge):
    """Writes down what is about to be done, and waits until that is durable."""

    name = "intend"

    def __init__(self, services: Services) -> None:
        self.services = services

    async def judge(self, flow: http.HTTPFlow, owner: Access) -> None:
        record = about(owner, self.services)
        if owner.body in ("stream", "spool"):
            full = owner.decision is None or owner.decision.record == "full"
            # An upload that streams is kept with the masks applied where the rules say `record: full`, else by hash and size.
            passed = owner.bodies["request"] = self._passed(owner) if full else Passed(None)
            masked = owner.decision is None or owner.decision.mask
            owner.upload = Upload(writeback.Watch(passed.write, owner.request) if masked else passed.write)
        owner.intent = await self.services.recorder.append("intent", dict(record))
        if owner.decision is not None and owner.decision.anchor:
            await self._anchored(owner.intent)
        if owner.upload is not None:
            stream_request(flow, self.name, owner.upload)

    def _passed(self, owner: Access) -> Passed:
        head = owner.request.headers if owner.request is not None else ()
        masks = _masker(owner, self.services).upload(owner.call or _NOTHING, head)
        return Passed(self.services.recorder.body_sink(), masks)

    async def _anchored(self, seq: int) -> None:
        """A rule wants somebody else to vouch for the log before this call leaves."""
        if self.services.anchors is None:
            raise StoreError("a rule asks for an anchor, but none is set up", "Set warden_anchor")
        await self.services.anchors.cover(seq)


class Record(Station):
    """The frame and the outcome are durable before the answer's last bytes go to the agent."""

    name = "record"

    def __init__(self, services: Services) -> None:
        self.services = services

    async def response(self, flow: http.HTTPFlow) -> None:
        owner = access.of(flow)
        if flow.websocket is not None and owner.refusal is None:
            proof.let_out(flow, self.name)  # the call is over when the WebSocket is
            return
        if not owner.recorded:
            await self._record(flow, owner, "refused" if owner.refusal is not None and owner.intent is None else "ok")
            owner.recorded = owner.refusal is None or flow.response is proof.of(flow).own_answer
        proof.let_out(flow, self.name)

    async def error(self, flow: http.HTTPFlow) -> None:
        owner = access.of(flow)
        if not owner.recorded and flow.request.method != "CONNECT":
            owner.recorded = True
            await self._record(flow, owner, "cut")

    async def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Messages stay on the flow up to a size; then they go to bodies/. StoreError if they cannot be written."""
        assert flow.websocket is not None
        owner = access.of(flow)
        owner.socket_size += len(flow.websocket.messages[-1].content)
        if owner.socket_size >= messages.MOST:
            behind = self._spill(flow, owner).behind
            if behind is not None:
                await asyncio.wrap_future(behind)

    def _spill(self, flow: http.HTTPFlow, owner: Access) -> Passed:
        assert flow.websocket is not None
        full = owner.decision is None or owner.decision.record == "full"
        passed = owner.bodies.get("websocket")
        if passed is None:
            passed = owner.bodies["websocket"] = Passed(self.services.recorder.body_sink() if full else None)
        told = list(flow.websocket.messages)
        owner.answer_size += owner.socket_size
        owner.socket_size = 0
        passed.write(messages.encode(message.get_state() for message in told))
        flow.websocket.messages.clear()
        return passed

    async def websocket_end(self, flow: http.HTTPFlow) -> None:
        """One outcome for the whole of it; a rule's `record: metadata` leaves hash and length of the messages."""
        assert flow.websocket is not None
        owner, socket = access.of(flow), flow.websocket
        owner.recorded = True
        if owner.decision is not None and owner.decision.record != "full" and socket.messages:
            self._spill(flow, owner)
        owner.answer_size += owner.socket_size
        owner.notes.append(f"WebSocket closed with {socket.close_code} {socket.close_reason or ''}".rstrip())
        broken = owner.refusal is not None or socket.close_code == _BROKEN
        await self._record(flow, owner, "cut" if broken else "ok")

    async def _record(self, flow: http.HTTPFlow, owner: Access, ending: records.Ending) -> None:
        refusal, response = owner.refusal, flow.response
        if refusal is not None and owner.intent is not None and ending == "ok":
            ending = "unknown"  # it was sent, and what came of it the agent does not learn from us
        label(flow, owner)
        self.services.counts[_verb(owner), ending] += 1
        if owner.session is None and owner.intent is None and not self._alone(flow, refusal):
            return
        session = owner.session.id if owner.session is not None else ""
        bodies = [await passed.end(which) for which, passed in owner.bodies.items()]
        if owner.decision is not None and owner.decision.record != "full" and "response" not in owner.bodies:
            bodies += _left_out(response)
        record = records.outcome(
            flow.id,
            ending,
            intent=owner.intent,
            session=session,
            status=response.status_code if response is not None else None,
            code=refusal.code if refusal is not None else "",
            reason=refusal.message if refusal is not None else flow.error.msg if flow.error else "",
            masks=owner.masks,
            size=owner.answer_size or len((response.raw_content if response is not None else b"") or b""),
            aws_request_id="" if refusal is not None else _request_id(response),
            bodies=bodies,
            call=about(owner, self.services) if owner.intent is None and owner.request is not None else None,
        )
        if owner.notes:
            record["notes"] = list(owner.notes)
        frame = None if owner.internal else self._frame(flow, owner)
        await self.services.recorder.outcome(record, frame, session=session or "unidentified")

    def _alone(self, flow: http.HTTPFlow, refusal: Refusal | None) -> bool:
        """Whether what a stranger asked for has a record of its own, or is counted with more of the same."""
        client = flow.client_conn.peername
        what = f"{flow.request.method} {flow.request.host}: {refusal.message if refusal is not None else ''}"
        return self.services.repeats.alone(str(client[0]) if client else "", what)

    def _frame(self, flow: http.HTTPFlow, owner: Access) -> bytes:
        """What the agent saw; the request with the same masks applied, and no credential in either."""
        full = owner.decision is None or owner.decision.record == "full"
        headers, body, path = self._request(flow, owner)
        response = flow.response
        answer = response.raw_content if response is not None and not callable(response.stream) else None
        return frames.encode(
            flow,
            request_headers=headers,
            request_body=body if full else None,
            request_path=path,
            response_headers=None
            if response is None
            else tuple(f for f in response.headers.fields if f[0].lower() not in _SECRET_HEADERS),
            response_body=answer if full else None,
            comment=flow.comment,
            marked=flow.marked,
        )

    def _request(self, flow: http.HTTPFlow, owner: Access) -> tuple[Headers, bytes | None, bytes]:
        fields = tuple(field for field in flow.request.headers.fields if field[0].lower() not in _SECRET_HEADERS)
        body = None if owner.body in ("stream", "spool") else flow.request.data.content
        masker = _masker(owner, self.services)
        masked = masker.mask_request_for_recording(owner.call or _NOTHING, fields, body or b"")
        path = told(masker.mask_text(flow.request.path)).encode("latin-1", "replace")
        return masked.headers, None if body is None else masked.body, path


def _left_out(response: http.Response | None) -> list[records.BodyAt]:
    """Hash and length of a whole answer that a rule keeps out of the recording."""
    content = response.raw_content if response is not None else None
    if not content:
        return []
    return [{"of": "response", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "kept": False}]


def about(owner: Access, services: Services) -> records.About:
    """What a call is, in a record's words; the path is masked like everything that is kept."""
    request = owner.request or Request("", "", "", 0, "")
    body = request.body
    body_sha256: str | None
    if body is None:
        body_sha256 = owner.body_sha256 or None  # known where it was read to disk first
    else:
        body_sha256 = owner.body_sha256 or (hashlib.sha256(body).hexdigest() if body else _EMPTY)
    lease = owner.lease
    found = records.about(
        owner.id,
        request,
        session=owner.session,
        principal=owner.principal,
        call=owner.call,
        decision=owner.decision,
        path=told(_masker(owner, services).mask_text(request.target)),
        body_sha256=body_sha256,
        approval=owner.approval_id,
        lease=lease.credentials.access_key_id if lease is not None else "",
        source_identity=names.session_name(owner.principal.subject)
        if lease is not None and owner.principal is not None
        else "",
    )
    if owner.spool is not None and owner.spool.sha256:
        found["request_bytes"] = owner.spool.size
    if lease is not None and lease.role_arn:
        found["role"] = lease.role_arn
    return found


def told(target: str) -> str:
    """A target without what would let its reader make the same call: the signature and token of a presigned URL."""
    return _PRESIGNED.sub(r"\1", target) if "mz-" in target else target


def label(flow: http.HTTPFlow, owner: Access) -> None:
    """Decision and rule as the flow's comment, and a marker, for whoever looks at it in mitmweb."""
    decision, refusal = owner.decision, owner.refusal
    parts = [_verb(owner)]
    if decision is not None and decision.rules:
        parts.append(f"by {', '.join(decision.rules)}")
    if owner.approval_id:
        parts.append(f"approval {owner.approval_id}")
    if owner.masks:
        parts.append(f"masked {sum(owner.masks.values())}: {', '.join(sorted(owner.masks))}")
    if refusal is not None:
        parts.append(refusal.message)
    flow.comment = "; ".join(parts)
    mark = "denied" if refusal is not None else "held" if owner.approval_id else "masked" if owner.masks else ""
    flow.marked = MARKS.get(mark, "")


def _verb(owner: Access) -> str:
    if owner.decision is None:
        return "internal" if owner.internal else "refused" if owner.refusal is not None else "undecided"
    return "refused" if owner.refusal is not None and owner.decision.effect == "allow" else owner.decision.effect


def _masker(owner: Access, services: Services) -> Masker:
    return services.masker(owner.principal)


def _request_id(response: http.Response | None) -> str:
    if response is None:
        return ""
    return str(response.headers.get("x-amzn-requestid", "") or response.headers.get("x-amz-request-id", ""))
