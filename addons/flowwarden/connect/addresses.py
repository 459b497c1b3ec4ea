"""Which addresses are dialled: never the gateway's own machine, link-local or metadata; private ones only by list."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from ..errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Metadata services at addresses that are not link-local: EC2 (IPv6), Azure's wire server, Alibaba, Oracle.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd00:ec2::23", "168.63.129.16", "100.100.100.200", "192.0.0.192")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """CIDRs of `warden_private_networks`; ConfigError for what is not one, or contains what is never dialled."""
    found = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigError(f"warden_private_networks: {error}") from None
        if network.prefixlen == 0:
            raise ConfigError("warden_private_networks: the whole address space is not a private network")
        found.append(network)
    return tuple(found)


def embedded(address: Address) -> Address:
    """The IPv4 address inside a mapped, 6to4, Teredo or NAT64 address; else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner:
            return inner
    return address


def is_local(address: Address) -> bool:
    """Whether the address belongs to this machine (the gateway's own ports are there)."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def forbidden(text: str, private: Sequence[Network] = ()) -> str:
    """Why an address is not dialled; empty when it may be. `private` are networks that are allowed though not global."""
    try:
        address = embedded(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return f"{text!r} is not an address"
    if "%" in text:
        return "an address with a zone"
    if address.is_loopback or address.is_unspecified:
        return "a loopback address"
    if address.is_link_local or address in _METADATA:
        return "a link-local or metadata address"
    if address.is_multicast or address.is_reserved:
        return "a multicast or reserved address"
    if not address.is_global and not any(
        address.version == network.version and address in network for network in private
    ):
        return "a private address that warden_private_networks does not list"
    if is_local(address):
        return "an address of the gateway's own machine"
    return ""


def choose(candidates: Sequence[str], private: Sequence[Network] = ()) -> tuple[str, str]:
    """The first address that may be dialled, and an empty reason; or nothing and why.

    One forbidden address among the answers refuses the name: an honest name does not mix public and internal addresses.
    """
    if not candidates:
        return "", "the name has no address"
    for candidate in candidates:
        if why := forbidden(candidate, private):
            return "", why
    return candidates[0], ""
