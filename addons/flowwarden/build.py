"""From mitm.conf to a gateway that runs: services, chain, master, operators' listener, timers."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mitmproxy import ctx, exceptions
from mitmproxy import options as moptions
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import layer

from . import __version__, chain, options, yamlfile
from .approval import notify
from .approval.notify import Notifier
from .approval.spool import Spools
from .approval.store import Approvals
from .connect import addresses
from .credentials import denies, phantoms
from .credentials import rules as credential_rules
from .credentials.vault import Vault
from .errors import ConfigError, FlowwardenError, RuleError
from .guard import Guard
from .identity import rules as identity_rules
from .identity.tokens import Verifier
from .masking import rules as mask_rules
from .masking.rules import MaskRules
from .master import DumpMaster, WebMaster
from .operators import api
from .operators.services import Services as OperatorServices
from .policy.watch import Rules
from .recognition.recogniser import Recogniser
from .recording import records
from .recording.anchor import Anchors, from_option
from .recording.indexer import Indexer
from .recording.recorder import Recorder
from .services import Services, sandbox
from .sessions.store import SessionStore
from .types import Session
from .wire import connections
from .wire.memory import Memory

log = logging.getLogger("flowwarden")

RELOAD_SECONDS = 0.5
CA = "mitmproxy-ca-cert.pem"


def services(opts: moptions.Options) -> Services:
    """Every part that the stations share. Nothing is half-made: an error leaves no lock and no thread behind."""
    rules_folder, state = Path(opts.warden_rules), Path(opts.warden_state)
    options.address(opts.warden_admin_listen, "warden_admin_listen")
    box = sandbox(opts.warden_sandbox, opts.warden_sandbox_host)
    limit = options.size(opts.warden_body_limit, "warden_body_limit")
    memory = _memory(opts, limit)
    spool_limit = options.size(opts.warden_spool_limit, "warden_spool_limit")
    private = addresses.networks(opts.warden_private_networks)
    for name in ("warden_drain", "warden_retention"):
        options.duration(getattr(opts, name) or "0s", name)
    ports = _ports(opts.warden_ports)
    if opts.warden_signing_key and not Path(opts.warden_signing_key).parent.is_dir():
        raise ConfigError(f"warden_signing_key: there is no folder {Path(opts.warden_signing_key).parent}")
    rules = Rules(rules_folder)
    identity = identity_rules.load(rules_folder / "identity.yaml")
    lending = credential_rules.load(rules_folder / "identity.yaml")
    masks = mask_rules.load(rules_folder / "masks.yaml")
    private_folder(state)
    recogniser = Recogniser()
    _name_hosts(recogniser, rules)
    indexer = Indexer(Path(opts.warden_recordings))
    recorder = Recorder.open(
        Path(opts.warden_recordings),
        state,
        configuration={
            "version": __version__,
            "policy": rules.current.digest,
            "identity": identity.digest,
            "masks": masks.digest,
            "sandbox": box.url if box else "",
        },
        key=Path(opts.warden_signing_key) if opts.warden_signing_key else None,
        committed=indexer.wake,
    )
    try:
        sessions = SessionStore.open(state, rules=identity.sessions, mint=phantoms.mint)
        approvals = Approvals.open(state)
        verifier = Verifier(identity)
        operators = OperatorServices(
            verifier=verifier,
            sessions=sessions,
            approvals=approvals,
            roles=identity.roles,
            ca_pem=state / "ca" / CA,
            version=__version__,
            record=recorder.note,
            mask=_mask_of_all(masks),
        )
        operators.attach()
        vault = Vault(
            lending,
            sandbox_url=box.url if box else None,
            denies=lambda principal: denies.compiled(
                rules.current.rules, principal, closed=rules.current.default == "deny"
            ),
            note=lambda kind, record: _note_lease(recorder, kind, record),
        )
        notifying = notify.load(rules_folder / "identity.yaml")
        notifier = Notifier(notifying, mask=_mask_of_all(masks))
        approvals.listen(notifier.tell)
    except BaseException:
        recorder.close_now()
        raise
    made = Services(
        identity=identity,
        verifier=verifier,
        sessions=sessions,
        recogniser=recogniser,
        rules=rules,
        approvals=approvals,
        vault=vault,
        masks=masks,
        recorder=recorder,
        indexer=indexer,
        operators=operators,
        sandbox=box,
        private_networks=private,
        ports=ports,
        http2_hosts=tuple(opts.warden_http2_hosts),
        body_limit=limit,
        memory=memory,
        spools=Spools(state, spool_limit),
        is_aws_host=lambda host: recogniser.hosts.find(host) is not None,
        mask_key=secrets.token_bytes(32),
    )
    made.notifier = notifier
    approvals.listen(made.running.tell)
    for lost in approvals.recover():
        _alarm(made, "approval", f"approval {lost.id} was used by a call whose outcome is unknown")
    anchor = from_option(opts.warden_anchor)
    made.anchors = Anchors(recorder, [anchor] if anchor else [])
    sessions.on_ended(lambda session, _reason: _forget(made, session))
    operators.public_url = notifying.link
    operators.health = lambda: health(made)
    operators.metrics = lambda: metrics(made)
    for alarm in rules.current.alarms:
        _alarm(made, "rules", alarm)
    return made


def _note_lease(recorder: Recorder, kind: str, record: dict[str, Any]) -> None:
    expires = record.pop("expires", None)
    recorder.note("session", {"event": kind, **record, **({"expires": int(expires)} if expires else {})})


def _name_hosts(recogniser: Recogniser, rules: Rules) -> None:
    """Endpoints of AWS that anybody can own (execute-api, Lambda URLs) count as AWS where a rule names them exactly."""
    named = rules.current.hosts_exact()
    recogniser.extra_hosts = frozenset(host for host in named if recogniser.hosts.find(host) is not None)


def _forget(made: Services, session: Session) -> None:
    """A session has ended: nothing of it stays in memory."""
    made.vault.forget(session.id)
    made.issued.forget(session.id)
    made.masked_objects.forget(session.id)
    made.copies.forget(session.id)


def _mask_of_all(masks: MaskRules) -> Callable[[str], str]:
    """Every mask that there is: a notification goes to people of whom the rules know nothing."""
    groups = frozenset(group for mask in masks.masks for group in mask.groups or ())
    return masks.for_groups(groups).mask_text


def health(made: Services) -> dict[str, Any]:
    """What /health answers: ready, and why not; alarms that an operator has to hear of."""
    anchors = made.anchors.problem if made.anchors is not None else ""
    problems = [text for text in (made.recorder.problem, made.rules.alarm, anchors, made.indexer.problem) if text]
    return {
        "ready": made.recorder.ready,
        "problems": problems,
        "rules": made.rules.current.digest,
        "sandbox": bool(made.sandbox),
    }


def tell(made: Services, before: list[str]) -> list[str]:
    """Logs problems that are new, and those that are over; what there is now."""
    now: list[str] = health(made)["problems"]
    for text in now:
        if text not in before:
            log.warning("problem: %s", text)  # no error: mitmproxy would stop at one while it starts
    for text in before:
        if text not in now:
            log.info("over: %s", text)
    return now


def metrics(made: Services) -> str:
    """Prometheus text: calls by how they ended."""
    lines = ["# TYPE flowwarden_calls_total counter"]
    for (decision, ending), count in sorted(made.counts.items()):
        lines.append(f'flowwarden_calls_total{{decision="{decision}",outcome="{ending}"}} {count}')
    lines += ["# TYPE flowwarden_ready gauge", f"flowwarden_ready {int(made.recorder.ready)}"]
    lines += ["# TYPE flowwarden_sessions gauge", f"flowwarden_sessions {len(made.sessions.list())}"]
    return "\n".join(lines) + "\n"


async def run(conf: Path | None, sets: Sequence[str] = (), *, web: bool = False, announce: Any = print) -> int:
    """Runs the gateway until a signal stops it; ConfigError, RuleError or StoreError before it listens."""
    opts = moptions.Options()
    options.declare(opts)
    master: DumpMaster | WebMaster = WebMaster(opts) if web else DumpMaster(opts)
    options.load(opts, conf, sets)
    options.refuse_open_gate(opts)
    made = services(opts)
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
    timers = [loop.create_task(job) for job in (_keep_rules(made), _expire(made), _retain(made, opts.warden_retention))]
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
    while not server.listen_addrs() or not (Path(opts.confdir) / CA).exists():  # noqa: ASYNC110 mitmproxy has no event
        await asyncio.sleep(0.01)
    host, port = server.listen_addrs()[0][:2]
    made.operators.proxy_url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104
    master.freeze()
    gc.collect()
    gc.freeze()  # models, rules and patterns live as long as the process: no collection need look at them again
    announce(f"flowwarden {__version__} listens on {host}:{port}, operators on {opts.warden_admin_listen}")
    if web:
        announce(f"flows: {master.web_url}")  # type: ignore[union-attr]
    if made.sandbox:
        announce(f"sandbox: every AWS call goes to {made.sandbox.url}")


async def _keep_rules(made: Services) -> None:
    """Takes up changed rules; a set that does not check leaves the last good one, and is an alarm."""
    alarm = ""
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        if await asyncio.to_thread(made.rules.reload_if_changed):
            _name_hosts(made.recogniser, made.rules)
            log.info("rules taken up: %s", made.rules.current.digest)
            made.note("rules", records.rules_event(made.rules.current.digest))
            for text in made.rules.current.alarms:
                _alarm(made, "rules", text)
        if made.rules.alarm != alarm:
            alarm = made.rules.alarm
            if alarm:
                _alarm(made, "rules", alarm)


async def _expire(made: Services) -> None:
    """Ends sessions and questions at their time, whether anybody asks or not; tells the log what health knows."""
    problems: list[str] = []
    while True:
        await asyncio.sleep(1.0)
        problems = tell(made, problems)
        try:
            await asyncio.to_thread(made.approvals.expire)
            made.sessions.expire()
            made.repeats.flush()
        except FlowwardenError as error:
            log.error("%s", error)


async def _retain(made: Services, keep: str) -> None:
    """Removes what is older than `warden_retention`, at start and every hour; the record of it stays."""
    while keep:
        try:
            count = await made.recorder.expire(yamlfile.seconds(keep))
            if count:
                log.info("retention: %d files removed", count)
        except FlowwardenError as error:
            log.error("retention: %s", error)
        await asyncio.sleep(3600)


def _alarm(made: Services, kind: str, message: str) -> None:
    log.warning("alarm: %s", message)  # no error: mitmproxy would stop at one while it starts
    made.note("alarm", records.alarm(kind, message))


def _memory(opts: moptions.Options, body_limit: int) -> Memory:
    """How much of bodies is held at once; ConfigError for bounds under which a body that is allowed would never pass."""
    names = ("warden_session_memory", "warden_memory")
    session, whole = (options.size(getattr(opts, name), name) for name in names)
    if not body_limit <= session <= whole:
        raise ConfigError(
            "warden_body_limit, warden_session_memory and warden_memory have to rise",
            "One body of a session has to fit into its share, and that into the whole",
        )
    return Memory(session, whole)


def _ports(texts: Sequence[str]) -> frozenset[int]:
    if not texts or not all(text.isdigit() and 0 < int(text) < 65536 for text in texts):
        raise ConfigError(f"warden_ports has to be a list of port numbers, not {list(texts)!r}")
    return frozenset(int(text) for text in texts)


def private_folder(path: Path) -> None:
    """A folder that nobody else can read; ConfigError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(path, 0o700)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be made: {error.strerror}", "warden_state has to name a folder of the gateway's own"
        ) from None


class Script(Guard):
    """The chain for `mitmdump -s addons/gateway.py`. Until it is built it has no signer, so nothing passes."""

    def __init__(self) -> None:
        super().__init__((), body_limit=0)
        self._built: Services | None = None
        self._building = False

    def load(self, loader: Loader) -> None:
        connections.install()  # bodies that waited on disk leave at upstream's pace
        for spec in options.SPECS:
            loader.add_option(spec.name, spec.kind, spec.default, spec.help)

    def configure(self, updated: set[str]) -> None:
        if self._building:
            return
        self._building = True  # setting options below configures again
        log.warning(
            "flowwarden: running as a script is for development; use `flowwarden run` in front of anything real"
        )
        try:
            options.refuse_open_gate(ctx.options, scripts=True)
            made = self._built = services(ctx.options)
        except (ConfigError, RuleError, FlowwardenError) as error:
            raise exceptions.OptionsError(f"flowwarden: {error}") from None
        if made.sandbox is None:
            made.vault.refuse = "running as a script, the gateway lends real credentials to nobody: set warden_sandbox"
        whole = chain.guard(made)
        self.__dict__.update(whole.__dict__)
        self._built = made
        self.sockets.inject = ctx.master.addons.get("proxyserver").inject_event

    def next_layer(self, data: layer.NextLayer) -> None:
        """Scripts come before mitmproxy's own choice of layers, and the wire has to come after it."""
        ctx.master.addons.get("nextlayer").next_layer(data)
        super().next_layer(data)

    async def running(self) -> None:
        assert self._built is not None
        self._timers = [asyncio.create_task(_keep_rules(self._built)), asyncio.create_task(_expire(self._built))]
        self._built.indexer.start()
        self._listener = api.serve(self._built.operators, ctx.options.warden_admin_listen)

    def done(self) -> None:
        if self._built is not None:
            self._built.indexer.stop()
            self._built.recorder.close_now()
