"""API.md agrees with the code: every path is in it, and it promises none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import flowwarden.operators
from flowwarden.approval.notify import EVENTS
from flowwarden.operators import api, internal

DOCS = (Path(flowwarden.operators.__file__).parent / "API.md").read_text(encoding="utf-8")


def test_every_path(world: Any) -> None:
    told = set(re.findall(r"`(?:GET |POST |DELETE )?(/[a-z./<>]*)", DOCS))
    app = api.make_app(world.services)
    paths = {rule.matcher.regex.pattern.rstrip("$") for rule in app.wildcard_router.rules}
    paths = {re.sub(r"\(\[A-Za-z0-9-\]\{1,64\}\)", "<id>", path) for path in paths} - {r"/page/(approvals\.(?:js|css))"}
    paths |= {"/page/approvals.js", "/page/approvals.css", "/approvals/<id>"}
    paths |= {path for _, path in internal._ROUTES}
    assert told == paths


def test_every_event_and_state() -> None:
    for event in (*EVENTS, "joined", "stated", "answered"):
        assert re.search(rf"\b{event}\b", DOCS), event
