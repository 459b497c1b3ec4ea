"""Host names: one spelling, no addresses, and CONNECT, SNI, Host and the request's target have to agree."""

from __future__ import annotations

import ipaddress
import itertools
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowwarden.connect import names
from flowwarden.errors import Refusal

HOST = ("s3.amazonaws.com", 443)


@given(st.text(max_size=300) | st.from_regex(r"[a-zA-Z0-9._:\[\]%@-]{1,60}", fullmatch=True))
@example("127.0.0.1")
@example("0x7f.1")
@example("2130706433")
@example("s3.amazonaws.com.")
def test_a_name_is_refused_or_canonical(text):
    """Whatever comes in, what comes out is lower-case ASCII, its own normal form, and no address in any spelling."""
    try:
        name = names.host_name(text)
    except Refusal as refusal:
        assert refusal.status == 403 and refusal.station == "connect"  # noqa: PT017 - most texts are refused
        return
    assert name == names.host_name(name) == name.lower() and name.isascii() and not name.endswith(".")
    assert all(0 < len(label) < 64 for label in name.split(".")) and len(name) < 254
    with pytest.raises(ValueError):
        ipaddress.ip_address(name)
    with pytest.raises(OSError):
        socket.inet_aton(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "0x7f.0.0.1",
        "017700000001",
        "2130706433",
        "a.0x7f",
        "a.1",
        "[::1]",
        "::1",
        "[::ffff:127.0.0.1]",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "db.localhost",
        "printer.local",
        "metadata",
        "user@s3.amazonaws.com",
        "s3.amazonaws.com:443",
        "s3..amazonaws.com",
        ".s3.amazonaws.com",
        "s3.amazonaws.com..",
        "-s3.amazonaws.com",
        "s3-.amazonaws.com",
        "s3.amazonaws.com/",
        "s3 .amazonaws.com",
        "s3.amazonaws.com\n",
        "s3.amazonaws.com\0",
        "s3.amazonaws\u3002com",
        "s3.\u212a.com",
        "%73%33.amazonaws.com",
        "a" * 64 + ".com",
        ".".join(["a" * 60] * 5),
    ],
)
def test_what_is_no_host_name_is_refused(text):
    with pytest.raises(Refusal):
        names.host_name(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("S3.AmazonAWS.com", "s3.amazonaws.com"),
        ("s3.amazonaws.com.", "s3.amazonaws.com"),
        ("my_bucket.s3.amazonaws.com", "my_bucket.s3.amazonaws.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1.2.3.a4", "1.2.3.a4"),
        ("0xff.example.com", "0xff.example.com"),
    ],
)
def test_spellings_of_one_name(text, name):
    assert names.host_name(text) == name


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("s3.amazonaws.com", ("s3.amazonaws.com", 443)),
        ("S3.amazonaws.com.:443", ("s3.amazonaws.com", 443)),
        ("s3.amazonaws.com:8443", ("s3.amazonaws.com", 8443)),
    ],
)
def test_an_authority(text, parsed):
    assert names.authority(text, 443) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "a@s3.amazonaws.com",
        "s3.amazonaws.com:",
        "s3.amazonaws.com:x",
        "s3.amazonaws.com:\uff14\uff14\uff13",
        "s3.a.com:1:2",
        "[::1]:443",
    ],
)
def test_an_authority_that_is_none(text):
    with pytest.raises(Refusal):
        names.authority(text, 443)


SPELLINGS = {
    "target": (("s3.amazonaws.com", 443), ("S3.AMAZONAWS.COM.", 443)),
    "tunnel": (("s3.amazonaws.com", 443), ("s3.AmazonAws.com.", 443)),
    "sni": ("s3.amazonaws.com", "S3.amazonaws.com"),
    "hosts": (["s3.amazonaws.com"], ["S3.amazonaws.com.:443"], ["s3.amazonaws.com", "s3.amazonaws.com:443"]),
}
FOREIGN = {
    "target": (("evil.example.com", 443), ("s3.amazonaws.com", 8443)),
    "tunnel": (("evil.example.com", 443), ("s3.amazonaws.com", 8443)),
    "sni": ("evil.example.com", "", None, "s3.amazonaws.com.evil.example.com"),
    "hosts": (
        [],
        ["evil.example.com"],
        ["s3.amazonaws.com:8443"],
        ["s3.amazonaws.com:80"],
        ["s3.amazonaws.com", "evil.example.com"],
        ["evil.example.com", "s3.amazonaws.com"],
        [""],
    ),
}


@pytest.mark.parametrize("values", itertools.product(*SPELLINGS.values()), ids=str)
def test_what_agrees(values):
    """Spelling does not matter: the result is the one normal form."""
    assert names.agree(**dict(zip(SPELLINGS, values, strict=True)), tls=True) == HOST


@pytest.mark.parametrize(
    ("part", "value"), [(part, value) for part, values in FOREIGN.items() for value in values], ids=str
)
def test_what_does_not_agree(part, value):
    """One that differs from the other three is enough, whichever it is."""
    said = {name: values[0] for name, values in SPELLINGS.items()} | {part: value}
    with pytest.raises(Refusal):
        names.agree(**said, tls=True)


def test_without_a_tunnel():
    """`GET http://host/` to the proxy itself: Host and target agree, port 80."""
    target = ("s3.amazonaws.com", 80)
    assert names.agree(target=target, sni=None, tls=False, tunnel=None, hosts=["s3.amazonaws.com"]) == target
    with pytest.raises(Refusal):
        names.agree(target=target, sni=None, tls=False, tunnel=None, hosts=["evil.example.com"])
