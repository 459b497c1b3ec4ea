"""Access: what the gateway knows of one flow, kept beside the flow and never on it.

`flow.metadata` is saved into recordings and would come back with a replayed flow, so nothing that lets a call pass may
live there. The register is keyed by the flow object itself and forgets it when the flow is gone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary, ref

from .types import BodyMode, Call, Decision, Phantom, Principal, Request, Session

if TYPE_CHECKING:
    from mitmproxy import connection, http

    from .approval.spool import Spool
    from .credentials.vault import Lease
    from .errors import Refusal
    from .masking.ranges import Part
    from .proof import Proof
    from .recording.passed import Passed
    from .signing.authentication import Authentication
    from .signing.upload import Upload
    from .wire.memory import Share


@dataclass(slots=True, weakref_slot=True)
class Tunnel:
    """What a client connection has shown: the proxy credential of its CONNECT, and where that CONNECT led."""

    credential: str = field(default="", repr=False)
    host: str = ""
    port: int = 0
    refused: str = ""


@dataclass(slots=True, weakref_slot=True)
class Access:
    """One request on its way (principal, action, resources, context)."""

    id: str
    request: Request | None = None
    body: BodyMode = "whole"
    credential: str = field(default="", repr=False)  # the proxy credential that came with this request or its tunnel
    session: Session | None = None
    principal: Principal | None = None
    auth: Authentication | None = None  # how the agent signed the request
    phantom: Phantom | None = None  # the keys it signed with
    issued: bool = False  # a presigned URL that AWS put into an answer of this session
    amended: bytes | None = field(default=None, repr=False)  # the body as it leaves, where the gateway asks for more
    part: Part | None = None  # of an S3 object that the agent asked for, where the gateway asks for more
    source_etag: str = ""  # that the source of a copied range has to have: its size is known for this state of it
    body_sha256: str = ""  # of the request's bytes on the wire, once they are known
    call: Call | None = None
    decision: Decision | None = None
    approval_id: str = ""
    lease: Lease | None = None
    share: Share | None = None  # of the memory that bodies may take
    wired: bool = False  # its stream is the wire's
    internal: bool = False  # for flowwarden.internal, answered by the gateway itself
    refusal: Refusal | None = None
    time_over: Refusal | None = None  # of its grant or session: what streams is cut, a call that AWS works on completes
    intent: int | None = None  # sequence number of the intent record
    spool: Spool | None = None  # the request's body while it waits on disk
    upload: Upload | None = None  # the request's body while it streams
    bodies: dict[Literal["request", "response", "websocket"], Passed] = field(default_factory=dict, repr=False)
    answer_size: int = 0  # bytes of a streamed answer so far
    socket_size: int = 0  # bytes of a WebSocket's messages that are on the flow
    recorded: bool = False  # the outcome is on disk
    masks: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    raw_answer: bytes | None = field(default=None, repr=False)  # the answer before swap and mask; never on the flow
    gone: asyncio.Event | None = None  # set when the client left
    at_end: list[Callable[[http.HTTPFlow], None]] = field(default_factory=list, repr=False)  # called once
    proof: Proof | None = field(default=None, repr=False)


_accesses: WeakKeyDictionary[http.HTTPFlow, Access] = WeakKeyDictionary()
_tunnels: WeakKeyDictionary[connection.Client, Tunnel] = WeakKeyDictionary()


_last: ref[http.HTTPFlow] | None = None  # asked for again and again while one flow is judged
_last_access: ref[Access] | None = None  # not held: it knows a lease, which ends with its session


def of(flow: http.HTTPFlow) -> Access:
    """The access of a flow, made on first sight."""
    global _last, _last_access
    if _last is not None and _last_access is not None and _last() is flow and (last := _last_access()) is not None:
        return last
    found = _accesses.get(flow)
    if found is None:
        found = _accesses[flow] = Access(id=flow.id)
    _last, _last_access = ref(flow), ref(found)
    return found


def without_body(request: Request) -> Request:
    """The same request with its body marked as not read."""
    head = Request(request.method, request.scheme, request.host, request.port, request.target, request.headers, None)
    if "fields" in request.__dict__:
        head.__dict__["fields"] = request.__dict__["fields"]
    return head


def known() -> WeakKeyDictionary[http.HTTPFlow, Access]:
    """Every flow that is under way."""
    return _accesses


def end_streams(session: str, why: Refusal) -> None:
    """A session has ended: the bodies that it sends or gets, at whatever pace, end with it."""
    for owner in list(_accesses.values()):
        if owner.session is not None and owner.session.id == session:
            owner.time_over = owner.time_over or why


_last_client: ref[connection.Client] | None = None  # asked for by each station in turn
_last_tunnel: ref[Tunnel] | None = None  # not held: it knows a credential


def tunnel(client: connection.Client) -> Tunnel:
    """What a client connection has shown so far."""
    global _last_client, _last_tunnel
    if _last_client is not None and _last_tunnel is not None and _last_client() is client:
        last = _last_tunnel()
        if last is not None:
            return last
    found = _tunnels.get(client)
    if found is None:
        found = _tunnels[client] = Tunnel()
    _last_client, _last_tunnel = ref(client), ref(found)
    return found
