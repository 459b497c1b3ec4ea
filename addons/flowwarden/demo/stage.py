"""The demo's stage: files, processes and the programs that a user would call."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from .cloud import REGION, free_port
from .issuer import AUDIENCE, Issuer

ACCOUNT = "123456789012"  # moto's own
HOLD = "12s"
PROGRAM = Path(sys.executable).parent / "flowwarden"


class Stage:
    """One gateway in a folder of its own, with the shipped rules as far as they go."""

    def __init__(self, stack: ExitStack, folder: Path, shipped: Path, issuers: list[Issuer], sandbox: str) -> None:
        self.folder = folder
        self.port, self.admin = free_port(), free_port()
        self.proxy = f"http://127.0.0.1:{self.port}"
        self.seen: list[str] = []  # everything an agent printed
        _write_rules(folder, shipped, issuers)
        (folder / "mitm.conf").write_text(
            f"listen_host: 127.0.0.1\nlisten_port: {self.port}\n"
            f"warden_admin_listen: 127.0.0.1:{self.admin}\nwarden_sandbox: {sandbox}\n"
        )
        self._log = stack.enter_context((folder / "gateway.log").open("wb"))
        self.gateway = subprocess.Popen(
            [str(PROGRAM), "run", "--conf", str(folder / "mitm.conf")],
            cwd=folder,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        stack.callback(self.stop)

    def wait(self) -> None:
        """Until /health says ready."""
        end = time.monotonic() + 60
        while time.monotonic() < end and self.gateway.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)
        raise RuntimeError(f"the gateway did not start:\n{(self.folder / 'gateway.log').read_text()}")

    def stop(self) -> None:
        if self.gateway.poll() is None:
            self.gateway.send_signal(signal.SIGTERM)
            self.gateway.wait(45)

    def program(self, *arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
        """`flowwarden` as a user calls it."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "COLUMNS": os.environ.get("COLUMNS", "150"),
            "FLOWWARDEN_URL": f"http://127.0.0.1:{self.admin}",
            "FLOWWARDEN_PROXY": self.proxy,
            "FLOWWARDEN_RECORDINGS": str(self.folder / "recordings"),
            "FLOWWARDEN_HOME": str(self.folder / "agent"),
            **({"FLOWWARDEN_TOKEN": token} if token else {}),
        }
        return subprocess.run(
            [str(PROGRAM), *arguments],
            env=env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def session(self, token: str) -> dict[str, str]:
        """The environment of a new session, as `session start` prints it for containers."""
        done = self.program("session", "start", "--format", "docker", "--region", REGION, token=token)
        if done.returncode:
            raise RuntimeError(f"session start: {done.stderr}")
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def agent(self, env: Mapping[str, str], *arguments: str, line: Callable[[str], None]) -> subprocess.Popen[str]:
        """Starts the agent with a session's environment and nothing else of ours; `line` gets each line it prints."""
        import threading

        home = self.folder / "agent"
        own = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **env}
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("agent.py")), *arguments],
            env=own, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

        def read() -> None:
            assert process.stdout is not None
            for text in process.stdout:
                self.seen.append(text)
                line(text.rstrip("\n"))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        process.reader = reader  # type: ignore[attr-defined]
        return process

    def open_approval(self, token: str, resource: str) -> str:
        """Waits until a question about a resource is open; its id."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            done = self.program("approvals", "list", "--json", token=token)
            for row in json.loads(done.stdout) if done.returncode == 0 else []:
                if resource in json.dumps(row):
                    return str(row.get("approval") or row.get("id"))
            time.sleep(0.1)
        raise RuntimeError(f"nobody asked about {resource}")


def _write_rules(folder: Path, shipped: Path, issuers: list[Issuer]) -> None:
    """The shipped policy and masks; identities are the demo's own, and held calls wait less long."""
    rules = folder / "rules"
    shutil.copytree(shipped / "rules", rules)
    entries = "".join(
        f"  - issuer: {issuer.url}\n    audience: {AUDIENCE}\n    algorithms: [RS256]\n    max_lifetime: 12h\n"
        for issuer in issuers
    )
    (rules / "identity.yaml").write_text(
        f"issuers:\n{entries}"
        "sessions:\n  ttl: 1h\n  max: 12h\n"
        "credentials:\n  - groups: [developers, sre]\n"
        f"    assume_role: arn:aws:iam::{ACCOUNT}:role/agent-developer\n"
        f'    accounts: ["{ACCOUNT}"]\n    duration: 15m\n'
        "roles:\n  approver: {groups: [sre]}\n  viewer: {groups: [audit]}\n  admin: {groups: [platform]}\n"
    )
    policy = (rules / "policy.yaml").read_text()
    held = re.sub(
        r"(  - id: terminate-needs-a-human\n(?:    .*\n)*?    approvers: .*\n)(?:    hold: .*\n)?",
        rf"\1    hold: {HOLD}\n",
        policy,
    )
    (rules / "policy.yaml").write_text(held)
    masks = (rules / "masks.yaml").read_text()
    (rules / "masks.yaml").write_text(
        re.sub(r"(- id: card-number\n(?:    .*\n)*?    groups:) \[\]", r"\1 [developers]", masks)
    )
