"""The layers beneath the addons: seal and sign where a request leaves, answer at once, cut, hold the tail, dial.

The only folder that touches `mitmproxy.proxy.layers`. It subclasses mitmproxy's HTTP layers (pinned to 12.2.*) and is
installed from the `next_layer` hook. It decides nothing: every question goes to the `Gate`.
"""

from __future__ import annotations

from collections.abc import Iterator

from mitmproxy.proxy import layer
from mitmproxy.proxy.layers import ClientTLSLayer, HttpLayer, ServerTLSLayer

from .connections import unsent
from .gate import Gate, Spool, misframed
from .layers import ClosedLayer, WireLayer
from .stream import WireStream
from .websocket import EndWebsocket


def install(next_layer: layer.NextLayer, gate: Gate) -> bool:
    """Turns the layer that mitmproxy chose into the gateway's. False: it is no HTTP or TLS layer, and is closed."""
    chosen = next_layer.layer
    if chosen is None:
        return True  # mitmproxy wants more bytes before it chooses
    for part in _stack(chosen):
        if type(part) is HttpLayer:
            part.__class__ = WireLayer
            part.gate = gate  # type: ignore[attr-defined]
        elif not isinstance(part, (WireLayer, ClientTLSLayer, ServerTLSLayer, layer.NextLayer)):
            next_layer.layer = ClosedLayer(next_layer.context)
            return False
    return True


def _stack(top: layer.Layer) -> Iterator[layer.Layer]:
    part: layer.Layer | None = top
    while part is not None:
        yield part
        part = getattr(part, "child_layer", None)


__all__ = ["ClosedLayer", "EndWebsocket", "Gate", "Spool", "WireLayer", "WireStream", "install", "misframed", "unsent"]
