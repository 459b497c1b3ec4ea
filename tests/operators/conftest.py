"""A listener of its own for each test, with sessions, approvals, and an issuer that makes any token."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import tornado.httpserver

from flowwarden.approval.store import Approvals
from flowwarden.identity.rules import IdentityRules, IssuerRules, Role
from flowwarden.identity.tokens import Verifier
from flowwarden.operators import api
from flowwarden.operators.client import Client
from flowwarden.operators.services import Services
from flowwarden.sessions import ids
from flowwarden.sessions.store import SessionStore
from flowwarden.types import Approval, ApprovalTerms, Phantom, Session
from support.issuer import OidcIssuer

TERMS = ApprovalTerms(approver_groups=frozenset({"sre"}))
_numbers = itertools.count()


def mint() -> Phantom:
    return Phantom(f"AKIATEST{next(_numbers):012d}", ids.handle(), "")


class World:
    """Services on a folder of their own, and what they recorded."""

    def __init__(self, folder: Path, rules: IdentityRules) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []
        folder.mkdir()
        self.ca = folder / "ca.pem"
        self.services = Services(
            Verifier(rules),
            SessionStore.open(folder / "state", mint=mint),
            Approvals.open(folder / "state"),
            rules.roles,
            self.ca,
            "1.2.3",
            record=lambda kind, record: self.records.append((kind, record)),
        )
        self.services.attach()
        self.url = ""

    async def session(self, token: str) -> tuple[Session, str]:
        return self.services.sessions.start(await self.services.verifier.verify(token))

    async def question(self, issuer: OidcIssuer, who: str = "alice", **terms: Any) -> Approval:
        session, _ = await self.session(issuer.token(who))
        summary = {"operation": "ec2:TerminateInstances", "resources": ["arn:i-1"], "rules": ["r"], "body": "<b>x</b>"}
        found = ApprovalTerms(**{"approver_groups": TERMS.approver_groups, **terms})
        return self.services.approvals.ask(ids.handle(), session.id, session.principal, summary, found)

    def listen(self) -> tornado.httpserver.HTTPServer:
        """The operators' listener on a free port."""
        server = api.serve(self.services, "127.0.0.1:0")
        self.url = f"http://127.0.0.1:{next(iter(server._sockets.values())).getsockname()[1]}"
        return server

    def client(self, token: str) -> Client:
        return Client(self.url, token)

    def close(self) -> None:
        self.services.sessions.close()
        self.services.approvals.close()


ROLES = {
    "approver": Role(frozenset({"sre"})),
    "viewer": Role(frozenset({"audit"})),
    "admin": Role(frozenset({"platform"})),
}


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Any]:
    made: list[World] = []

    def make(rules: IdentityRules) -> World:
        made.append(World(tmp_path / f"world-{len(made)}", rules))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world: Any, issuer: OidcIssuer) -> World:
    found: World = make_world(IdentityRules({issuer.url: IssuerRules(issuer.url, issuer.audience)}, roles=ROLES))
    return found


@pytest.fixture
async def listening(world: World) -> AsyncIterator[World]:
    """The world with its operators' listener on a free port."""
    server = world.listen()
    yield world
    server.stop()
    await server.close_all_connections()
