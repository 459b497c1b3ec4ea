"""Where a replay may send: loopback, or a host that the caller names; never AWS itself."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import ConfigError

AWS_DOMAINS = (
    "amazonaws.com", "amazonaws.com.cn", "aws.dev", "api.aws", "api.amazonwebservices.com.cn", "on.aws", "aws.amazon.com",
    "amazonaws.eu", "amazonaws-eusc.eu", "sc2s.sgov.gov", "c2s.ic.gov", "cloud.adc-e.uk", "csp.hci.ic.gov", "awsapps.com",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """The checked address of a sandbox."""

    scheme: str
    host: str
    address: str
    port: int
    prefix: str = ""


def target(url: str, allow_host: str | Iterable[str] | None = None) -> Target:
    """Checks a sandbox's URL. ConfigError if it is not one, is not loopback and not allowed, or is AWS.

    The address that was checked is the one to dial: a name is resolved once.
    """
    allowed = {allow_host} if isinstance(allow_host, str) else set(allow_host or ())
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise ConfigError(f"{url!r} is not the URL of a sandbox", "Expected something like http://127.0.0.1:5000")
    if is_aws(host):
        raise ConfigError(f"{host} is AWS itself", "A replay is sent to a sandbox only")
    port = port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{host} cannot be resolved: {error}") from None
    if host not in allowed and not all(ipaddress.ip_address(found.split("%")[0]).is_loopback for found in addresses):
        raise ConfigError(f"{host} is not on this machine", f"If it is a sandbox all the same: --allow-host {host}")
    return Target(parts.scheme, host, addresses[0], port, parts.path.rstrip("/"))


def is_aws(host: str) -> bool:
    """Whether a host name is one of AWS's own."""
    name = host.lower().rstrip(".")
    return any(name == domain or name.endswith(f".{domain}") for domain in AWS_DOMAINS)
