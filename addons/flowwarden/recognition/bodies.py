"""The body of a request as the service will read it: content coding undone, within bounds."""

from __future__ import annotations

import zlib

from ..types import Request
from . import urls
from .refuse import refusal

_LIMIT = 32 * 1024 * 1024  # decoded bytes; warden_body_limit bounds what arrives


def content(request: Request, protocol: str) -> bytes | None:
    """The decoded body; None where it was not read. A Refusal for a coding that cannot be undone."""
    body = request.body
    if body is None:
        return None
    coding = request.header("content-encoding").strip().lower()
    if request.header("x-amz-content-sha256").startswith("STREAMING-"):
        raise refusal("body", protocol, "This operation's body cannot be sent in signed chunks")
    if coding in {"", "identity"}:
        return body
    if coding == "gzip":
        return _gunzip(body, protocol)
    raise refusal("body", protocol, "The body's content encoding cannot be read")


def _gunzip(body: bytes, protocol: str) -> bytes:
    machine = zlib.decompressobj(wbits=31)
    try:
        plain = machine.decompress(body, _LIMIT)
    except zlib.error:
        raise refusal("body", protocol, "The body is not gzip") from None
    if machine.unconsumed_tail or not machine.eof or machine.unused_data:
        raise refusal("body", protocol, "The body is not one gzip member of acceptable size")
    return plain


def form(request: Request, protocol: str) -> dict[str, list[str]]:
    """A form's names and values. A Refusal for what is no UTF-8 form."""
    body = content(request, protocol)
    if not body:
        return {}
    try:
        text = body.decode("ascii") if body.isascii() else body.decode("utf-8").encode("utf-8").decode("latin-1")
    except UnicodeDecodeError:
        raise refusal("body", protocol, "The body is not UTF-8") from None
    return urls.pairs(text.strip("\r\n"), protocol)
