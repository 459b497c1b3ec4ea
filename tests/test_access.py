"""The register of what is known beside a flow: it keeps nothing alive, least of all a credential."""

from __future__ import annotations

import gc
from weakref import ref

from mitmproxy.test import tflow

from flowwarden import access


def test_nothing_is_known_of_a_client_that_is_gone() -> None:
    client = tflow.tclient_conn()
    tunnel = access.tunnel(client)
    tunnel.credential = "a credential"
    assert access.tunnel(client) is tunnel
    gone = ref(tunnel)
    del client, tunnel
    gc.collect()
    assert gone() is None


def test_each_client_has_a_tunnel_of_its_own() -> None:
    """Clients that are alike, too: one is asked for after the other."""
    one, other = tflow.tclient_conn(), tflow.tclient_conn()
    access.tunnel(one).credential = "of one"
    assert access.tunnel(other).credential == ""
    assert access.tunnel(one).credential == "of one"


def test_nothing_is_known_of_a_flow_that_is_gone() -> None:
    flow = tflow.tflow()
    gone = ref(access.of(flow))
    assert gone() is access.of(flow)
    del flow
    gc.collect()
    assert gone() is None
