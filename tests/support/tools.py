"""Other people's clients, each in an environment of its own outside the checkout: the AWS CLI and the JavaScript SDK.

FLOWWARDEN_CACHE names the folder (default: ~/.cache/flowwarden). What is there is used again; versions are pinned.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

AWS_CLI = "1.46.2"
NODE_FOLDER = Path(__file__).parents[1] / "node"


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FLOWWARDEN_CACHE") or Path(base) / "flowwarden")


def _once(folder: Path, install: Callable[[Path], None]) -> Path:
    """Makes a folder once, also with several test processes at a time; half-made ones are made again."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
            (folder / ".complete").touch()
    return folder


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


def aws_cli() -> Path:
    """The AWS CLI's program, from PyPI into a virtual environment of its own."""

    def install(folder: Path) -> None:
        _run(sys.executable, "-m", "venv", folder)
        _run(folder / "bin/python", "-m", "pip", "install", "-q", f"awscli=={AWS_CLI}")

    return _once(cache() / f"awscli-{AWS_CLI}", install) / "bin/aws"


def node_folder() -> Path:
    """A folder with tests/node and its packages from npm installed."""
    if not shutil.which("npm"):
        raise RuntimeError("these tests need Node.js 20 or newer with npm (Debian: apt-get install nodejs npm)")
    sources = sorted(path for path in NODE_FOLDER.iterdir() if path.suffix in {".json", ".mjs"})
    digest = hashlib.sha256((NODE_FOLDER / "package.json").read_bytes()).hexdigest()[:16]

    def install(folder: Path) -> None:
        folder.mkdir()
        shutil.copy(NODE_FOLDER / "package.json", folder)
        _run("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error", cwd=folder)

    folder = _once(cache() / f"node-{digest}", install)
    for source in sources:
        target = folder / source.name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copy(source, target)
    return folder


def agent_environment(env: Mapping[str, str], home: Path) -> dict[str, str]:
    """What an agent's container has: a path, a home without settings, and the session's environment."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        **env,
    }


class AwsCli:
    """Runs the AWS CLI with a session's environment."""

    def __init__(self, program: Path, home: Path) -> None:
        self.program = program
        self.home = home

    def __call__(
        self, env: Mapping[str, str], *arguments: str, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(self.program), *arguments],
            env=agent_environment(env, self.home),
            input=stdin if stdin is not None else b"",
            capture_output=True,
            check=False,
            timeout=120,
        )


class NodeSdk:
    """Runs calls with the JavaScript SDK: a list of {client, command, input} gives a list of {ok…} or {error…}."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home

    def __call__(self, env: Mapping[str, str], *calls: Mapping[str, Any]) -> list[dict[str, Any]]:
        done = subprocess.run(
            ["node", "aws.mjs"],
            cwd=self.folder,
            env=agent_environment(env, self.home),
            input=json.dumps(calls).encode(),
            capture_output=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        return answers
