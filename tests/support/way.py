"""The whole way of a call: agent, gateway, strict AWS; with raw requests for what no SDK would send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .clients import Keys, ProxyClient, Reply, sign
from .gateway import REGION, GatewayProcess
from .issuer import OidcIssuer
from .strict_aws import Seen, StrictAws


@dataclass
class Way:
    """The whole way: agent → gateway → strict AWS."""

    aws: StrictAws
    gateway: GatewayProcess
    issuer: OidcIssuer

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, issuer: OidcIssuer, **settings: Any) -> Iterator[Self]:
        """A gateway in that folder before a strict AWS of its own; `settings` are GatewayProcess's."""
        with StrictAws(open_sts=True) as aws, GatewayProcess(folder, issuer, sandbox=aws.url, **settings) as gateway:
            yield cls(aws, gateway, issuer)

    @contextmanager
    def fresh(self) -> Iterator[Self]:
        """For one test of many: nothing scripted, nothing seen; it may leave no traceback in the gateway's output."""
        self.aws.forget()
        printed = len(self.gateway.output)
        yield self
        self.aws.forget()
        news = "".join(self.gateway.output[printed:])
        assert "Traceback" not in news, news

    @property
    def calls(self) -> list[Seen]:
        """What reached AWS, without the gateway's own AssumeRole calls."""
        return [seen for seen in self.aws.seen if not (seen.service == "sts" and seen.action == "AssumeRole")]

    def tunnel(self, env: dict[str, str], host: str, **options: object) -> ProxyClient:
        """A raw client inside a tunnel to host:443."""
        client = self.gateway.client(env["FLOWWARDEN_HANDLE"])
        client.tunnel(host, **options)  # type: ignore[arg-type]
        return client

    def raw(
        self,
        env: dict[str, str],
        method: str,
        url: str,
        *,
        service: str,
        body: bytes = b"",
        fields: tuple[tuple[str, str], ...] = (),
        extra: tuple[tuple[str, str], ...] = (),
    ) -> Reply:
        """One request signed by botocore and sent byte for byte; `extra` fields are added after signing."""
        target, head = sign(Keys.of(env), method, url, service=service, region=REGION, fields=fields, body=body)
        with self.tunnel(env, url.split("/")[2]) as client:
            return client.request(method, target, [*head, *extra], body)
