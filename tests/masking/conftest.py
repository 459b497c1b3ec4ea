"""The gateway with the shipped masks before a strict AWS, for what only real clients can judge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from masking_tools import EVERYTHING, SHIPPED

from support.issuer import OidcIssuer
from support.way import Way


@pytest.fixture(scope="session")
def _masked_way(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    with Way.opened(tmp_path_factory.mktemp("masking"), issuer, policy=EVERYTHING, masks=SHIPPED.read_text()) as way:
        yield way


@pytest.fixture
def masked_way(_masked_way: Way) -> Iterator[Way]:
    """The shared way, with nothing scripted and nothing seen yet."""
    with _masked_way.fresh() as way:
        yield way


@pytest.fixture(scope="session")
def masked_agent(_masked_way: Way) -> dict[str, str]:
    """A developer's session."""
    return _masked_way.gateway.session()
