"""How a refused call is answered: the error form of the protocol that the agent's SDK speaks, so that it prints the reason."""

from __future__ import annotations

import json
import re
from email.utils import formatdate
from typing import NamedTuple
from xml.sax.saxutils import escape

import cbor2

from .errors import Refusal
from .types import Call, Headers, Request

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2
_CODE = re.compile(r"[^A-Za-z0-9._-]")
_SCOPE = re.compile(r"[Cc]redential=[^/,&\s]+/\d{8}/[^/,&\s]*/([^/,&\s]+)/aws4_request")
_QUERY_SCOPE = re.compile(r"X-Amz-Credential=[^&/%]+(?:/|%2[Ff])\d{8}(?:/|%2[Ff])[^&/%]*(?:/|%2[Ff])([^&/%]+)")
_TARGET_VERSION = re.compile(r"application/x-amz-json-(1\.[01])")
_REST_XML = frozenset({"cloudfront", "route53"})
_REASON_LENGTH = 512
_MESSAGE_LENGTH = 4096


class _Form(NamedTuple):
    """What the error forms need: names of the S3 family differ, SQS and others want the old query code in a header."""

    protocol: str
    s3: bool = False
    json_version: str = "1.1"
    query_mode: bool = False


class _Problem(NamedTuple):
    status: int
    code: str
    message: str
    request_id: str

    @property
    def fault(self) -> str:
        return "Sender" if self.status < 500 else "Receiver"


def render(refusal: Refusal, call: Call | None, request: Request | None, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, header fields and body of a refusal.

    The form follows `call.protocol` where the call was recognised, else what the request itself shows. A HEAD has no
    body: rule, reason and code stand in the header. `request_id` should be the flow's id: the agent sees it as the
    request id of the error, and it is what `flowwarden show` takes.
    """
    form = _form(call, request)
    problem = _Problem(refusal.status, _CODE.sub("", refusal.code) or "AccessDenied", _message(refusal), request_id)
    kind, extra, body = _render(form, problem, request)
    if request is not None and request.method == "HEAD":
        body = b""
    fields: list[tuple[bytes, bytes]] = [
        (b"Content-Type", kind),
        (b"Content-Length", str(len(body)).encode()),
        # SDKs correct a skewed clock by the date of a refusal (RequestTimeTooSkewed).
        (b"Date", formatdate(usegmt=True).encode()),
        *((name, _ascii(value)) for name, value in extra),
        (b"x-flowwarden-reason", _ascii(refusal.message)),
    ]
    if refusal.rule:
        fields.append((b"x-flowwarden-rule", _ascii(refusal.rule)))
    if refusal.station:
        fields.append((b"x-flowwarden-station", _ascii(refusal.station)))
    if refusal.status == 407:
        fields.append((b"Proxy-Authenticate", b'Basic realm="flowwarden"'))
    return refusal.status, tuple(fields), body


def _message(refusal: Refusal) -> str:
    who = f"rule {refusal.rule}" if refusal.rule else refusal.station
    text = f"Refused by flowwarden ({who}): {refusal.message}" if who else f"Refused by flowwarden: {refusal.message}"
    return _NOT_XML.sub("\ufffd", text[:_MESSAGE_LENGTH])


def _ascii(text: str) -> bytes:
    """A header value: printable ASCII on one line (RFC 9110, section 5.5), so that no text can add a header."""
    return _UNPRINTABLE.sub(" ", text[:_REASON_LENGTH]).strip().encode("ascii")


def _form(call: Call | None, request: Request | None) -> _Form:
    query_mode = request is not None and "x-amzn-query-mode" in request.fields
    if call is not None and call.protocol:
        service = call.operation.service if call.operation else call.signing_name
        return _Form(call.protocol, service == "s3", call.json_version or "1.1", query_mode)
    if request is None or (call is not None and not call.aws and not _service(request)):
        return _Form("")
    return _guess(request, query_mode)


def _service(request: Request) -> str:
    """The service of the credential scope, from header or query; empty where there is none."""
    found = _SCOPE.search(request.header("authorization")) or _QUERY_SCOPE.search(request.query)
    return found[1] if found else ""


def _guess(request: Request, query_mode: bool) -> _Form:
    """The form of a call that was refused before it was recognised, by the marks each protocol leaves on a request."""
    kind = request.header("content-type")
    service = _service(request)
    if request.header("smithy-protocol").startswith("rpc-v2-cbor"):
        return _Form("smithy-rpc-v2-cbor", query_mode=query_mode)
    version = _TARGET_VERSION.match(kind)
    if version or "x-amz-target" in request.fields:
        return _Form("json", json_version=version[1] if version else "1.1", query_mode=query_mode)
    if kind.startswith("application/x-www-form-urlencoded") or "Action=" in request.query:
        return _Form("ec2" if service == "ec2" or request.host.startswith("ec2.") else "query")
    if service in {"s3", "s3-object-lambda", "s3-outposts", "s3express"}:
        return _Form("rest-xml", s3="s3-control" not in request.host)
    if service in _REST_XML:
        return _Form("rest-xml")
    return _Form("rest-json" if service else "")


def _render(form: _Form, problem: _Problem, request: Request | None) -> tuple[bytes, list[tuple[bytes, str]], bytes]:
    """Content type, header fields and body in one protocol's form."""
    extra = [(b"x-amzn-RequestId", problem.request_id)]
    if form.protocol == "ec2":
        return b"text/xml;charset=UTF-8", extra, _ec2(problem)
    if form.protocol == "rest-xml" and form.s3:
        extra = [(b"x-amz-request-id", problem.request_id), (b"x-amz-id-2", problem.request_id)]
        return b"application/xml", extra, _s3(problem)
    if form.protocol in {"query", "rest-xml"}:
        return b"text/xml", extra, _query(problem)
    if form.protocol == "":
        return _plain(problem, request)
    extra.append((b"x-amzn-ErrorType", problem.code))
    if form.query_mode:
        extra.append((b"x-amzn-query-error", f"{problem.code};{problem.fault}"))
    document = {"__type": problem.code, "message": problem.message}
    if form.protocol == "smithy-rpc-v2-cbor":
        extra.append((b"smithy-protocol", "rpc-v2-cbor"))
        return b"application/cbor", extra, cbor2.dumps(document)
    if form.protocol == "rest-json":
        document = {"code": problem.code, "message": problem.message}
        return b"application/json", extra, json.dumps(document).encode()
    return f"application/x-amz-json-{form.json_version}".encode("ascii"), extra, json.dumps(document).encode()


def _xml(text: str) -> bytes:
    return ('<?xml version="1.0" encoding="UTF-8"?>\n' + text).encode()


def _query(problem: _Problem) -> bytes:
    return _xml(
        f"<ErrorResponse><Error><Type>{problem.fault}</Type><Code>{problem.code}</Code>"
        f"<Message>{escape(problem.message)}</Message></Error>"
        f"<RequestId>{escape(problem.request_id)}</RequestId></ErrorResponse>"
    )


def _ec2(problem: _Problem) -> bytes:
    return _xml(
        f"<Response><Errors><Error><Code>{problem.code}</Code><Message>{escape(problem.message)}</Message></Error>"
        f"</Errors><RequestID>{escape(problem.request_id)}</RequestID></Response>"
    )


def _s3(problem: _Problem) -> bytes:
    return _xml(
        f"<Error><Code>{problem.code}</Code><Message>{escape(problem.message)}</Message>"
        f"<RequestId>{escape(problem.request_id)}</RequestId><HostId>{escape(problem.request_id)}</HostId></Error>"
    )


def _plain(problem: _Problem, request: Request | None) -> tuple[bytes, list[tuple[bytes, str]], bytes]:
    """For what is not AWS: JSON in the shape of the usual HTTP APIs for who asked for JSON, else a line of text."""
    extra = [(b"x-request-id", problem.request_id)]
    if request is not None and ("json" in request.header("accept") or "json" in request.header("content-type")):
        error = {"type": problem.code, "code": problem.code, "message": problem.message}
        return b"application/json", extra, json.dumps({"type": "error", "error": error}).encode()
    return b"text/plain; charset=utf-8", extra, f"{problem.code}: {problem.message}\n".encode()
