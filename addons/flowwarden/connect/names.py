"""Host names: normalised once, compared once, and never confused with an address."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from ..errors import Refusal

INTERNAL = "flowwarden.internal"  # answered by the gateway itself

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")  # what inet_aton would read as (a part of) an IPv4 address
_ONE_HOP = frozenset({"", "close", "http2-settings", "keep-alive", "proxy-connection", "te", "upgrade"})


def refuse(why: str) -> Refusal:
    return Refusal(why, status=403, code="AccessDenied", station="connect")


@lru_cache(maxsize=4096)
def host_name(text: str) -> str:
    """A DNS host name in lower case without its trailing dot (RFC 1123, underscores too); Refusal for all else.

    Address literals in any spelling (dotted, hex, octal, one number, bracketed, with a zone) are refused: a name is what
    rules are written for and certificates are checked against.
    """
    name = text.lower()
    name = name.removesuffix(".")
    labels = name.split(".")
    if not text.isascii() or not name or len(name) > 253 or not all(_LABEL.match(label) for label in labels):
        raise refuse(f"{text[:80]!r} is not a host name that the gateway connects to")
    if _NUMERIC.match(labels[-1]):
        raise refuse("addresses are not connected to, only host names")
    if len(labels) == 1 or name.endswith((".localhost", ".local")) or name == "localhost":
        raise refuse(f"{name!r} is a local name")
    return name


def authority(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of a Host header or :authority (RFC 9110 §7.2); userinfo is refused."""
    if "@" in text:
        raise refuse("userinfo in the Host header")
    host, colon, port = text.partition(":")
    if colon and (not port.isascii() or not port.isdigit() or len(port) > 5):
        raise refuse(f"the port in Host {text[:80]!r} is not a number")
    return host_name(host), int(port) if colon else default_port


def agree(
    *, target: tuple[str, int], sni: str | None, tls: bool, tunnel: tuple[str, int] | None, hosts: Sequence[str]
) -> tuple[str, int]:
    """The one host and port that a request is for, when CONNECT, SNI and Host or :authority all say the same.

    `target` is what the request line or mitmproxy took as destination, `tunnel` the CONNECT target (None: no tunnel),
    `sni` the name in the inner TLS handshake, `hosts` every Host header and :authority of the request.
    """
    host, port = host_name(target[0]), target[1]
    if tunnel is not None and (host_name(tunnel[0]), tunnel[1]) != (host, port):
        raise refuse("the request is not for the host of its tunnel")
    if tunnel is not None and tls:
        if not sni:
            raise refuse("the TLS handshake names no server (SNI)")
        if host_name(sni) != host:
            raise refuse("the TLS handshake (SNI) and CONNECT name different hosts")
    if not hosts:
        raise refuse("the request has no Host")
    default_port = 443 if tls or port == 443 else 80
    for text in hosts:
        if authority(text, default_port) != (host, port):
            raise refuse("Host and the request's destination differ")
    return host, port


def end_to_end(connection: Sequence[str]) -> str:
    """The first field name in Connection headers that no client means for one hop only; empty if there is none.

    Whoever is next may take away what is named there (RFC 9110, section 7.6.1): a signed header, or the account pin.
    """
    named = (part.strip().lower() for value in connection for part in value.split(","))
    return next((name for name in named if name not in _ONE_HOP), "")
