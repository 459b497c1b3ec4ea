"""What tests of held calls share: each module has a gateway with rules of its own, `_way`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.issuer import OidcIssuer
from support.way import Way


@pytest.fixture
def way(_way: Way) -> Iterator[Way]:
    """The module's way, with nothing scripted and nothing seen yet."""
    with _way.fresh() as way:
        yield way


@pytest.fixture
def env(way: Way) -> dict[str, str]:
    """A session of its own for each test: no question or grant of another test is in it."""
    return way.gateway.session(subject="alice")


@pytest.fixture
def carol(issuer: OidcIssuer) -> str:
    """The token of somebody who may answer and is nobody's owner."""
    return issuer.token("carol", ("sre",), owner=None)
