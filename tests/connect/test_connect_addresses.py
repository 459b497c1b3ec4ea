"""Which addresses are dialled, judged by the published tables of special-purpose addresses (RFC 6890, IANA)."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowwarden.connect import addresses
from flowwarden.errors import ConfigError

PUBLIC = ("52.94.133.131", "3.5.140.2", "2600:1fa0:80b8:1::1")
NEVER = (
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "64:ff9b::127.0.0.1",  # NAT64
    "64:ff9b::a9fe:a9fe",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1",
    "::ffff:169.254.169.254",
    "2002:a9fe:a9fe::",
    "fe80::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "240.0.0.1",
    "fe80::1%eth0",
    "::1%lo",
    "52.94.133.131%eth0",
    "not an address",
    "",
)
PRIVATE = (
    "10.0.0.1",
    "172.16.5.4",
    "192.168.1.1",
    "100.64.0.1",
    "fd12:3456::1",
    "::ffff:10.0.0.1",
    "2002:0a00:1::",
    "192.0.2.1",
    "198.18.0.1",
    "2001:db8::1",
)
EVERYTHING = addresses.networks(["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"])


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_dialled(text):
    assert addresses.forbidden(text) == ""


@pytest.mark.parametrize("text", NEVER)
def test_never_dialled(text):
    """Not even where the option allows every network."""
    assert addresses.forbidden(text)
    assert addresses.forbidden(text, EVERYTHING)


@pytest.mark.parametrize("text", PRIVATE)
def test_private_ones_only_by_list(text):
    assert "warden_private_networks" in addresses.forbidden(text)
    assert addresses.forbidden(text, EVERYTHING) == ""
    assert addresses.forbidden(text, addresses.networks(["10.99.0.0/16", "fd99::/16"]))


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_what_is_dialled_is_global(address):
    """Judged by Python's own tables; an embedded IPv4 address counts as itself."""
    if addresses.forbidden(str(address)) == "":
        inner = addresses.embedded(address)
        assert inner.is_global and not inner.is_loopback and not inner.is_link_local and not inner.is_multicast


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:{}", "64:ff9b::{}"]))
def test_an_embedded_address_is_judged_as_itself(address, form):
    assert bool(addresses.forbidden(form.format(address))) == bool(addresses.forbidden(str(address)))


def test_the_gateways_own_machine_is_not_dialled():
    """Its ports are there: the proxy itself, the operators' listener, the web view."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network address of its own")
        own = probe.getsockname()[0]
    assert addresses.is_local(ipaddress.ip_address(own))
    assert addresses.forbidden(own, EVERYTHING)


def test_one_forbidden_answer_refuses_the_name():
    assert addresses.choose(PUBLIC) == (PUBLIC[0], "")
    for bad in ("127.0.0.1", "10.0.0.1"):
        for mixed in ([bad, *PUBLIC], [*PUBLIC, bad]):
            chosen, why = addresses.choose(mixed)
            assert chosen == "" and why
    assert addresses.choose([])[1]


@pytest.mark.parametrize("text", ["10.0.0.0/33", "x", "10.0.0.1/8", "0.0.0.0/0", "::/0", ""])
def test_a_network_that_is_none(text):
    with pytest.raises(ConfigError, match="warden_private_networks"):
        addresses.networks([text])
