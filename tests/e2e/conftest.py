"""One gateway before one strict AWS for every end-to-end test; a test that needs other rules starts a gateway of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.gateway import POLICY
from support.issuer import OidcIssuer
from support.way import Way

QUICK = {
    "id": "stop-needs-a-human-at-once",
    "effect": "approve",
    "actions": ["ec2:StopInstances"],
    "approvers": {"groups": ["sre"], "count": 1},
    "scope": "request",
    "hold": "1s",
    "expires": "2s",
    "on_timeout": "deny",
}
SIGNED = {"id": "signed", "effect": "allow", "groups": ["developers"], "hosts": ["signed.example.com"], "sign": True}
MODELS = {
    "id": "models",
    "effect": "allow",
    "groups": ["developers"],
    "actions": ["cloudwatch:PutMetricData", "bedrock:InvokeModel"],
}
VENDING = {
    "id": "vending",
    "effect": "allow",
    "groups": ["developers"],
    "actions": [
        "sso:GetRoleCredentials",
        "cognito-identity:GetCredentialsForIdentity",
        "ecr:GetDownloadUrlForLayer",
    ],
    "unsigned": True,
}


@pytest.fixture(scope="session")
def _way(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    policy = POLICY | {"rules": [*POLICY["rules"], QUICK, SIGNED, MODELS, VENDING]}
    with Way.opened(tmp_path_factory.mktemp("e2e"), issuer, policy=policy) as way:
        yield way


@pytest.fixture
def way(_way: Way) -> Iterator[Way]:
    """The shared way, with nothing scripted and nothing seen yet."""
    with _way.fresh() as way:
        yield way


@pytest.fixture(scope="session")
def alice(_way: Way) -> dict[str, str]:
    """A developer's session."""
    return _way.gateway.session(subject="alice")


@pytest.fixture(scope="session")
def bob(_way: Way) -> dict[str, str]:
    """Another developer's session."""
    return _way.gateway.session(subject="bob")


@pytest.fixture
def approver(issuer: OidcIssuer) -> str:
    """The token of somebody who may approve and is nobody's owner."""
    return issuer.token("carol", ("sre",), owner="carol")
