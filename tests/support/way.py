"""The whole way of a call: agent, gateway, strict AWS; with raw requests for what no SDK would send."""

from __future__ import annotations

from dataclasses import dataclass

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
