"""Requests as botocore's own clients send them: every operation serialised, signed, and caught before it leaves."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.loaders import Loader
from botocore.model import OperationModel, Shape
from botocore.tokens import FrozenAuthToken

from flowwarden.types import Request

ACCOUNT = "123456789012"
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


_ARNS = {
    "KvsARN": f"arn:aws:cloudfront::{ACCOUNT}:key-value-store/a-store",
    "StreamARN": f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/a-stream",
    "QueueARN": f"arn:aws:kinesis:us-east-1:{ACCOUNT}:queue/a-queue",
    "DeadLetterQueueARN": f"arn:aws:kinesis:us-east-1:{ACCOUNT}:queue/a-queue",
    "ChannelARN": f"arn:aws:kinesis:us-east-1:{ACCOUNT}:channel/a-channel",
    "ConsumerARN": f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/a-stream/consumer/a-consumer:1",
}


class Caught(Exception):
    """Carries the request out of botocore."""

    def __init__(self, request: Any) -> None:
        super().__init__("caught")
        self.request = request


class OneProtocol(Loader):
    """Botocore's own data, as if a service listed one protocol only."""

    protocol = ""

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        model = super().load_service_model(service_name, type_name, api_version)
        if type_name == "service-2" and self.protocol:
            changed = dict(model["metadata"], protocols=[self.protocol], protocol=self.protocol)
            model = dict(model, metadata=changed)
        return model


class Sender:
    """Makes clients and catches what they would send."""

    def __init__(self, region: str = "us-east-1", **config: Any) -> None:
        self.session = botocore.session.Session()
        self.session.set_credentials("AKIDEXAMPLE", "not-a-secret")
        self.loader = OneProtocol(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
        self.session.register_component("data_loader", self.loader)
        self.session._auth_token = FrozenAuthToken("not-a-token")
        self.region = region
        self.config = Config(
            parameter_validation=False,
            retries={"total_max_attempts": 1},
            s3=config.pop("s3", None),
            **config,
        )

    def client(self, service: str, protocol: str = "", **options: Any) -> Any:
        self.loader.protocol = protocol
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = self.session.create_client(service, self.region, config=self.config, **options)
        client.meta.events.register_first("before-send", self._catch)
        return client

    @staticmethod
    def _catch(request: Any, **_: Any) -> None:
        raise Caught(request)

    @staticmethod
    def send(client: Any, operation: str, params: dict[str, Any]) -> Request:
        """The request that this call would have sent."""
        try:
            client._make_api_call(operation, params)
        except Caught as caught:
            return as_request(caught.request)
        raise AssertionError(f"{operation} sent nothing")


def as_request(prepared: Any) -> Request:
    """A botocore request as the gateway sees it."""
    parts = urlsplit(prepared.url)
    body = prepared.body
    if body is not None and not isinstance(body, bytes | bytearray | str):
        body = None if hasattr(body, "read") else b"".join(body)
    if isinstance(body, str):
        body = body.encode()
    headers = [
        (str(name).encode(), value if isinstance(value, bytes) else str(value).encode("latin-1"))
        for name, value in prepared.headers.items()
    ]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    streamed = body is None and prepared.body is not None
    return Request(
        prepared.method,
        parts.scheme,
        (parts.hostname or "").lower(),
        parts.port or 443,
        target,
        tuple(headers),
        None if streamed else bytes(body or b""),
    )


_free_text = ["a-value1"]


def parameters(model: OperationModel, everything: bool, text: str = "a-value1") -> dict[str, Any]:
    """Parameters of an operation: the required ones only, or all of them. `text` is what every free text holds."""
    shape = model.input_shape
    if shape is None:
        return {}
    _free_text[0] = text
    found: dict[str, Any] = _structure(shape, everything, ())
    return found


def _structure(shape: Any, everything: bool, above: tuple[str, ...]) -> dict[str, Any]:
    required = set(shape.required_members)
    members = list(shape.members.items())
    if getattr(shape, "is_tagged_union", False):
        members = members[:1]
        required = {name for name, _ in members}
    wanted = [(name, member) for name, member in members if everything or name in required]
    found = {}
    for name, member in wanted:
        if member.serialization.get("eventstream") or getattr(member, "is_event_stream", False):
            continue
        if member.name in above and name not in required:
            continue
        found[name] = value(member, everything, above, name)
    return found


def value(shape: Shape, everything: bool, above: tuple[str, ...], name: str) -> Any:
    """A value of a shape; `name` helps where only certain texts are accepted."""
    kind = shape.type_name
    if above.count(shape.name) > 1 or len(above) > 9:
        return (
            {"structure": {}, "list": [], "map": {}}[kind]
            if kind in {"structure", "list", "map"}
            else _scalar(shape, kind, name)
        )
    inside = (*above, shape.name)
    if kind == "structure":
        if getattr(shape, "is_document_type", False):
            return {"any": ["thing", 1]}
        return _structure(shape, everything, inside)
    if kind == "list":
        return [value(shape.member, everything, inside, name)]
    if kind == "map":
        return {_text(shape.key, "key"): value(shape.value, everything, inside, name)}
    return _scalar(shape, kind, name)


def _scalar(shape: Shape, kind: str, name: str) -> Any:
    if kind == "string":
        return _text(shape, name)
    if kind in {"integer", "long"}:
        return max(int(shape.metadata.get("min", 1)), 1)
    if kind in {"float", "double"}:
        return 1.5
    if kind == "boolean":
        return True
    if kind == "blob":
        return b"\x00bytes\xff"
    return MOMENT


def _text(shape: Shape, name: str) -> str:
    if shape.enum if hasattr(shape, "enum") else shape.metadata.get("enum"):
        return str((shape.enum if hasattr(shape, "enum") else shape.metadata["enum"])[0])
    if name in {"AccountId", "accountId", "CatalogId"}:
        return ACCOUNT
    if name == "Bucket":
        return "a-bucket"
    if name in {"RequestRoute", "graphIdentifier", "EndpointId", "SpaceId", "spaceId", "OutpostId", "EventBusName"}:
        return "route1"
    if name in {"KvsARN", "StreamARN", "ResourceARN", "ConsumerARN", "ChannelARN", "DeadLetterQueueARN", "QueueARN"}:
        return _ARNS.get(name, _ARNS["StreamARN"])
    if name == "PredictEndpoint":
        return "https://realtime.machinelearning.us-east-1.amazonaws.com"
    least = int(shape.metadata.get("min", 0))
    return _free_text[0].ljust(min(least, 2048), "x")


def operations(client: Any) -> Iterator[OperationModel]:
    """All operations of a client's service."""
    model = client.meta.service_model
    for name in model.operation_names:
        yield model.operation_model(name)
