"""The gateway with the shipped masks before a strict AWS, for what only real clients can judge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from masking_tools import SHIPPED

from support.gateway import GatewayProcess
from support.issuer import OidcIssuer
from support.strict_aws import StrictAws
from support.way import Way

POLICY = {
    "default": "deny",
    "rules": [{"id": "all", "effect": "allow", "groups": ["developers"], "actions": ["*"]}],
}


@pytest.fixture(scope="session")
def _masked_way(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    with StrictAws(open_sts=True) as aws:
        folder = tmp_path_factory.mktemp("masking")
        rules = SHIPPED.read_text()
        with GatewayProcess(folder, issuer, sandbox=aws.url, policy=POLICY, masks=rules) as gateway:  # type: ignore[arg-type]
            yield Way(aws, gateway, issuer)


@pytest.fixture
def masked_way(_masked_way: Way) -> Iterator[Way]:
    """The shared way, with nothing scripted and nothing seen yet."""
    _masked_way.aws.forget()
    yield _masked_way
    _masked_way.aws.forget()
    assert "Traceback" not in _masked_way.gateway.text, _masked_way.gateway.text


@pytest.fixture(scope="session")
def masked_agent(_masked_way: Way) -> dict[str, str]:
    """A developer's session."""
    return _masked_way.gateway.session()
