"""Fixtures that every test may ask for. What they hand out lives in tests/support."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from support import tools
from support.certs import Authority
from support.gateway import GatewayProcess
from support.issuer import OidcIssuer
from support.strict_aws import StrictAws

settings.register_profile(
    "flowwarden", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("flowwarden")

# A machine's own settings must not decide what a test sees.
for _name in [
    name
    for name in os.environ
    if name.startswith(("AWS_", "FLOWWARDEN_")) and name not in {"FLOWWARDEN_CACHE", "FLOWWARDEN_SOAK"}
]:
    del os.environ[_name]
for _name in (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
):
    os.environ.pop(_name, None)
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of the tests' own."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def issuer() -> Iterator[OidcIssuer]:
    """An OIDC issuer for tests that do not change it; make one of your own otherwise."""
    with OidcIssuer() as made:
        yield made


@pytest.fixture
def strict_aws() -> Iterator[StrictAws]:
    """A strict AWS over plain http."""
    with StrictAws() as server:
        yield server


@pytest.fixture(scope="session")
def aws_cli(tmp_path_factory: pytest.TempPathFactory) -> tools.AwsCli:
    """The AWS CLI in an environment of its own; installs it on first use."""
    return tools.AwsCli(tools.aws_cli(), tmp_path_factory.mktemp("cli-home"))


@pytest.fixture(scope="session")
def node_sdk(tmp_path_factory: pytest.TempPathFactory) -> tools.NodeSdk:
    """The JavaScript SDK v3; installs it on first use."""
    return tools.NodeSdk(tools.node_folder(), tmp_path_factory.mktemp("node-home"))


StartGateway = Callable[..., GatewayProcess]


@pytest.fixture
def start_gateway(tmp_path: Path, issuer: OidcIssuer) -> Iterator[StartGateway]:
    """Starts gateways that are stopped at the end: start_gateway(sandbox=aws.url, policy=…, options=…)."""
    made: list[GatewayProcess] = []

    def start(**options: Any) -> GatewayProcess:
        folder = options.pop("folder", tmp_path / f"gateway-{len(made)}")
        gateway = GatewayProcess(folder, options.pop("issuer", issuer), **options)
        made.append(gateway)
        return gateway.start()

    yield start
    for gateway in made:
        if gateway.process and gateway.returncode is None:
            gateway.stop()
