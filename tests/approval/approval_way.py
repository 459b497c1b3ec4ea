"""Held calls in a real gateway: rules, calls, questions and answers, for the tests of approvals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from support.clients import Keys, ProxyClient, boto_client, eventually, sign
from support.gateway import POLICY, REGION
from support.issuer import OidcIssuer
from support.way import Way

EC2 = f"ec2.{REGION}.amazonaws.com"
BODY = b"Action=TerminateInstances&InstanceId.1=i-9&Version=2016-11-15"


def rule(action: str, **changes: Any) -> dict[str, Any]:
    base = {"effect": "approve", "approvers": {"groups": ["sre"]}, "hold": "20s", "expires": "60s"}
    return {"id": action.lower(), "actions": [f"ec2:{action}"], **base, **changes}


def way_with(folder: Path, issuer: OidcIssuer, *rules: dict[str, Any]) -> AbstractContextManager[Way]:
    """A gateway that asks by these rules only, before a strict AWS."""
    allowed = [found for found in POLICY["rules"] if found["effect"] != "approve"]
    policy = POLICY | {"rules": [*allowed, *rules]}
    return Way.opened(folder / "gateway", issuer, policy=policy, options={"warden_http2_hosts": ["ec2.*"]})


@lru_cache
def client_of(env: str) -> Any:
    return boto_client("ec2", json.loads(env))


def call(env: dict[str, str], method: str = "terminate_instances", **params: Any) -> Any:
    """The answer, or the error as (code, message)."""
    try:
        return getattr(client_of(json.dumps(env)), method)(**(params or {"InstanceIds": ["i-1"]}))
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"]


def signed(
    env: dict[str, str], body: bytes = BODY, fields: Sequence[tuple[str, str]] = ()
) -> tuple[str, list[tuple[str, str]]]:
    """Target and header of a call that no SDK sends."""
    kind = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
    url = f"https://{EC2}/"
    return sign(Keys.of(env), "POST", url, service="ec2", region=REGION, fields=[kind, *fields], body=body)


def post(client: ProxyClient, env: dict[str, str], body: bytes = BODY, fields: Sequence[tuple[str, str]] = ()) -> None:
    """Sends such a call over HTTP/1.1 and does not wait for the answer."""
    target, head = signed(env, body, fields)
    lines = "".join(f"{name}: {value}\r\n" for name, value in head)
    client.send(f"POST {target} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def mine(way: Way, env: dict[str, str], token: str, state: str = "open") -> list[dict[str, Any]]:
    return [q for q in way.gateway.questions(token, state) if q["session"] == env["FLOWWARDEN_SESSION"]]


def asked(way: Way, env: dict[str, str], token: str) -> str:
    return str(eventually(lambda: mine(way, env, token), what="a question")[0]["id"])


def answer(way: Way, approval: str, token: str, approve: bool = True, reason: str = "") -> int:
    body = {"approve": approve, "reason": reason}
    return way.gateway.operators("POST", f"/approvals/{approval}/answer", token, body)[0]


def state(way: Way, approval: str, token: str) -> str:
    return str(way.gateway.operators("GET", f"/approvals/{approval}", token)[1]["state"])


def sent(way: Way, action: str) -> int:
    return sum(seen.action == action for seen in way.calls)


def waiting(way: Way, approval: str) -> int:
    """How many requests were told of as asking or joining."""
    records = way.gateway.evidence()
    return sum(
        r["type"] == "approval" and r.get("approval") == approval and r["event"] in ("asked", "joined") for r in records
    )
