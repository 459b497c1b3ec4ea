"""The short way of an event into an open CONNECT tunnel, past the layers around it."""

from __future__ import annotations

from weakref import WeakValueDictionary

from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import ClientTLSLayer, HttpLayer

from .gate import Commands, without_bytes

# A tunnel knows its client, so its layer alone keeps it: what is kept from here would never go.
TUNNELS: WeakValueDictionary[Client, Tunnel] = WeakValueDictionary()


class Tunnel:
    """What lies inside an open CONNECT tunnel. Nothing around it changes a byte any more, so events go there directly.

    Around it are the mode's layer, the HTTP layer that took the CONNECT, its HTTP/1 connection and its stream: each would
    wrap, route and unwrap every event and command, which is a sixth of what a small call costs.
    """

    def __init__(self, outer: HttpLayer, inner: layer.Layer) -> None:
        self.outer = outer
        self.inner = inner

    def takes(self, event: events.Event) -> bool:
        """Not the completion of what was begun on the long way."""
        return not isinstance(event, events.CommandCompleted) or event.command not in self.outer.command_sources

    def commands(self, event: events.Event) -> Commands:
        """What the inner layers want done, in the form in which it would have come out on the long way."""
        for command in self.inner.handle_event(event):
            if type(command) is commands.CloseTcpConnection:
                yield commands.CloseConnection(command.connection)  # a tunnel knows no half-closed connection
                continue
            if isinstance(command, commands.Log):
                command.message = without_bytes(command.message)
            yield command


def opened(outer: HttpLayer, inner: layer.Layer) -> None:
    """A CONNECT was answered and its connection is a pipe now."""
    if not any(isinstance(each, ClientTLSLayer) for each in outer.context.layers):
        made = Tunnel(outer, inner)  # with TLS to the proxy, that layer still has to decrypt
        vars(outer)["tunnel"] = made
        TUNNELS[outer.context.client] = made
