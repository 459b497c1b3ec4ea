"""The image and the compose file: what they promise can be read in them, and every name in them exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from mitmproxy import options as mitmproxy_options
from ruamel.yaml import YAML

from flowwarden import options
from flowwarden.cli import main, session

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((DEPLOY / "compose.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile's stages as lists of (instruction, rest)."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text()).replace("\\\n", " ")
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest.strip()))
    return found


def test_the_gateway_is_the_agents_only_neighbour(compose: dict[str, Any]) -> None:
    """The agents' network is internal, an agent is on no other one, and only the gateway is on both."""
    services, networks = compose["services"], compose["networks"]
    assert networks["agents"] == {"internal": True}
    members = {name for name, service in services.items() if "agents" in service["networks"]}
    assert members == {"gateway", "agent"}
    assert set(services["agent"]["networks"]) == {"agents"}
    assert set(services["gateway"]["networks"]) == {"agents", "outside"}
    for service in services.values():
        assert not {"network_mode", "links", "extra_hosts", "ports", "pid", "ipc", "volumes_from", "privileged"} & set(
            service
        )


def test_an_agent_shares_neither_volumes_nor_a_uid_with_the_gateway(compose: dict[str, Any]) -> None:
    gateway, agent = compose["services"]["gateway"], compose["services"]["agent"]
    assert not agent.get("volumes")
    assert gateway["user"] != agent["user"]
    assert not any("docker.sock" in mount for mount in gateway["volumes"])


def test_the_root_is_read_only_and_what_must_stay_is_in_volumes(compose: dict[str, Any]) -> None:
    gateway = compose["services"]["gateway"]
    assert gateway["read_only"] is True
    assert gateway["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in gateway["security_opt"]
    mounts = dict(mount.split(":", 1) for mount in gateway["volumes"])
    conf = YAML(typ="safe").load((DEPLOY / "mitm.conf").read_text())
    # The CA is in the state folder: a named volume, so it survives restarts.
    assert mounts["state"] == conf["warden_state"]
    assert mounts["recordings"] == conf["warden_recordings"]
    assert set(compose["volumes"]) == {"state", "recordings"}
    for source in set(mounts) - set(compose["volumes"]):
        assert mounts[source].endswith(":ro")
        assert (DEPLOY / source).exists(), source
    grace = int(gateway["stop_grace_period"].removesuffix("s"))
    drain = next(spec.default for spec in options.SPECS if spec.name == "warden_drain")
    assert grace > int(drain.removesuffix("s"))


def test_the_image_runs_as_nobody_special(stages: list[list[tuple[str, str]]], compose: dict[str, Any]) -> None:
    last = stages[-1]
    users = [rest for word, rest in last if word == "USER"]
    assert users == [compose["services"]["gateway"]["user"]]
    assert not users[0].startswith("0")
    after = [word for word, _ in last[[word for word, _ in last].index("USER") :]]
    assert "COPY" not in after and "RUN" not in after and "ADD" not in after
    volumes = next(rest for word, rest in last if word == "VOLUME")
    for folder in ("state", "recordings"):
        assert f"/var/lib/flowwarden/{folder}" in volumes


def test_every_name_in_the_dockerfile_exists(stages: list[list[tuple[str, str]]]) -> None:
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for word, rest in (item for stage in stages for item in stage):
        if word != "COPY" or "--from=" in rest:
            continue
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignore, f"{source} is not sent to the builder"
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    entry = next(rest for word, rest in stages[-1] if word == "ENTRYPOINT")
    assert [entry.strip('["]')] == list(scripts)
    python = next(rest for word, rest in stages[-1] if word == "FROM").removeprefix("python:").partition("-")[0]
    assert python == (ROOT / ".python-version").read_text().strip()


def test_the_images_options_are_accepted(tmp_path: Path) -> None:
    found = mitmproxy_options.Options()
    options.declare(found)
    options.load(found, DEPLOY / "mitm.conf", [])
    assert found.warden_admin_listen.startswith("127.0.0.1:"), "the operators' API is for the container only"


def test_the_scripts_parse(compose: dict[str, Any], tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", str(ROOT / ".ci/run")], check=True)
    assert os.access(ROOT / ".ci/run", os.X_OK)
    shell = compose["services"]["agent"]["entrypoint"]
    script = shell[-1].replace("$$", "$")
    # The agent's entry point with a stand-in for curl: the command that follows gets its arguments unchanged.
    fake = tmp_path / "curl"
    fake.write_text("#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done; touch made\n")
    fake.chmod(0o755)
    script = script.replace("/tmp/", f"{shlex.quote(str(tmp_path))}/")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    (tmp_path / session.GATEWAY_CA).write_text("gateway")
    command = [*shell[:-1], script, "printf", "%s|", "a b", "c"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "a b|c|"
    assert (tmp_path / session.BUNDLE).read_text().endswith("gateway")


def test_the_commands_in_the_comments_exist() -> None:
    """Every `flowwarden …` of compose.yaml's comments, with its options."""
    text = re.sub(r"(?m)^\s*# ?", "", (DEPLOY / "compose.yaml").read_text().partition("\nname:")[0]).replace(
        "\\\n", " "
    )
    lines = [
        line.partition(" flowwarden ")[2].partition("<")[0] for line in text.splitlines() if " flowwarden " in line
    ]
    assert lines
    for line in lines:
        words = shlex.split(line)
        command: click.Command = main
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
