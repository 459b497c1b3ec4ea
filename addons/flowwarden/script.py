"""`mitmdump -s addons/gateway.py`: the same chain in somebody else's master, for development."""

from __future__ import annotations

import asyncio
import logging

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import layer

from . import build, chain, options, upkeep
from .errors import ConfigError, FlowwardenError, RuleError
from .guard import Guard
from .operators import api
from .services import Services
from .wire import connections

log = logging.getLogger("flowwarden")


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
            made = self._built = build.services(ctx.options)
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
        self._timers = [
            asyncio.create_task(upkeep.keep_rules(self._built)),
            asyncio.create_task(upkeep.expire(self._built)),
        ]
        self._built.indexer.start()
        self._listener = api.serve(self._built.operators, ctx.options.warden_admin_listen)

    def done(self) -> None:
        if self._built is not None:
            self._built.indexer.stop()
            self._built.recorder.close_now()
