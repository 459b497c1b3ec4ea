"""The operators' listener through its own client: roles, answers, live events, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

import pytest

from flowwarden.errors import ConfigError, FlowwardenError, Refusal, TokenError
from flowwarden.operators import api
from flowwarden.operators.client import Client
from support.issuer import OidcIssuer


async def call(function: Any, *args: Any, **more: Any) -> Any:
    """The client blocks: in a thread, as the command line would be elsewhere."""
    return await asyncio.to_thread(function, *args, **more)


async def status(function: Any, *args: Any, **more: Any) -> int:
    try:
        await call(function, *args, **more)
    except Refusal as refusal:
        return refusal.status
    except TokenError:
        return 401
    return 200


async def test_health_needs_no_token(listening: Any) -> None:
    client = listening.client("")
    assert await call(client.health) == {"ready": True, "version": "1.2.3"}
    listening.services.health = lambda: {"ready": False, "why": "disk full"}
    assert (await call(client.health))["why"] == "disk full"


async def test_every_other_path_needs_one(listening: Any, issuer: OidcIssuer) -> None:
    for token in ("", "x", issuer.expired(), issuer.wrongly_signed(), issuer.token(aud="other")):
        client = listening.client(token)
        for function in (client.metrics, client.whoami, client.sessions, client.approvals):
            assert await status(function) == 401
        assert await status(client.answer, "ap-1", True) == 401
        assert await status(client.end_session, "x") == 401
        assert await status(lambda c=client: next(c.watch())) == 401
        assert await status(client._json, "GET", "/nowhere") == 401


async def test_roles(listening: Any, issuer: OidcIssuer) -> None:
    """Viewers see, administrators end sessions, approvers see approvals, everybody else sees nothing of others."""
    session, _ = await listening.session(issuer.token())
    wanted = {
        "audit": (200, 200, 403, 200),
        "platform": (200, 200, 200, 200),
        "sre": (403, 403, 403, 200),
        "dev": (403, 403, 403, 200),
    }
    for group, expected in wanted.items():
        client = listening.client(issuer.token("zoe", (group,)))
        found = (
            await status(client.metrics),
            await status(client.sessions),
            await status(client.end_session, "unknown") if group != "platform" else 200,
            await status(client.approvals),
        )
        assert found == expected, group
    admin = listening.client(issuer.token("zoe", ("platform",)))
    assert (await call(admin.session, session.id))["session"] == session.id
    assert (await call(admin.end_session, session.id))["ended"]
    assert await status(admin.session, "unknown") == await status(admin.end_session, "unknown") == 404
    assert await call(admin.sessions) == []
    assert [s["session"] for s in await call(admin.sessions, all=True)] == [session.id]
    text = json.dumps(await call(admin.session, session.id))
    assert session.phantom.secret_access_key not in text
    assert session.handle_hash not in text


async def test_a_revoked_token_opens_nothing(listening: Any, issuer: OidcIssuer) -> None:
    """A principal whose sessions were ended with all its tokens is shut out of this listener too."""
    token = issuer.token("alice", ("audit",))
    session, _ = await listening.session(token)
    assert await status(listening.client(token).sessions) == 200
    await call(listening.client(issuer.token("zoe", ("platform",))).end_session, session.id, principal=True)
    assert await status(listening.client(token).sessions) == 401


async def test_question_and_answer(listening: Any, issuer: OidcIssuer) -> None:
    asked = await listening.question(issuer)
    bob = listening.client(issuer.token("bob", ("sre",)))
    assert [q["id"] for q in await call(bob.approvals, "open")] == [asked.id]
    assert "body" not in (await call(bob.approvals))[0]["summary"], "what is not looked at singly is not shown whole"
    shown = await call(bob.approval, asked.id)
    assert shown["summary"]["body"] == "<b>x</b>"
    assert shown["may_answer"] and shown["principal"]["subject"] == "alice" and shown["summary"]["rules"] == ["r"]
    waiting = asyncio.create_task(listening.services.approvals.wait(asked.id, 60))
    answered = await call(bob.answer, asked.id, True, "looks fine")
    assert (answered["state"], answered["answers"][0]["subject"], answered["reason"]) == (
        "approved",
        "bob",
        "looks fine",
    )
    assert (await asyncio.wait_for(waiting, 5)).state == "approved"
    assert await status(bob.answer, asked.id, True) == 409
    assert (await call(bob.revoke, asked.id, "changed my mind"))["state"] == "revoked"
    assert await call(bob.approvals, "open") == []
    assert await status(bob.answer, "ap-unknown", True) == 404
    events = [(r["event"], (r["by"] or {}).get("subject")) for kind, r in listening.records if kind == "approval"]
    assert events == [
        ("asked", None),
        ("viewed", None),
        ("answered", "bob"),
        ("approved", "bob"),
        ("revoked", "bob"),
    ]
    assert [r["viewer"]["subject"] for _, r in listening.records if r["event"] == "viewed"] == ["bob"]
    assert all(r["digest"] == asked.digest for kind, r in listening.records if kind == "approval")


async def test_the_answer_is_told_as_it_was_given(listening: Any, issuer: OidcIssuer) -> None:
    """A held call uses its grant in the same moment; who approved is told "approved" all the same."""
    approvals = listening.services.approvals
    approvals.listen(lambda event, approval, details: event == "approved" and approvals.consume(approval.id))
    asked = await listening.question(issuer)
    told = await call(listening.client(issuer.token("bob", ("sre",))).answer, asked.id, True)
    assert (told["state"], approvals.get(asked.id).state) == ("approved", "spent")


async def test_what_belongs_together(world: Any, issuer: OidcIssuer) -> None:
    """A session's tokens are known to its questions, which end with it."""
    token = issuer.token(jti="the-token")
    session, _ = await world.session(token)
    assert world.services.approvals.tokens_of(session.id) == {"the-token"}
    asked = await world.question(issuer)
    world.services.sessions.end(asked.session)
    assert world.services.approvals.get(asked.id).state == "withdrawn"
    assert world.services.approvals.default_groups == {"sre"}


async def test_who_may_not(listening: Any, issuer: OidcIssuer) -> None:
    """Requester, owner, administrator outside the rule's group: 403 with the reason. Who may not see it: 404."""
    asked = await listening.question(issuer)
    everything = ("sre", "platform", "audit", "developers")
    for subject, groups, expected in (
        ("alice", everything, 403),
        ("alice-owner", everything, 403),
        ("carol", ("platform",), 403),
        ("carol", ("audit",), 403),
        ("carol", ("developers",), 404),
    ):
        client = listening.client(issuer.token(subject, groups))
        assert await status(client.answer, asked.id, True) == expected, subject
        assert await status(client.answer, asked.id, False, "no") == expected, subject
        seen = [q["id"] for q in await call(client.approvals)]
        assert seen == ([asked.id] if expected == 403 else [])
        assert await status(client.approval, asked.id) == (200 if expected == 403 else 404)
        if expected == 403:
            assert (await call(client.approval, asked.id))["why_not"]
    assert listening.services.approvals.get(asked.id).state == "open"
    assert await status(listening.client(issuer.token("carol", ("audit",))).revoke, asked.id) == 403
    assert await status(listening.client(issuer.token("carol", ("platform",))).revoke, asked.id) == 200


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"approve": 1}', "application/json", 400),
        (b'{"approve": "false"}', "application/json", 400),
        (b'{"approve": true, "reason": 5}', "application/json", 400),
        (b'{"approve": true, "all": true}', "application/json", 400),
        (b"approve=true", "application/x-www-form-urlencoded", 415),
        (b'{"approve": true}', "text/plain", 415),
        (b"[" * 60000, "application/json", 400),
    ],
)
async def test_answers_of_a_wrong_kind(
    listening: Any, issuer: OidcIssuer, body: bytes, kind: str, expected: int
) -> None:
    """Only true or false is an answer: nothing is read as one by mistake."""
    asked = await listening.question(issuer)
    request = urllib.request.Request(
        f"{listening.url}/approvals/{asked.id}/answer",
        data=body,
        headers={"Authorization": f"Bearer {issuer.token('bob', ('sre',))}", "Content-Type": kind},
        method="POST",
    )
    with pytest.raises(urllib.error.HTTPError) as found:
        await call(urllib.request.urlopen, request)
    assert found.value.code == expected
    assert json.loads(found.value.read())["error"]["message"]
    assert listening.services.approvals.get(asked.id).state == "open"


async def test_watching(listening: Any, issuer: OidcIssuer) -> None:
    """Events arrive as they happen, and only about what the watcher may see."""
    seen: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def watch(name: str, groups: tuple[str, ...]) -> None:
        for event in listening.client(issuer.token(name, groups)).watch():
            loop.call_soon_threadsafe(seen.put_nowait, (name, event))
            if event["event"] == "denied":
                return

    threads = [asyncio.create_task(asyncio.to_thread(watch, "bob", ("sre",)))]
    stranger = asyncio.create_task(asyncio.to_thread(watch, "dan", ("dba",)))
    async with asyncio.timeout(20):
        assert {(await seen.get())[0] for _ in range(2)} == {"bob", "dan"}
        asked = await listening.question(issuer)
        assert [(await seen.get())[1]["approval"]["id"]] == [asked.id]
        listening.services.approvals.answer(
            asked.id, (await listening.services.verifier.verify(issuer.token("bob", ("sre",)))).principal, False
        )
        names = [await seen.get() for _ in range(2)]
        assert [(name, event["event"]) for name, event in names] == [("bob", "answered"), ("bob", "denied")]
        await asyncio.gather(*threads)
        theirs = await listening.question(issuer, approver_groups=frozenset({"dba"}))
        name, event = await seen.get()
        assert (name, event["approval"]["id"]) == ("dan", theirs.id)
        principal = (await listening.services.verifier.verify(issuer.token("eve", ("dba",)))).principal
        listening.services.approvals.answer(theirs.id, principal, False)
        await stranger


async def test_nothing_inside_shows(listening: Any, issuer: OidcIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in here is a 500 with one sentence, not a traceback."""
    monkeypatch.setattr(listening.services, "metrics", lambda: 1 / 0)
    with pytest.raises(Refusal, match="log says what") as found:
        await call(listening.client(issuer.token("v", ("audit",))).metrics)
    assert found.value.status == 500


async def test_client_errors(listening: Any) -> None:
    """One line each: not reachable, not the listener, a token that would travel in the clear."""
    with pytest.raises(FlowwardenError, match="cannot be reached"):
        await call(Client("http://127.0.0.1:1", "t").sessions)
    with pytest.raises(ConfigError, match="https"):
        Client("http://gateway.example.com:8082", "t")
    with pytest.raises(ConfigError, match="https"):
        Client("file:///etc/passwd", "t")


async def test_the_address(world: Any) -> None:
    for listen in ("8082", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ":80"):
        with pytest.raises(ConfigError, match="host:port"):
            api.serve(world.services, listen)
    with pytest.raises(ConfigError, match="cannot be listened on"):
        api.serve(world.services, "203.0.113.1:8082")


async def test_a_taken_port(listening: Any) -> None:
    with pytest.raises(ConfigError, match="choose another"):
        api.serve(listening.services, listening.url.removeprefix("http://"))
