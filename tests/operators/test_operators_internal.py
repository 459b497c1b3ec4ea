"""flowwarden.internal: an agent's own session and nothing else."""

from __future__ import annotations

import asyncio
import json
import shlex
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowwarden.operators import internal
from flowwarden.types import ApprovalTerms
from support.issuer import OidcIssuer


async def ask(world: Any, method: str, path: str, credential: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
    status, told, body = await internal.answer(world.services, method, path, headers, b"", credential)
    assert told["Cache-Control"] == "no-store"
    return status, json.loads(body)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_session_from_start_to_end(world: Any, issuer: OidcIssuer) -> None:
    """A token gives a handle and keys; the handle renews, shows and ends the session; then nothing of it works."""
    first = issuer.token()
    status, made = await ask(world, "POST", "/session", **bearer(first))
    assert status == 201
    handle = made["handle"]
    assert made["proxy"] == f"http://session:{handle}@127.0.0.1:8080"
    assert made["credentials"]["AccessKeyId"] == made["access_key_id"]
    status, who = await ask(world, "GET", "/whoami", handle)
    assert (status, who["principal"]["subject"]) == (200, "alice")
    assert handle not in json.dumps(who)
    status, keys = await ask(world, "GET", "/credentials", handle)
    assert keys == made["credentials"]
    assert keys["Version"] == 1
    status, renewed = await ask(world, "POST", "/session/renew", handle, **bearer(issuer.token(groups=("sre",))))
    assert (status, renewed["session"], renewed["principal"]["groups"]) == (200, made["session"], ["sre"])
    status, refused = await ask(world, "POST", "/session/renew", handle, **bearer(issuer.token("bob")))
    assert status == 401
    status, ended = await ask(world, "DELETE", "/session", handle)
    assert status == 200
    assert ended["ended"]
    for method, path in (
        ("GET", "/whoami"),
        ("GET", "/credentials"),
        ("DELETE", "/session"),
        ("POST", "/session/renew"),
    ):
        status, refused = await ask(world, method, path, handle, **bearer(issuer.token()))
        assert (status, refused["error"]["code"]) == (401, "ExpiredToken")
    status, refused = await ask(world, "POST", "/session", **bearer(first))
    assert (status, refused["error"]["code"]) == (401, "ExpiredToken")
    assert [(kind, record["event"]) for kind, record in world.records] == [
        ("session", "start"),
        ("session", "renew"),
        ("session", "end"),
    ]
    assert handle not in json.dumps(world.records)
    assert keys["SecretAccessKey"] not in json.dumps(world.records)


async def test_export_lines(world: Any, issuer: OidcIssuer) -> None:
    """`eval "$(curl …)"` is all that a container needs, whatever stands in a value."""
    for path, headers in (("/session?format=env", {}), ("/session", {"Accept": "text/plain"})):
        status, told, body = await internal.answer(world.services, "POST", path, {**bearer(issuer.token()), **headers})
        assert (status, told["Content-Type"]) == (201, "text/plain; charset=utf-8")
        found = dict(shlex.split(line)[1].split("=", 1) for line in body.decode().splitlines())
        session = world.services.sessions.by_handle(found["HTTPS_PROXY"].split(":")[2].split("@")[0])
        assert session.phantom.access_key_id == found["AWS_ACCESS_KEY_ID"]
        assert session.phantom.secret_access_key == found["AWS_SECRET_ACCESS_KEY"]


async def test_a_token_as_the_proxy_password(world: Any, issuer: OidcIssuer) -> None:
    """Its session starts by itself, once."""
    token = issuer.token()
    one, two = [await ask(world, "GET", "/whoami", token) for _ in range(2)]
    assert one == two
    assert one[0] == 200
    status, refused = await ask(world, "GET", "/whoami", issuer.expired())
    assert (status, refused["error"]["code"]) == (401, "ExpiredToken")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/whoami"),
        ("GET", "/credentials"),
        ("DELETE", "/session"),
        ("POST", "/session"),
        ("POST", "/session/renew"),
        ("GET", "/approvals/x"),
    ],
)
@pytest.mark.parametrize("credential", ["", "fwh_wrong", "ey.a.b", "a:b", "ä"])
async def test_everything_but_the_ca_needs_a_session(world: Any, method: str, path: str, credential: str) -> None:
    status, refused = await ask(world, method, path, credential)
    assert status == 401
    assert refused["error"]["message"]
    status, refused = await ask(world, method, path, credential, Authorization="Bearer x.y.z")
    assert status == 401


async def test_ca(world: Any) -> None:
    """The certificate needs no token; a key beside it in the file never leaves."""
    assert (await ask(world, "GET", "/ca.pem"))[0] == 503
    certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    key = b"-----BEGIN PRIVATE " + b"KEY-----\nBBBB\n-----END PRIVATE " + b"KEY-----\n"
    for content, wanted in (
        (certificate, 200),
        (key + certificate, 200),
        (certificate + key, 200),
        (certificate + key + certificate, 503),
        (key, 503),
    ):
        world.ca.write_bytes(content)
        status, _, body = await internal.answer(world.services, "GET", "/ca.pem", {})
        assert status == wanted
        assert b"BBBB" not in body
        assert (body == certificate) == (wanted == 200)


async def test_own_approvals_only_and_status_only(world: Any, issuer: OidcIssuer) -> None:
    """An agent sees how its own question stands, not what others ask, nor who may answer."""
    session, handle = await world.session(issuer.token())
    _, stranger = await world.session(issuer.token())
    terms = ApprovalTerms(approver_groups=frozenset({"sre"}))
    asked = world.services.approvals.ask("d", session.id, session.principal, {"operation": "x"}, terms)
    status, told = await ask(world, "GET", f"/approvals/{asked.id}", handle)
    assert status == 200
    assert set(told) == {"id", "state", "expires", "reason", "scope"}
    for credential, approval in ((stranger, asked.id), (handle, "ap-unknown"), (handle, "../approvals"), (handle, "")):
        status, refused = await ask(world, "GET", f"/approvals/{approval}", credential)
        assert status == 404
        assert asked.id not in json.dumps(refused)


async def test_what_an_agent_asks_for_in_vain(world: Any, issuer: OidcIssuer) -> None:
    """Other sessions, lists, answers, rules: there is nothing there, with the best of credentials."""
    session, handle = await world.session(issuer.token(groups=("sre", "platform", "audit")))
    other, _ = await world.session(issuer.token("bob"))
    asked = world.services.approvals.ask(
        "d", other.id, other.principal, {}, ApprovalTerms(approver_groups=frozenset({"sre"}))
    )
    for method, path in (
        ("GET", "/sessions"),
        ("GET", f"/sessions/{other.id}"),
        ("DELETE", f"/sessions/{other.id}"),
        ("DELETE", f"/session/{other.id}"),
        ("GET", "/approvals"),
        ("POST", f"/approvals/{asked.id}/answer"),
        ("POST", f"/approvals/{asked.id}"),
        ("GET", f"/approvals/{asked.id}/answer"),
        ("GET", "/rules"),
        ("GET", "/metrics"),
        ("GET", "/../state/state.db"),
        ("GET", "//whoami"),
        ("GET", ""),
    ):
        status, _ = await ask(world, method, path, handle, **bearer(issuer.token(groups=("sre",))))
        assert status == 404, (method, path)
    assert (await ask(world, "PUT", "/session", handle))[0] == 405
    assert world.services.approvals.get(asked.id).state == "open"
    assert world.services.sessions.check(other) == other
    assert world.services.sessions.check(session) == session


@given(
    st.text(max_size=20),
    st.text(max_size=60),
    st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=4),
    st.text(max_size=60),
)
@example("GET", "//[", {}, "")
def test_never_raises(world: Any, method: str, path: str, headers: dict[str, str], credential: str) -> None:
    """Whatever is asked, the answer is a status and a body."""
    status, _, body = asyncio.run(internal.answer(world.services, method, path, headers, b"", credential))
    assert 400 <= status < 504
    assert body
