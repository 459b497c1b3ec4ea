"""mitmproxy masters with an allow-list of mitmproxy's addons and the chain; the web one is read-only. Both stop by draining."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

from mitmproxy import addonmanager, exceptions, hooks, http
from mitmproxy import flow as mflow
from mitmproxy import options as moptions
from mitmproxy.addons import (
    core,
    disable_h2c,
    errorcheck,
    eventstore,
    next_layer,
    proxyserver,
    termlog,
    tlsconfig,
    view,
)
from mitmproxy.master import Master
from mitmproxy.tools.web import app as webapp
from mitmproxy.tools.web import master as webmaster
from mitmproxy.tools.web import webaddons

from . import access
from .errors import traced
from .guard import Guard
from .sockets import STOPPING
from .wire import connections
from .wire.websocket import GOING_AWAY

logger = logging.getLogger("flowwarden")

WEB_FLOWS = 2000  # flows that the web view keeps; recordings keep all of them

_FIELDS: dict[type, tuple[str, ...]] = {}  # the arguments of each kind of hook


class TableAddonManager(addonmanager.AddonManager):
    """mitmproxy's manager with a table of hooks an event: half of a bare proxy's CPU is spent on looking them up."""

    def __init__(self, master: Master) -> None:
        super().__init__(master)
        self._table: dict[str, tuple[tuple[object, Callable[..., Any]], ...]] = {}
        self._updates: bool | None = None

    def register(self, addon: object) -> object:
        self._table.clear()
        self._updates = None
        return super().register(addon)

    def remove(self, addon: object) -> None:
        self._table.clear()
        self._updates = None
        super().remove(addon)

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        await self.trigger_event(event)
        if self._updates is None:
            self._updates = any(True for addon in self.chain for _ in self._iter_hooks(addon, hooks.UpdateHook([])))
        if self._updates:  # only the web view listens
            message = event.args()[0]
            if isinstance(message, mflow.Flow):
                await self.trigger_event(hooks.UpdateHook([message]))

    async def trigger_event(self, event: hooks.Hook) -> None:
        hooked = self._table.get(event.name)
        if hooked is None:
            found = [pair for addon in self.chain for pair in self._iter_hooks(addon, event)]
            hooked = self._table[event.name] = tuple(found)
        names = _FIELDS.get(type(event))
        if names is None:
            names = _FIELDS[type(event)] = tuple(field.name for field in dataclasses.fields(event))  # type: ignore[arg-type]
        args = [getattr(event, name) for name in names]
        for _addon, func in hooked:
            try:
                made = func(*args)
                if made is not None and inspect.isawaitable(made):
                    await made
            except exceptions.AddonHalt:
                return
            except exceptions.OptionsError:
                raise
            except Exception as crash:
                # The guard never raises; this is mitmproxy's own part, and the seal still stands behind it.
                logger.error("%s failed: %s\n%s", event.name, type(crash).__name__, traced(crash))


class FrozenOptions(moptions.Options):
    """The options of a gateway that runs: nothing may open the gate any more, and reading them copies nothing."""

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_frozen")
        if values is None:
            values = self.__dict__["_frozen"] = {key: option.current() for key, option in self._options.items()}
        try:
            return values[name]
        except KeyError:
            raise AttributeError(f"No such option: {name}") from None

    def update_known(self, **kwargs: Any) -> dict[str, Any]:
        raise exceptions.OptionsError(f"options are frozen while the gateway runs: {', '.join(kwargs)}")

    def reset(self) -> None:
        raise exceptions.OptionsError("options are frozen while the gateway runs")


class Draining:
    """A stop that lets calls under way finish: stop listening, wait for the guard to be idle, then shut down."""

    options: moptions.Options
    addons: TableAddonManager
    guard: Guard
    drain_seconds = 30.0
    _draining = False

    def freeze(self) -> None:
        object.__setattr__(
            self.options, "__class__", FrozenOptions
        )  # plain assignment would set an option of that name

    def stop(self) -> None:
        """First signal: drain. Second: stop at once (calls that are cut are recorded by their `error` hook)."""
        if self._draining:
            cast(Master, self).shutdown()
            return
        self._draining = True
        self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        server = self.addons.get("proxyserver")
        for instance in list(server.servers):
            await instance.stop()
        self.guard.sockets.end(STOPPING, GOING_AWAY)
        if self.guard.live:
            logger.info(
                "stopping: waiting up to %.0f s for %d calls under way", self.drain_seconds, len(self.guard.live)
            )
        try:
            await asyncio.wait_for(self.guard.idle.wait(), self.drain_seconds)
        except TimeoutError:
            logger.warning("stopping: %d calls were still under way and are cut", len(self.guard.live))
        for handler in list(server.connections.values()):
            await handler.on_timeout()  # closes the client's connection, so that its flows end in `error`
        try:
            await asyncio.wait_for(self.guard.idle.wait(), 2.0)
        except TimeoutError:
            pass
        cast(Master, self).shutdown()


def _base_addons() -> list[object]:
    connections.install()
    return [
        core.Core(),
        disable_h2c.DisableH2C(),
        proxyserver.Proxyserver(),
        next_layer.NextLayer(),
        tlsconfig.TlsConfig(),
        errorcheck.ErrorCheck(repeat_errors_on_stderr=True),
    ]


class DumpMaster(Draining, Master):
    """The gateway without a user interface."""

    def __init__(self, opts: moptions.Options) -> None:
        super().__init__(opts)
        self.addons: TableAddonManager = TableAddonManager(self)
        self.addons.add(termlog.TermLog(), *_base_addons())
        opts.add_option("web_host", str, "127.0.0.1", "Host of the web view; not used without --web.")
        opts.add_option("web_port", int, 8081, "Port of the web view; not used without --web.")
        opts.add_option("web_password", str, "", "Password of the web view; not used without --web.")
        opts.add_option("web_open_browser", bool, False, "Not used without --web.")

    def add_chain(self, guard: Guard) -> None:
        self.guard = guard
        self.addons.add(guard)
        guard.sockets.inject = self.addons.get("proxyserver").inject_event
        guard.inline = True  # nobody else here listens to the hooks of heads


class BoundedView(view.View):
    """mitmproxy's flow view, which would keep every flow for ever, with a cap."""

    def add(self, flows: Any) -> None:
        """What is asked of flowwarden.internal stays out: it holds tokens, handles and phantom keys."""
        flows = [flow for flow in flows if not (isinstance(flow, http.HTTPFlow) and access.of(flow).internal)]
        super().add(flows)
        if len(self._store) > WEB_FLOWS:
            ended = [flow for flow in list(self._store.values())[: len(self._store) - WEB_FLOWS] if not flow.live]
            self.remove(ended)


class WebMaster(Draining, webmaster.WebMaster):
    """The gateway with mitmweb's view of the flows. It shows; it cannot edit, replay, set options or run commands."""

    def __init__(self, opts: moptions.Options) -> None:
        Master.__init__(self, opts)
        self.addons: TableAddonManager = TableAddonManager(self)
        self.view = BoundedView()
        self.view.sig_view_add.connect(self._sig_view_add)
        self.view.sig_view_remove.connect(self._sig_view_remove)
        self.view.sig_view_update.connect(self._sig_view_update)
        self.view.sig_view_refresh.connect(self._sig_view_refresh)
        self.events = eventstore.EventStore()
        self.events.sig_add.connect(self._sig_events_add)
        self.events.sig_refresh.connect(self._sig_events_refresh)
        self.options.changed.connect(self._sig_options_update)
        self.addons.add(termlog.TermLog(), *_base_addons(), webaddons.WebAddon(), webaddons.WebAuth())
        self.app = read_only(webapp.Application(self, False))
        self.proxyserver = self.addons.get("proxyserver")
        self.proxyserver.servers.changed.connect(self._sig_servers_changed)

    def add_chain(self, guard: Guard) -> None:
        """The view comes after the chain: it sees a flow's comment and marker as the chain left them."""
        self.guard = guard
        guard.sockets.inject = self.addons.get("proxyserver").inject_event
        self.addons.add(guard, self.view, self.events)


def read_only(application: webapp.Application) -> webapp.Application:
    """Takes every handler method that changes anything out of mitmweb's application."""
    for cls in _handlers(webapp.RequestHandler):
        if cls is webapp.IndexHandler:
            continue  # its `post` is the login form
        for method in ("post", "put", "delete", "patch"):
            if hasattr(cls, method):
                setattr(cls, method, _refuse)
    for cls in (webapp.ProcessList, webapp.ProcessImage):
        setattr(cls, "get", _refuse)  # noqa: B010 - a method of somebody else's class, on purpose
    return application


def _handlers(cls: type[Any]) -> Iterator[type]:
    yield cls
    for sub in cls.__subclasses__():
        yield from _handlers(sub)


def _refuse(self: webapp.RequestHandler, *_args: object, **_kwargs: object) -> None:
    self.set_status(403)
    self.write({"error": "this view is read-only"})


__all__ = ["DumpMaster", "FrozenOptions", "TableAddonManager", "WebMaster", "read_only"]
