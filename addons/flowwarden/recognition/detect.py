"""Finds protocol and operation of a request to a known host, and refuses what contradicts itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ..types import Request
from . import bodies, s3paths, scope, urls
from .hosts import Host, Hosts
from .refuse import refusal
from .rest import Router, choose
from .services import Op, Service

_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
_SIGNATURE = frozenset(
    name.lower()
    for name in (
        "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
        "X-Amz-Security-Token", "X-Amz-S3session-Token", "X-Amz-Content-Sha256", "X-Amz-Region-Set", "X-Amz-User-Agent",
    )
)  # fmt: skip
SIGNATURE_QUERY = _SIGNATURE

Query = dict[str, list[str]]


@dataclass(slots=True)
class Found:
    """What detection found out; `op` is None where nothing was recognised."""

    protocol: str = ""
    op: Op | None = None
    region: str = ""
    partition: str = ""
    signing_name: str = ""
    json_version: str = ""
    query: Query = field(default_factory=dict)
    fields: Query = field(default_factory=dict)
    lifted: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    form: dict[str, str] | None = None
    needs_body: bool = False
    rest: bool = False


_BUCKET_HOST = re.compile(r"[a-z0-9]\.s3[.-]")  # the bucket stands in the host, and the whole path is the key


class Detector:
    """Looks requests up in the tables of the host's services."""

    def __init__(self, hosts: Hosts, service: Callable[[str], Service]) -> None:
        self._hosts = hosts
        self._service = service

    def detect(self, request: Request, host: Host, head: bool) -> Found:
        """Protocol, operation and scope. `head`: the body is not looked at."""
        services = [self._service(name) for name in host.services]
        protocol = _protocol(request, services)
        urls.check_target(request.target, protocol)
        query = urls.pairs(request.query, protocol)
        self._check_heads(request, protocol)
        found = Found(protocol=protocol, query=query, fields=request.fields)
        self._scope(request, host, found)
        if services:
            finder = _FINDERS.get(protocol, _rest)
            finder(request, host, services, found, head)
            if found.op is not None:
                found.signing_name = found.signing_name or found.op.service.signing
            found.signing_name = found.signing_name or services[0].signing
        return found

    def _check_heads(self, request: Request, protocol: str) -> None:
        fields = request.fields
        for name in _OVERRIDES:
            if name in fields:
                raise refusal("request", protocol, "The request overrides its method")
        for name in ("x-amz-target", "host", "content-type", "content-length", "content-encoding", "smithy-protocol"):
            if len(fields.get(name, ())) > 1:
                raise refusal("request", protocol, f"The request has more than one {name} header")

    def _scope(self, request: Request, host: Host, found: Found) -> None:
        said = scope.read(request, found.query, found.protocol)
        found.region, found.partition = host.region, host.partition
        if said is None:
            found.signing_name = next(iter(host.signing)) if len(host.signing) == 1 else ""
            return
        if host.signing and said.service not in host.signing:
            raise refusal(
                "scope", found.protocol,
                f"The request is signed for the service {said.service}, which is not the one of this host",
            )  # fmt: skip
        if said.region and not self._hosts.may_sign(host, said.region):
            raise refusal(
                "scope", found.protocol,
                f"The request is signed for the region {said.region}, which is not the one of this host",
            )  # fmt: skip
        found.signing_name = said.service
        if said.region:
            found.region = said.region
            found.partition = self._hosts.partition(said.region) or host.partition


def _protocol(request: Request, services: list[Service]) -> str:
    """The protocol that the head shows, among those of the host's services."""
    fields = request.fields
    offered = {protocol for service in services for protocol in service.protocols}
    if "smithy-protocol" in fields:
        if fields["smithy-protocol"] != ["rpc-v2-cbor"] or "smithy-rpc-v2-cbor" not in offered:
            raise refusal("operation", "smithy-rpc-v2-cbor", "This host has no such smithy-protocol")
        return "smithy-rpc-v2-cbor"
    if "x-amz-target" in fields:
        if "json" not in offered:
            raise refusal("operation", "json", "This host's service takes no X-Amz-Target")
        return "json"
    rest = next((service.rest for service in services if service.rest), "")
    form = next((service.form for service in services if service.form), "")
    if form and (not rest or _looks_like_form(request)):
        return form
    if rest:
        return rest
    return next(iter(services[0].protocols)) if services else ""


def _looks_like_form(request: Request) -> bool:
    kind = request.header("content-type").lower()
    return kind.startswith("application/x-www-form-urlencoded") or any(
        piece.partition("=")[0] == "Action" for piece in request.query.split("&")
    )


def _json(request: Request, host: Host, services: list[Service], found: Found, head: bool) -> None:
    targets = request.fields.get("x-amz-target")
    if not targets:
        return None
    kind = request.header("content-type").lower().partition(";")[0].strip()
    if kind not in {"application/x-amz-json-1.0", "application/x-amz-json-1.1"}:
        raise refusal("body", "json", "An X-Amz-Target needs the content type application/x-amz-json-1.0 or 1.1")
    found.json_version = kind.rpartition("-")[2]
    if request.method != "POST" or request.path != "/" or _unsigned_query(found.query):
        raise refusal("request", "json", "An X-Amz-Target has to be posted to / without a query")
    for service in services:
        op = service.by_target(targets[0])
        if op is not None:
            return _take(op, host, found)
    raise refusal("operation", "json", "This host's service has no such X-Amz-Target")


def _cbor(request: Request, host: Host, services: list[Service], found: Found, head: bool) -> None:
    if "x-amz-target" in request.fields:
        raise refusal("request", found.protocol, "The request has both an X-Amz-Target and a smithy-protocol")
    parts = request.path.split("/")
    if (
        request.method != "POST"
        or len(parts) != 5
        or parts[1::2] != ["service", "operation"]
        or _unsigned_query(found.query)
    ):
        raise refusal("operation", found.protocol, "The path has to be /service/NAME/operation/NAME")
    for service in services:
        op = service.op(parts[4]) if service.target == parts[2] and found.protocol in service.protocols else None
        if op is not None:
            return _take(op, host, found)
    raise refusal("operation", found.protocol, "This host's service has no such operation")


def _form(request: Request, host: Host, services: list[Service], found: Found, head: bool) -> None:
    query = found.query
    protocol = found.protocol
    if request.method not in {"GET", "POST"} or request.path != "/":
        return
    found.needs_body = request.method == "POST"
    kind = request.header("content-type").lower().partition(";")[0].strip()
    if request.method == "POST" and kind not in {"", "application/x-www-form-urlencoded"}:
        raise refusal("body", protocol, "The body has to be application/x-www-form-urlencoded")
    if head and found.needs_body:
        if "Action" in query:
            _form_operation(_single(query, protocol), host, services, found)
        return
    body = bodies.form(request, protocol) if request.method == "POST" else {}
    twice = [name for name in body if name in query and name.lower() not in _SIGNATURE]
    if twice and ("Action" in twice or any(body[name] != query[name] for name in twice)):
        raise refusal("request", protocol, "Query and body both have the same parameter")
    if request.method == "GET" and request.body:
        raise refusal("request", protocol, "A GET has no body")
    found.form = _single({**query, **body}, protocol)
    _form_operation(found.form, host, services, found)


def _single(form: Query, protocol: str) -> dict[str, str]:
    if any(len(values) != 1 for values in form.values()):
        raise refusal("request", protocol, "A parameter is there twice")
    if any(name != "Action" and name.lower() == "action" for name in form):
        raise refusal("operation", protocol, "Action has to be spelled Action")
    return {name: values[0] for name, values in form.items()}


def _form_operation(form: dict[str, str], host: Host, services: list[Service], found: Found) -> None:
    action = form.get("Action")
    if action is None:
        return
    version = form.get("Version")
    having = [(service, op) for service in services if service.form for op in [service.op(action)] if op is not None]
    fitting = [pair for pair in having if version in {None, pair[0].version}]
    if version is None and len({service.version for service, _ in fitting}) > 1:
        raise refusal("request", found.protocol, "The Version has to say which API is meant")
    if not fitting and having and found.protocol == "ec2":
        fitting = having  # older EC2 API versions are subsets of the newest one
    if not fitting:
        raise refusal("operation", found.protocol, f"The action {_printable(action)} is not valid for this endpoint")
    _take(fitting[0][1], host, found)
    found.protocol = fitting[0][0].form


def _rest(request: Request, host: Host, services: list[Service], found: Found, head: bool) -> None:
    found.rest = True
    s3 = bool(host.kind) and "s3" in host.services
    method = _posted_get(request, services, found, head)
    urls.check_path(request.path, found.protocol, s3, root=0 if _BUCKET_HOST.search(request.host) else 1)
    path = s3paths.path(request.path, host) if s3 else request.path
    query = s3paths.lift(found) if s3 else found.query
    raw = path.split("/")[1:]
    segments = [urls.decode(part, found.protocol) for part in raw]
    has_header = found.fields.__contains__
    best: tuple[Op, tuple[int, ...]] | None = None
    for service in services:
        if service.router is None:
            continue
        matches = service.router.find(method, segments)
        chosen = choose(matches, query, has_header, s3, host.kind == "express-control") if matches else None
        if chosen is None:
            continue
        route, values, rank = chosen
        op = service.op(route.name)
        if op is None or (best is not None and best[1] <= rank):  # on a tie the host's first service
            continue
        if "%" in path:
            _check_literals(op.uri, raw, found.protocol)
            if not s3:
                _check_decoded(service.router, segments, request.method, op)
        best = (op, rank)
        found.labels = dict(zip(route.labels, values, strict=True))
    if best is None:
        return
    op = best[0]
    if op.service.name == "s3" and not s3paths.known_query(op, query, found):
        found.labels = {}
        return
    _check_account(host, found)
    if op.body == "none" and not found.needs_body and request.body and request.body.strip() != b"{}":
        raise refusal("request", found.protocol, "This operation has no body")
    _refuse_foreign(op, query, found.protocol)
    _take(op, host, found)
    found.protocol = op.service.rest


def _check_account(host: Host, found: Found) -> None:
    said = found.fields.get("x-amz-account-id")
    if said and "AccountId" in host.params and said != [host.params["AccountId"]]:
        raise refusal("request", found.protocol, "The host and x-amz-account-id name different accounts")


_POSTED_GETS = {"cloudsearchdomain"}


def _posted_get(request: Request, services: list[Service], found: Found, head: bool) -> str:
    """The method to look for. CloudSearch takes its GETs as posted forms too, and that is how SDKs send long searches.

    https://docs.aws.amazon.com/cloudsearch/latest/developerguide/search-api.html
    """
    if request.method != "POST" or not _looks_like_form(request) or services[0].name not in _POSTED_GETS:
        return request.method
    found.needs_body = True
    if not head:
        body = bodies.form(request, found.protocol)
        if body.keys() & found.query.keys():
            raise refusal("request", found.protocol, "Query and body both have the same parameter")
        found.query = {**found.query, **body}
    return "GET"


def _check_literals(uri: str, raw: list[str], protocol: str) -> None:
    """A literal part of the path has to be sent as it is: no SDK encodes a letter of it."""
    for part, sent in zip(uri.partition("?")[0].split("/")[1:], raw, strict=False):
        if part.endswith("+}"):
            return
        if not part.startswith("{") and part != sent:
            raise refusal("request", protocol, "The path decodes to another path")


def _check_decoded(router: Router, segments: list[str], method: str, op: Op) -> None:
    """A label may hold an encoded slash, unless the path without that encoding is another operation's.

    ARNs are full of slashes, and services route them as they are sent.
    """
    if not any("/" in part and not part.startswith("arn:") for part in segments):
        return
    inner = [piece for part in segments for piece in ([part] if part.startswith("arn:") else part.split("/"))]
    for _, routes, _ in router.find(method, inner):
        if any(route.name != op.operation.name for route in routes.all()):
            raise refusal("request", op.service.rest, "The path decodes to another operation's path")


def _refuse_foreign(op: Op, query: Query, protocol: str) -> None:
    known = op.known_queries
    for name, values in query.items():
        if name not in known and name.lower() in {"action", "_method"}:
            raise refusal("operation", protocol, "This host's service takes no Action in its query")
        if name not in known and len(values) > 1 and name.lower() not in _SIGNATURE and not op.body:
            raise refusal("request", protocol, "A parameter is there twice")


def _unsigned_query(query: Query) -> bool:
    return any(name.lower() not in _SIGNATURE for name in query)


def _take(op: Op, host: Host, found: Found) -> None:
    prefix = host.prefixes.get(op.service.name)
    if prefix is not None and op.prefix and prefix != op.prefix:
        raise refusal("operation", found.protocol, "This host does not have the operation")
    found.op = op


def _printable(text: str) -> str:
    return text if text.isascii() and text.isalnum() and len(text) <= 128 else "of this request"


_FINDERS: dict[str, Callable[[Request, Host, list[Service], Found, bool], None]] = {
    "json": _json,
    "smithy-rpc-v2-cbor": _cbor,
    "query": _form,
    "ec2": _form,
}
