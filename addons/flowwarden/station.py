"""What a station is, to the guard that asks it."""

from __future__ import annotations

from mitmproxy import http


class Station:
    """Base of the stations. Hooks are mitmproxy's, by name; a station that has none of a name is not asked."""

    name = ""


class Signer(Station):
    """The station that answers the wire when a request leaves."""

    def sign(self, flow: http.HTTPFlow) -> http.Request:
        raise NotImplementedError

    def dial(self, flow: http.HTTPFlow) -> tuple[tuple[str, int], bool]:
        raise NotImplementedError
