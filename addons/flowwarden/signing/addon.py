"""The signer: makes the copy of a request that goes on the wire, with real credentials. The flow never carries them."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

from mitmproxy import http

from .. import access
from ..access import Access
from ..errors import Refusal
from ..policy import accounts
from ..station import Signer
from ..types import Headers
from . import chunked, sigv4
from .authentication import Kind

if TYPE_CHECKING:
    from ..services import Services

# Answers have to be read; what is not compressed need not be unpacked. It is no signed header of any SDK.
_PLAIN = {"accept-encoding": "identity"}
_CHUNKED = frozenset({Kind.STREAMING_UNSIGNED_TRAILER, Kind.STREAMING_SIGNED, Kind.STREAMING_SIGNED_TRAILER})


class Sign(Signer):
    """Asked by the wire, after the seal."""

    name = "sign"

    def __init__(self, services: Services) -> None:
        self.services = services

    def dial(self, flow: http.HTTPFlow) -> tuple[tuple[str, int], bool]:
        owner = access.of(flow)
        sandbox = self.services.sandbox
        if sandbox is not None and owner.call is not None and owner.call.aws:
            return sandbox.address, sandbox.tls
        return (flow.request.host, flow.request.port), flow.request.scheme == "https"

    def sign(self, flow: http.HTTPFlow) -> http.Request:
        owner = access.of(flow)
        call, decision, request = owner.call, owner.decision, owner.request
        if call is None or decision is None or request is None:
            raise Refusal(
                "nothing was decided about this request", status=502, code="GatewayRefused", station=self.name
            )
        if owner.issued or not (call.aws or decision.sign):
            if not decision.mask:
                return _copy(flow.request, request.target, request.headers)
            headers = request.headers if owner.part else _whole(request.headers)
            return _copy(flow.request, request.target, _with(headers, {**_PLAIN, **self._parts(owner)}))
        if owner.auth is None:
            if not decision.unsigned:
                raise Refusal("the request is not signed", code="MissingAuthenticationToken", station=self.name)
            return _copy(flow.request, request.target, _with(request.headers, {**_PLAIN, **self._parts(owner)}))
        return self._signed(flow, owner)

    def _parts(self, owner: Access) -> dict[str, str]:
        """A part can split a secret: its neighbourhood is looked at as well, and one is copied from a known object only."""
        if owner.call is None:
            return {}
        if owner.part is not None:
            return {"range": self.services.masker(owner.principal).widened(owner.part, owner.call)}
        if owner.source_etag and "CopySourceIfMatch" not in (owner.call.params or {}):
            return {"x-amz-copy-source-if-match": f'"{owner.source_etag}"'}
        return {}

    def _signed(self, flow: http.HTTPFlow, owner: Access) -> http.Request:
        lease, call, request, auth = owner.lease, owner.call, owner.request, owner.auth
        assert call is not None and request is not None and auth is not None
        if lease is None:
            raise Refusal(
                "there are no credentials for this session", status=503, code="ServiceUnavailable", station=self.name
            )
        amendments = {**_PLAIN, **accounts.amendments(call, request, lease.account), **self._parts(owner)}
        body_sha256 = owner.body_sha256 or None
        if owner.amended is not None:
            body_sha256 = hashlib.sha256(owner.amended).hexdigest()
            amendments["content-length"] = str(len(owner.amended))
            if auth.content_sha256 is not None:
                auth = dataclasses.replace(auth, content_sha256=body_sha256)
                amendments["x-amz-content-sha256"] = body_sha256
        signed = sigv4.sign(
            request, auth, lease.credentials, now=self.services.clock(), set_headers=amendments, body_sha256=body_sha256
        )
        body = owner.amended
        if owner.upload is not None:
            owner.upload.transform = chunked.transform(auth, owner.phantom, lease.credentials, signed)
        elif auth.kind in _CHUNKED and request.body:
            transform = chunked.transform(auth, owner.phantom, lease.credentials, signed)
            body = transform.feed(request.body) + transform.finish() if transform is not None else None
        made = _copy(flow.request, signed.target, signed.headers)
        if body is not None:
            made.data.content = body
        return made


def _copy(request: http.Request, target: str, headers: tuple[tuple[bytes, bytes], ...]) -> http.Request:
    """A copy by reference but for target and headers: a deep one costs eight times as much."""
    data = object.__new__(type(request.data))
    data.__dict__.update(request.data.__dict__)
    data.path = target.encode("latin-1")
    data.headers = http.Headers(headers)
    made = http.Request.__new__(http.Request)
    made.data = data
    made.stream = request.stream
    return made


def _whole(headers: Headers) -> Headers:
    """The fields of a request for all of a resource (a server may ignore Range): a part of it can split a secret."""
    return tuple(field for field in headers if field[0].lower() not in (b"range", b"if-range"))


def _with(headers: tuple[tuple[bytes, bytes], ...], fields: dict[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    kept = tuple(field for field in headers if field[0].lower().decode("latin-1") not in fields)
    return (*kept, *((name.encode(), value.encode()) for name, value in fields.items()))
