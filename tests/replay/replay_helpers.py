"""A recorded session of real boto3 calls, made without a proxy: botocore's requests and moto's answers, put in frames."""

from __future__ import annotations

import asyncio
import io
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from mitmproxy import http
from mitmproxy.test import tflow
from moto.server import ThreadedMotoServer

from flowwarden.recording import records
from flowwarden.recording.frames import encode
from flowwarden.recording.recorder import Recorder

SESSION = "0199bbbb-0000-7000-8000-000000000001"


@contextmanager
def sandbox() -> Iterator[str]:
    """A local AWS of its own port; its memory is shared in this process, so reset it between two."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class _Raw(io.BytesIO):
    """An answer's body that botocore may read though it was read before."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


class Tape:
    """Takes down what a boto3 session sends and is answered."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.flows: list[tuple[http.HTTPFlow, dict[str, Any]]] = []
        self._lock = threading.Lock()

    def client(self, service: str, **options: Any) -> Any:
        client = boto3.client(
            service,
            region_name="eu-west-1",
            endpoint_url=self.url,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="example",
            config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
            **options,
        )
        client.meta.events.register("before-send", self._sent(client))
        return client

    def _sent(self, client: Any) -> Any:
        def before_send(request: Any, **_: Any) -> Any:
            raw = request.body or b""
            if hasattr(raw, "read"):
                raw = request.body = raw.read()
            answer = client._endpoint.http_session.send(request)
            body = answer.content
            with self._lock:
                self.flows.append(
                    self._flow(
                        client, request, answer, body, raw if isinstance(raw, bytes | bytearray) else raw.encode()
                    )
                )
            return AWSResponse(answer.url, answer.status_code, answer.headers, _Raw(body))

        return before_send

    def _flow(
        self, client: Any, request: Any, answer: Any, body: bytes, raw: bytes
    ) -> tuple[http.HTTPFlow, dict[str, Any]]:
        model = client.meta.service_model
        parts = urlsplit(request.url)
        host = f"{model.endpoint_prefix}.eu-west-1.amazonaws.com"
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        flow = tflow.tflow(resp=True)
        flow.id = str(uuid.uuid4())
        skipped = {"authorization", "x-amz-security-token", "host"}
        fields = [
            (name.encode(), value if isinstance(value, bytes) else str(value).encode())
            for name, value in request.headers.items()
            if name.lower() not in skipped
        ]
        flow.request = http.Request.make(request.method, f"https://{host}/", bytes(raw), http.Headers(fields))
        flow.request.path = target
        flow.response = http.Response.make(
            answer.status_code, body, http.Headers([(n.encode(), v.encode()) for n, v in answer.headers.items()])
        )
        about = {
            "flow": flow.id, "session": SESSION, "service": model.service_name, "operation": "",
            "signing_name": model.signing_name, "actions": [], "resources": [], "region": "eu-west-1", "host": host,
            "method": request.method, "path": target, "decision": "allow",
        }  # fmt: skip
        return flow, about

    def record(self, root: Path, *extra: tuple[dict[str, Any], dict[str, Any]]) -> Path:
        """Writes it all as one session's recording; `extra` are records (about, outcome) that have no frame."""

        async def run() -> None:
            recorder = Recorder.open(root / "recordings", root / "state", configuration={})
            for flow, about in self.flows:
                seq = await recorder.append("intent", about)
                end = records.outcome(
                    flow.id,
                    "ok",
                    intent=seq,
                    session=SESSION,
                    status=flow.response.status_code if flow.response else None,
                )
                frame = encode(
                    flow,
                    request_body=flow.request.raw_content,
                    response_body=flow.response.raw_content if flow.response else None,
                )
                await recorder.outcome(end, frame, session=SESSION)
            for about, end in extra:
                await recorder.outcome({**end, "about": about}, None, session=SESSION)
            await recorder.close()

        asyncio.run(run())
        return root / "recordings"
