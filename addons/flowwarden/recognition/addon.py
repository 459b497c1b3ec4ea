"""Station 3: what is being asked? Decides, too, whether the answer to that needs the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy import http

from .. import access, proof
from ..access import Access
from ..errors import Refusal
from ..signing import sigv4
from ..station import Station

if TYPE_CHECKING:
    from ..services import Services
_SMALL = 64 * 1024
_NEVER_STREAMED = frozenset({"GET", "HEAD", "DELETE", "POST"})  # uploads that stream are PUTs, or large


class Recognise(Station):
    """On the head: which operation, as far as it shows. On the whole request: everything."""

    name = "recognise"

    def __init__(self, services: Services) -> None:
        self.services = services

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        owner = access.of(flow)
        if owner.internal:
            return
        assert owner.request is not None
        length = _length(flow.request)
        if length is not None and length <= _SMALL and owner.request.method in _NEVER_STREAMED:
            return  # its body is here in a moment, and then everything is read at once
        call = owner.call = self.services.recogniser.head(owner.request)
        streams = call.body == "stream" and owner.auth is not None and not sigv4.needs_body(owner.auth)
        # A host that a rule names, and that is not AWS, takes bodies of any size; what is small is still read whole.
        streams = streams or (not call.aws and (length is None or length > self.services.body_limit))
        if streams and length != 0:
            owner.body = "stream"
            owner.request = access.without_body(owner.request)
            self._recognise(flow, owner)
        elif length is not None and length > self.services.body_limit:
            raise Refusal(
                f"the body has {length} bytes; this call has to be read whole, and the gateway reads {self.services.body_limit}",
                status=413,
                code="RequestEntityTooLarge",
                station=self.name,
            )

    def request(self, flow: http.HTTPFlow) -> None:
        owner = access.of(flow)
        if owner.body not in ("stream", "spool") and not owner.internal:
            self._recognise(flow, owner)

    def _recognise(self, flow: http.HTTPFlow, owner: Access) -> None:
        assert owner.request is not None
        account, _ = self.services.acting(owner.session, owner.auth.access_key_id if owner.auth is not None else "")
        owner.call = self.services.recogniser.recognise(owner.request, account=account)
        if owner.call.aws and owner.request.scheme != "https":
            raise Refusal("AWS calls go over TLS", status=403, code="AccessDenied", station=self.name)
        proof.let_pass(flow, self.name)


def _length(request: http.Request) -> int | None:
    """The announced length of a body; None where it is only known at its end."""
    announced = request.headers.get("content-length")
    if announced is not None and announced.isdigit():
        return int(announced)
    return None if "transfer-encoding" in request.headers or request.is_http2 else 0
