"""The demo's script: what happens, in which order, and what has to come of it. Exit 0 only if all of it came so."""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from oidc_provider_mock import User

from ..cli.common import console
from ..cli.gateway import shipped
from .cloud import Moto, Tap, furnish
from .issuer import Issuer
from .stage import Stage

USERS = (
    User(
        sub="dev@example.com",
        claims={"name": "Dev", "groups": ["developers", "secrets-readers"], "owner": "owner@example.com"},
    ),
    User(sub="other@example.com", claims={"name": "Other", "groups": ["developers"]}),
    User(sub="sre@example.com", claims={"name": "Sre", "groups": ["sre"]}),
)
CARD = "4111 1111 1111 1111"  # the card networks' published test number


class Demo:
    """Prints each thing as it happens, and remembers what did not come out."""

    def __init__(self) -> None:
        self.console = console()
        self.failed: list[str] = []
        self.lines: dict[str, str] = {}

    def title(self, text: str) -> None:
        self.console.rule(f"[bold]{text}", align="left")

    def line(self, text: str) -> None:
        """A line that the agent printed."""
        step, _, result = text.partition(" | ")
        self.lines[step] = result
        self.console.print(f"  [cyan]agent[/] {_safe(step)}", end="")
        self.console.print(f"  {_safe(result[:260])}", style="dim", markup=False)

    def check(self, what: str, good: bool, detail: str = "") -> None:
        if not good:
            self.failed.append(what)
        self.console.print(f"  [green]✓[/] {what}" if good else f"  [bold red]✗ {what}[/] {_safe(detail)[:600]}")

    def has(self, what: str, step: str, *parts: str, without: tuple[str, ...] = ()) -> None:
        """The agent's line of a step holds all parts, and nothing of `without`."""
        found = self.lines.get(step, "")
        good = bool(found) and all(part in found for part in parts) and not any(part in found for part in without)
        self.check(what, good, f"{step}: {found!r}")


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else " " for c in text))


def main(keep: Path | None = None) -> int:
    """Runs the demo; 0 if everything came out as said."""
    demo = Demo()
    began = time.monotonic()
    with ExitStack() as stack:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowwarden-demo-")))
        run(demo, stack, folder)
    took = time.monotonic() - began
    if demo.failed:
        demo.console.print(f"[bold red]{len(demo.failed)} did not come out as said:[/] {_safe('; '.join(demo.failed))}")
        return 1
    demo.console.print(f"[bold green]everything came out as said[/] ({took:.0f} s)")
    return 0


def run(demo: Demo, stack: ExitStack, folder: Path) -> None:
    demo.title("a local AWS (moto), a local OIDC issuer, the gateway")
    moto, fresh = Moto(stack, folder / "moto.log"), Moto(stack, folder / "moto-fresh.log")
    tap = Tap(stack, moto)
    issuer = Issuer(stack, USERS)
    late = Issuer(stack, USERS, timedelta(hours=-1))
    stage = Stage(stack, folder, shipped(), [issuer, late], tap.url)
    key = "sk_live_" + secrets.token_hex(12)
    moto.wait()
    fresh.wait()
    instances = furnish(moto, CARD, key)
    furnish(fresh, CARD, key)
    stage.wait()
    demo.console.print(f"  gateway {stage.proxy}, AWS {moto.url}, issuer {issuer.url}")
    dev, sre = issuer.token("dev@example.com"), issuer.token("sre@example.com")
    env = stage.session(dev)
    demo.check(
        "an agent's environment is a proxy, a CA bundle and phantom keys",
        "HTTPS_PROXY" in env and "AWS_CA_BUNDLE" in env,
    )
    work(demo, stage, env, key)
    held(demo, stage, env, instances, dev, sre)
    unauthenticated(demo, stage, env, issuer, late)
    stage.stop()
    afterwards(demo, stage, env["FLOWWARDEN_SESSION"], fresh.url)
    leaks(demo, stage, tap, folder)


def work(demo: Demo, stage: Stage, env: dict[str, str], key: str) -> None:
    demo.title("an agent at work: stock boto3, and the AWS CLI if it is installed")
    process = stage.agent(env, "work", line=demo.line)
    process.wait(120)
    process.reader.join(10)  # type: ignore[attr-defined]
    demo.title("allowed")
    demo.has(
        "sts get-caller-identity runs under the leased role", "sts get-caller-identity", "assumed-role/agent-developer"
    )
    demo.has("s3: create", "s3 create-bucket", "agent-work")
    demo.has("s3: put", "s3 put-object", '"')
    demo.has("s3: get", "s3 get-object", "hello from the agent")
    demo.has("s3: list", "s3 list-objects-v2", "notes/today.txt")
    demo.has("ec2 describe", "ec2 describe-instances", "i-")
    demo.has("dynamodb put", "dynamodb put-item", "200")
    demo.has("dynamodb get", "dynamodb get-item", "new")
    if "aws" not in demo.lines:
        demo.has("AWS CLI: who am I", "aws sts get-caller-identity", "assumed-role/agent-developer")
        demo.has("AWS CLI: s3 ls", "aws s3 ls", "today.txt")
    demo.title("masked")
    demo.has("the secret's value is masked", "secretsmanager get-secret-value", "MASKED", without=(key,))
    demo.has(
        "a key and a card number in an object are masked", "s3 get-object export.csv", "Miller", without=(key, CARD)
    )
    demo.title("denied")
    demo.has("iam delete-user", "iam delete-user", "AccessDenied", "keep-identities")
    demo.has("iam create-access-key", "iam create-access-key", "AccessDenied", "keep-identities")
    demo.has("s3 delete-bucket, with rule and reason", "s3 delete-bucket", "AccessDenied", "keep-buckets")


def held(demo: Demo, stage: Stage, env: dict[str, str], instances: list[str], dev: str, sre: str) -> None:
    demo.title("held for a human")
    running = stage.agent(env, "terminate", instances[0], line=demo.line)
    question = stage.open_approval(sre, instances[0])
    own = stage.program("approvals", "approve", question, token=dev)
    demo.check("the requester's own approval is refused", own.returncode != 0, own.stdout + own.stderr)
    demo.console.print(f"    {_safe(own.stderr.strip())}", style="dim")
    answer = stage.program("approvals", "approve", question, "--reason", "planned", token=sre)
    demo.check("somebody of the approvers' group approves on the command line", answer.returncode == 0, answer.stderr)
    running.wait(60)
    running.reader.join(10)  # type: ignore[attr-defined]
    demo.has("the held call then succeeds", f"ec2 terminate-instances {instances[0]}", "shutting-down")
    running = stage.agent(env, "terminate", instances[1], line=demo.line)
    question = stage.open_approval(sre, instances[1])
    stage.program("approvals", "deny", question, "--reason", "not on a Friday", token=sre)
    running.wait(60)
    running.reader.join(10)  # type: ignore[attr-defined]
    demo.has(
        "another is denied, with the reason",
        f"ec2 terminate-instances {instances[1]}",
        "AccessDenied",
        "not on a Friday",
    )
    running = stage.agent(env, "terminate", instances[2], line=demo.line)
    running.wait(60)
    running.reader.join(10)  # type: ignore[attr-defined]
    demo.has("another times out and is refused", f"ec2 terminate-instances {instances[2]}", "ApprovalPending")


def unauthenticated(demo: Demo, stage: Stage, env: dict[str, str], issuer: Issuer, late: Issuer) -> None:
    demo.title("unauthenticated")
    connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=10)
    connection.request("CONNECT", "sts.eu-central-1.amazonaws.com:443")
    status = connection.getresponse().status
    connection.close()
    demo.check("a tunnel without a token gets 407", status == 407, str(status))

    def whoami(what: str, changed: dict[str, str], *parts: str) -> None:
        demo.lines.pop("sts get-caller-identity", None)
        process = stage.agent({**env, **changed}, "whoami", line=demo.line)
        process.wait(60)
        process.reader.join(10)  # type: ignore[attr-defined]
        demo.has(what, "sts get-caller-identity", *parts)

    def proxy(token: str) -> dict[str, str]:
        url = f"http://flowwarden:{token}@127.0.0.1:{stage.port}"
        return {"HTTPS_PROXY": url, "https_proxy": url}

    whoami("an expired token: ExpiredToken, with the reason", proxy(late.token("dev@example.com")), "ExpiredToken")
    good = issuer.token("other@example.com")
    head, _, signature = good.rpartition(".")
    forged = f"{head}.{signature[:9]}{'A' if signature[9] != 'A' else 'B'}{signature[10:]}"
    whoami("a wrongly signed token: InvalidToken, with the reason", proxy(forged), "InvalidToken")
    other = stage.session(good)
    keys: dict[str, str] = {
        name: other[name]
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        if name in other
    }
    whoami("another session's phantom keys are refused", keys, "InvalidClientTokenId")


def afterwards(demo: Demo, stage: Stage, session: str, fresh: str) -> None:
    demo.title("afterwards: what was recorded")
    flows = stage.program("flows", "--session", session)
    print(flows.stdout)  # noqa: T201
    rows = json.loads(stage.program("flows", "--session", session, "--json").stdout)
    demo.check("the session's flows are in the index", flows.returncode == 0 and len(rows) >= 15, flows.stderr)
    secret = next((row for row in rows if "GetSecretValue" in json.dumps(row)), rows[0])
    shown = stage.program("show", secret["id"])
    print(shown.stdout)  # noqa: T201
    demo.check(
        "one flow in full, masked", shown.returncode == 0 and "MASKED" in shown.stdout, shown.stdout + shown.stderr
    )
    verified = stage.program("verify")
    demo.console.print(f"    {_safe(verified.stdout.strip())}", style="dim")
    demo.check("verify says valid", verified.returncode == 0, verified.stdout + verified.stderr)
    altered(demo, stage)
    replayed = stage.program("replay", session, "--to", fresh)
    print(replayed.stdout)  # noqa: T201
    compared = json.loads(stage.program("replay", session, "--to", fresh, "--json").stdout or "[]")
    sent = [row for row in compared if row["verdict"] != "skipped"]
    demo.check("the session is replayed against a fresh AWS and compared", len(sent) >= 10, replayed.stderr)


def altered(demo: Demo, stage: Stage) -> None:
    """One byte of a copy is changed; verify says where."""
    copy = stage.folder / "altered"
    shutil.copytree(stage.folder / "recordings", copy)
    frames = next(path for path in sorted(copy.glob("flows/*/*.mitm")) if path.stat().st_size > 4000)
    data = bytearray(frames.read_bytes())
    data[len(data) // 2] ^= 1
    frames.write_bytes(data)
    found = stage.program("verify", "--recordings", str(copy))
    demo.console.print(f"    {_safe(found.stdout.strip().splitlines()[0] if found.stdout else '')}", style="dim")
    demo.check(
        "one byte changed in a copy: verify says where",
        found.returncode == 1 and frames.name in found.stdout,
        found.stdout + found.stderr,
    )
    shutil.rmtree(copy)


def leaks(demo: Demo, stage: Stage, tap: Tap, folder: Path) -> None:
    demo.title("the real credentials")
    seen = "".join(stage.seen).encode()
    where = ["what the agent printed"] if any(secret in seen for secret in _secret(tap)) else []
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("moto"):
            content = path.read_bytes()
            where += [str(path.relative_to(folder)) for secret in _secret(tap) if secret in content]
    count = len(_secret(tap))
    demo.check(
        f"{count} secret keys and tokens that AWS handed out ({tap.calls} calls) are nowhere in what the run wrote or the agent received",
        count >= 2 and not where,
        ", ".join(where),
    )


def _secret(tap: Tap) -> list[bytes]:
    """Key ids are names, and stand in the evidence; secret keys and tokens must not."""
    return [secret for secret in tap.secrets if not secret.startswith((b"ASIA", b"AKIA")) or len(secret) > 24]
