"""Options: every way to open the gate or to be misunderstood is one line that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import exceptions
from mitmproxy import options as moptions

from flowwarden import options
from flowwarden.errors import ConfigError
from flowwarden.master import DumpMaster, FrozenOptions, WebMaster


async def loaded(conf: Path | None = None, *sets: str, web: bool = False) -> moptions.Options:
    """What `flowwarden run` does before it builds anything."""
    opts = moptions.Options()
    options.declare(opts)
    (WebMaster if web else DumpMaster)(opts)
    options.load(opts, conf, sets)
    options.refuse_open_gate(opts)
    return opts


async def refused(conf: Path | None = None, *sets: str) -> str:
    """The one line that the user sees."""
    with pytest.raises(ConfigError) as caught:
        await loaded(conf, *sets)
    assert caught.value.exit_code == 2
    line = str(caught.value)
    assert line and "\n" not in line and "Traceback" not in line
    return line


OPENING = {
    "map_local": '"|x|/tmp"',
    "map_remote": '"|a|b"',
    "modify_body": '"/a/b"',
    "modify_headers": '"/a/b"',
    "stream_large_bodies": "1m",
    "body_size_limit": "1m",
    "server_replay": "x.mitm",
    "client_replay": "x.mitm",
    "proxyauth": "any",
    "save_stream_file": "x",
    "scripts": "x.py",
    "stickyauth": ".",
    "stickycookie": ".",
    "block_list": '":~all:404"',
    "upstream_auth": "a:b",
    "ignore_hosts": ".*",
    "allow_hosts": ".*",
    "tcp_hosts": ".*",
    "udp_hosts": ".*",
    "validate_inbound_headers": "false",
    "websocket": "false",
    "http3": "false",
}


@pytest.mark.parametrize("web", [False, True], ids=["dump", "web"])
@pytest.mark.parametrize("name", [name for name in options._CLOSED if name != "rawtcp"])
async def test_an_option_that_opens_the_gate_is_refused(name, web):
    """Named in the line, with what to do; from the command line and from mitm.conf alike."""
    value = OPENING.get(name, "true")
    with pytest.raises(ConfigError) as caught:
        await loaded(None, f"{name}={value}", web=web)
    assert name in str(caught.value) and "Remove it" in str(caught.value)


@pytest.mark.parametrize("name", ["ssl_insecure", "ignore_hosts", "map_remote", "scripts", "stream_large_bodies"])
async def test_an_option_that_opens_the_gate_is_refused_in_the_file(tmp_path, name):
    conf = tmp_path / "mitm.conf"
    value = OPENING.get(name, "true")
    conf.write_text(f"{name}: {value if name in ('ssl_insecure', 'stream_large_bodies') else f'[{value}]'}\n")
    assert name in await refused(conf)


async def test_what_mitmproxy_leaves_open_is_closed():
    """Raw TCP, eager dialling and looking at upstream's certificate are mitmproxy's defaults, and off here."""
    for sets in ((), ("connection_strategy=eager",), ("upstream_cert=true",)):
        opts = await loaded(None, *sets)
        assert (opts.rawtcp, opts.connection_strategy, opts.upstream_cert) == (False, "lazy", False)


@pytest.mark.parametrize(
    "mode", ["upstream:http://127.0.0.1:1", "transparent", "socks5", "reverse:http://a.b", "local", "dns"]
)
async def test_other_modes_are_refused(mode):
    assert mode in await refused(None, f"mode={mode}")


async def test_a_second_mode_beside_the_regular_one_is_refused(tmp_path):
    conf = tmp_path / "mitm.conf"
    conf.write_text("mode: [regular, socks5]\n")
    assert "socks5" in await refused(conf)


@pytest.mark.parametrize("sets", ["warden_sandbx=http://127.0.0.1:1", "no_such_option=1", "warden_rule"])
async def test_an_option_that_nobody_declares_is_refused(sets):
    """mitmproxy would ignore it."""
    assert sets.partition("=")[0] in await refused(None, sets)


async def test_an_unknown_option_in_the_file_is_refused(tmp_path):
    conf = tmp_path / "mitm.conf"
    conf.write_text("warden_body_limitt: 1m\n")
    assert "warden_body_limitt" in await refused(conf)


async def test_a_missing_file_is_refused(tmp_path):
    """mitmproxy would skip it."""
    line = await refused(tmp_path / "no.conf")
    assert "no.conf" in line and "flowwarden init" in line
    assert "does not exist" in await refused(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "- a\n- b\n",
        "just text\n",
        "42\n",
        "warden_rules: [\n",
        "warden_rules: {a: b}\n",
        "warden_rules: 42\n",
        "listen_port: many\n",
        "warden_ports: 443\n",
        "a: b\na: c\n",
        "\tlisten_port: 1\n",
        "? [a]\n: b\n",
        "!!python/object:os.system x\n",
        "1: 2\n",
        "null: 2\n",
    ],
)
async def test_a_file_that_is_none_is_refused(tmp_path, text):
    """A list at top level, broken YAML, wrong kinds: one line that names the file."""
    conf = tmp_path / "mitm.conf"
    conf.write_text(text)
    await refused(conf)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"warden_rules: \xe9\n", b"\0\0\0"])
async def test_a_file_that_is_no_text_is_refused(tmp_path, data):
    conf = tmp_path / "mitm.conf"
    conf.write_bytes(data)
    await refused(conf)


async def test_an_empty_file_is_the_defaults(tmp_path):
    conf = tmp_path / "mitm.conf"
    conf.write_text("# nothing yet\n")
    opts = await loaded(conf)
    assert opts.warden_body_limit == "32m"


async def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    """A gateway started from elsewhere finds its rules; an absolute path stays."""
    conf = tmp_path / "etc" / "mitm.conf"
    conf.parent.mkdir()
    conf.write_text(f"warden_rules: policies\nwarden_state: {tmp_path}/state\n")
    monkeypatch.chdir(tmp_path)
    opts = await loaded(conf)
    assert opts.warden_rules == str(conf.parent / "policies")
    assert opts.warden_state == str(tmp_path / "state")
    assert opts.warden_recordings == str(conf.parent / "recordings")
    assert opts.warden_signing_key == ""


async def test_set_overrides_the_file(tmp_path):
    conf = tmp_path / "mitm.conf"
    conf.write_text("warden_drain: 5s\nlisten_port: 1234\n")
    opts = await loaded(conf, "warden_drain=7s")
    assert (opts.warden_drain, opts.listen_port) == ("7s", 1234)


async def test_options_are_frozen_once_the_gateway_runs():
    """Nothing can open the gate any more, by whatever of mitmproxy's ways; reading goes on."""
    opts = moptions.Options()
    options.declare(opts)
    master = DumpMaster(opts)
    options.refuse_open_gate(opts)
    before = {name: getattr(opts, name) for name in opts.keys()}  # noqa: SIM118 - not a mapping
    master.freeze()
    assert isinstance(opts, FrozenOptions)
    attempts: Sequence[Any] = (
        lambda: opts.update(ssl_insecure=True),
        lambda: opts.set("ssl_insecure=true"),
        lambda: opts.set("ignore_hosts=.*", defer=True),
        lambda: setattr(opts, "ssl_insecure", True),
        lambda: opts.setter("ssl_insecure")(True),
        opts.toggler("ssl_insecure"),
        lambda: opts.update_defer(ssl_insecure=True),
        lambda: opts.update_known(ssl_insecure=True),
        opts.reset,
    )
    for attempt in attempts:
        with pytest.raises(exceptions.OptionsError):
            attempt()
    assert {name: getattr(opts, name) for name in opts.keys()} == before  # noqa: SIM118
    assert opts.connection_strategy == "lazy"


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("17", 17), ("64k", 65536), ("32m", 32 << 20), ("1G", 1 << 30)])
def test_sizes(text, size):
    assert options.size(text, "warden_body_limit") == size


@pytest.mark.parametrize("text", ["", "m", "-1", "9" * 5000, "1.5m", "32mb", "32 m", "x", "٣m"])
def test_sizes_that_are_none(text):
    with pytest.raises(ConfigError, match="warden_body_limit"):
        options.size(text, "warden_body_limit")


@pytest.mark.parametrize(
    ("text", "pair"),
    [("127.0.0.1:8082", ("127.0.0.1", 8082)), ("[::1]:1", ("::1", 1)), ("localhost:65535", ("localhost", 65535))],
)
def test_addresses(text, pair):
    assert options.address(text, "warden_admin_listen") == pair


@pytest.mark.parametrize("text", ["", "8082", ":8082", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1"])
def test_addresses_that_are_none(text):
    with pytest.raises(ConfigError, match="warden_admin_listen"):
        options.address(text, "warden_admin_listen")
