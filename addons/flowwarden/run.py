"""`flowwarden run`: master, chain, operators' listener and timers, from mitm.conf until a signal stops them."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mitmproxy import options as moptions

from . import __version__, build, chain, options, upkeep, yamlfile
from .errors import ConfigError
from .masking import stretches
from .master import DumpMaster, WebMaster
from .operators import api
from .services import Services

_YOUNG = 20_000  # objects that are made before a collection looks for circles among them: most are gone by then


async def run(conf: Path | None, sets: Sequence[str] = (), *, web: bool = False, announce: Any = print) -> int:
    """Runs the gateway until a signal stops it; ConfigError, RuleError or StoreError before it listens."""
    opts = moptions.Options()
    options.declare(opts)
    master: DumpMaster | WebMaster = WebMaster(opts) if web else DumpMaster(opts)
    options.load(opts, conf, sets)
    options.refuse_open_gate(opts)
    made = build.services(opts)
    try:
        code = await _serve(opts, master, made, announce, web)
    finally:
        await made.recorder.close()
    announce("flowwarden has stopped; every outcome is on disk")
    return code


async def _serve(
    opts: moptions.Options, master: DumpMaster | WebMaster, made: Services, announce: Any, web: bool
) -> int:
    opts.update(confdir=str(Path(opts.warden_state) / "ca"))
    master.drain_seconds = yamlfile.seconds(opts.warden_drain)
    master.add_chain(chain.guard(made))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, master.stop)
    _free(opts.listen_host or "", opts.listen_port or 8080)
    if web:
        _free(opts.web_host, opts.web_port)
    try:
        listener = api.serve(made.operators, opts.warden_admin_listen)
    except OSError as error:
        raise ConfigError(f"the operators' listener cannot use {opts.warden_admin_listen}: {error.strerror}") from None
    made.indexer.start()
    timers = [
        loop.create_task(job)
        for job in (upkeep.keep_rules(made), upkeep.expire(made), upkeep.retain(made, opts.warden_retention))
    ]
    assert made.anchors is not None
    made.anchors.start()
    warming = loop.run_in_executor(None, made.recogniser.warm)  # so that no call waits for its service's table
    ready = loop.create_task(_announce(opts, master, made, announce, web))
    try:
        await master.run()
    except SystemExit:
        raise ConfigError(
            f"the proxy cannot listen on {opts.listen_host or '*'}:{opts.listen_port or 8080}",
            "Is another gateway running there?",
        ) from None
    finally:
        for timer in (*timers, ready, warming):
            timer.cancel()
        listener.stop()
        made.repeats.flush(all=True)
        await made.anchors.stop()
        if made.notifier is not None:
            await asyncio.to_thread(made.notifier.close)
        await asyncio.to_thread(made.indexer.stop)
    return 0


def _free(host: str, port: int) -> None:
    """ConfigError if a port cannot be listened on: mitmproxy would say it in many lines, or with a traceback."""
    try:
        socket.create_server((host, port)).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{host or '*'}:{port} cannot be listened on: {reason}", "Is another gateway running there?"
        ) from None


async def _announce(
    opts: moptions.Options, master: DumpMaster | WebMaster, made: Services, announce: Any, web: bool
) -> None:
    server = master.addons.get("proxyserver")
    while not server.listen_addrs() or not (Path(opts.confdir) / build.CA).exists():  # noqa: ASYNC110 mitmproxy has no event
        await asyncio.sleep(0.01)
    host, port = server.listen_addrs()[0][:2]
    made.operators.proxy_url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104
    master.freeze()
    gc.collect()
    gc.freeze()  # models, rules and patterns live as long as the process: no collection need look at them again
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    announce(f"flowwarden {__version__} listens on {host}:{port}, operators on {opts.warden_admin_listen}")
    if web:
        announce(f"flows: {master.web_url}")  # type: ignore[union-attr]
    if made.sandbox:
        announce(f"sandbox: every AWS call goes to {made.sandbox.url}")
    await asyncio.to_thread(stretches.places, b"")  # loads what it needs before a call does
