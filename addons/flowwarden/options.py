"""Every warden_* option, declared once, and the mitmproxy options that would open the gate."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitmproxy import exceptions, options, optmanager

from .errors import ConfigError
from .yamlfile import seconds


@dataclass(frozen=True)
class Spec:
    """One option of the gateway. `path` marks values that are relative to mitm.conf's folder."""

    name: str
    kind: Any
    default: Any
    help: str
    path: bool = False


SPECS = (
    Spec("warden_rules", str, "rules", "Folder of rule files.", path=True),
    Spec("warden_recordings", str, "recordings", "Folder that the gateway records to.", path=True),
    Spec("warden_state", str, "state", "Folder (0700) of state.db, the CA and the evidence key.", path=True),
    Spec(
        "warden_sandbox",
        str,
        "",
        "Sandbox mode: every AWS call goes to this URL (moto, LocalStack), signed with sandbox keys. Loopback only, "
        "unless --sandbox-host names its host. Real leases are never used there.",
    ),
    Spec("warden_sandbox_host", str, "", "A host other than loopback that warden_sandbox may name."),
    Spec("warden_admin_listen", str, "127.0.0.1:8082", "Address and port of the operators' API."),
    Spec(
        "warden_private_networks",
        Sequence[str],
        [],
        "CIDRs that recognised AWS names may resolve to (VPC endpoints). Loopback, link-local and metadata addresses are never dialled.",
    ),
    Spec(
        "warden_body_limit",
        str,
        "32m",
        "Largest body held in memory; beyond it a body is streamed, or refused where it must be read whole.",
    ),
    Spec(
        "warden_session_memory",
        str,
        "96m",
        "Bodies of one session held in memory at once; beyond it a call gets 503 SlowDown, which SDKs send again.",
    ),
    Spec("warden_memory", str, "512m", "The same for all sessions together."),
    Spec(
        "warden_spool_limit",
        str,
        "5g",
        "What bodies that are too large for memory may take on disk, one or all together, while they wait for an "
        "approval; 0: such calls are refused.",
    ),
    Spec(
        "warden_http2_hosts",
        Sequence[str],
        ["transcribestreaming.*", "bedrock-runtime.*"],
        "Where HTTP/2 is offered to clients; elsewhere HTTP/1.1, whose memory is bounded.",
    ),
    Spec("warden_ports", Sequence[str], ["443", "80"], "Ports that a tunnel may lead to."),
    Spec("warden_drain", str, "30s", "How long a stop waits for calls that are under way before they are cut."),
    Spec("warden_retention", str, "", "How long flows are kept, such as 90d; empty: for ever."),
    Spec("warden_anchor", str, "", "Where checkpoints are anchored: s3://bucket/prefix, or a command as a JSON list."),
    Spec("warden_signing_key", str, "", "The evidence key, if it is kept outside the state folder.", path=True),
)

# Options of mitmproxy that would let bytes pass the chain unseen, or bodies grow without bound. Each must keep its default.
_CLOSED = (
    "ssl_insecure",
    "ignore_hosts",
    "allow_hosts",
    "tcp_hosts",
    "udp_hosts",
    "rawtcp",
    "scripts",
    "map_local",
    "map_remote",
    "modify_body",
    "modify_headers",
    "stream_large_bodies",
    "body_size_limit",
    "store_streamed_bodies",
    "server_replay",
    "client_replay",
    "proxyauth",
    "stickyauth",
    "stickycookie",
    "block_list",
    "upstream_auth",
    "save_stream_file",
    "anticache",
    "anticomp",
    "keep_host_header",
    "validate_inbound_headers",
    "websocket",
    "request_client_cert",
    "http3",
    "web_debug",
    "proxy_debug",
)
_OPEN_BY_DEFAULT = {"rawtcp": False}  # mitmproxy's default opens the gate; ours does not


def declare(opts: options.Options) -> None:
    """Declares every option of the gateway."""
    for spec in SPECS:
        opts.add_option(spec.name, spec.kind, spec.default, spec.help)


def load(opts: options.Options, conf: Path | None, sets: Sequence[str]) -> None:
    """Reads mitm.conf and `--set` values; ConfigError for anything that nobody declared or that would open the gate."""
    base = Path.cwd()
    opts.update(**_OPEN_BY_DEFAULT)
    try:
        if conf is not None:
            if not conf.is_file():
                raise ConfigError(f"{conf} does not exist", "`flowwarden init` writes one to start from")
            optmanager.load_paths(opts, str(conf))
            base = conf.resolve().parent
        opts.set(*sets, defer=True)
    except (exceptions.OptionsError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise ConfigError(f"{conf or '--set'}: {' '.join(str(error).split())}") from None
    for name, closed in _OPEN_BY_DEFAULT.items():
        if getattr(opts, name) != closed:  # said in so many words: mitmproxy's default does not count as changed
            raise ConfigError(f"the option {name!r} would open the gate", "Remove it from mitm.conf and from --set")
    unknown = sorted(opts.deferred)
    for name in unknown:
        if name in _CLOSED:
            raise ConfigError(f"the option {name!r} would open the gate", "Remove it from mitm.conf and from --set")
    if unknown:
        near = difflib.get_close_matches(unknown[0], opts.keys(), n=1)
        hint = f"Is it {near[0]}?" if near else "See the table of options in the README"
        raise ConfigError(f"nobody declares the option {unknown[0]!r}, in {conf or 'mitm.conf'} or --set", hint)
    for spec in SPECS:
        value = getattr(opts, spec.name)
        if spec.path and value:
            opts.update(**{spec.name: str(base / value)})


def refuse_open_gate(opts: options.Options, *, scripts: bool = False) -> None:
    """ConfigError for an option of mitmproxy that would open the gate. `scripts`: the gateway itself runs as one."""
    for name in _CLOSED:
        if name not in opts or (scripts and name == "scripts"):
            continue
        closed = _OPEN_BY_DEFAULT.get(name, opts.default(name))
        if getattr(opts, name) != closed and opts.has_changed(name):
            raise ConfigError(f"the option {name!r} would open the gate", "Remove it from mitm.conf and from --set")
    for mode in opts.mode:
        if mode.partition("@")[0] != "regular":
            raise ConfigError(f"mode {mode!r} is not supported", "The gateway is a regular proxy: mode: [regular]")
    opts.update(connection_strategy="lazy", rawtcp=False, upstream_cert=False)


def size(text: str, option: str) -> int:
    """`32m`, `64k` as bytes; ConfigError otherwise."""
    units = {"k": 1024, "m": 1024**2, "g": 1024**3}
    number, unit = (text[:-1], units.get(text[-1:].lower(), 0)) if text and not text.isdigit() else (text, 1)
    if not (number.isascii() and number.isdigit() and len(number) <= 18) or not unit:
        raise ConfigError(f"{option} has to be a size such as 32m, not {text[:40]!r}")
    return int(number) * unit


def duration(text: str, option: str) -> float:
    """`30s`, `90d` in seconds; ConfigError otherwise."""
    try:
        return seconds(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def address(text: str, option: str) -> tuple[str, int]:
    """`127.0.0.1:8082` as a pair; ConfigError otherwise."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 <= int(port) < 65536:
        raise ConfigError(f"{option} has to be host:port, not {text!r}")
    return host.strip("[]"), int(port)
