"""Keys: cached, refreshed in the background, kept for a bounded time, and never fetched for a flood."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from flowwarden.errors import TokenError
from flowwarden.identity import keys
from flowwarden.identity.keys import IssuerKeys
from flowwarden.identity.rules import IssuerRules
from support.issuer import Key, number


class World:
    """An issuer without a network: what it publishes, how often it was asked, and a clock to turn."""

    def __init__(self, *published: Key) -> None:
        self.published = [key.jwk() for key in published]
        self.asked = 0
        self.down = False
        self.now = 1000.0
        self.keys = IssuerKeys(
            IssuerRules("https://idp.example.com", "a", jwks="https://idp.example.com/k"), self.fetch, lambda: self.now
        )

    def fetch(self, url: str) -> bytes:
        self.asked += 1
        if self.down:
            raise TokenError("out of reach", "IDPCommunicationError")
        return json.dumps({"keys": self.published}).encode()

    async def find(self, key: Key) -> Any:
        return await self.keys.find(key.id, key.kind)

    async def settle(self) -> None:
        while self.keys._running is not None:
            await self.keys._running


RSA, OTHER = Key("RS256"), Key("RS256")


async def test_cold_and_unreachable() -> None:
    """No keys, no issuer: refused with the reason, and the issuer is not asked again for every caller."""
    world = World(RSA)
    world.down = True
    for _ in range(20):
        with pytest.raises(TokenError, match="out of reach") as found:
            await world.find(RSA)
        assert found.value.code == "IDPCommunicationError"
    assert world.asked == 1
    world.down, world.now = False, world.now + keys.RETRY
    assert await world.find(RSA)


async def test_old_keys_serve_for_a_bounded_time() -> None:
    """An issuer that is away costs nobody anything for four hours; then nobody is signed in any more."""
    world = World(RSA)
    assert await world.find(RSA)
    world.down = True
    world.now += keys.STALE - 1
    assert await world.find(RSA)
    await world.settle()
    assert world.asked == 2
    world.now += 1
    with pytest.raises(TokenError, match="cannot be looked up"):
        await world.find(RSA)


async def test_withdrawn_keys_are_forgotten_at_the_next_look() -> None:
    """A key that the issuer no longer publishes stops counting once the set was looked up again."""
    world = World(RSA, OTHER)
    assert await world.find(OTHER)
    world.published = [RSA.jwk()]
    world.now += keys.FRESH
    assert await world.find(OTHER)  # the look-up runs behind it
    await world.settle()
    with pytest.raises(TokenError, match="does not publish"):
        await world.find(OTHER)


async def test_a_rotated_key_is_found_at_once() -> None:
    world = World(RSA)
    assert await world.find(RSA)
    world.published.append(OTHER.jwk())
    assert await world.find(OTHER)
    assert world.asked == 2


async def test_a_flood_of_unknown_key_ids() -> None:
    """A thousand made-up ids cause BURST look-ups, then one each REFILL seconds; known keys go on serving."""
    world = World(RSA)
    assert await world.find(RSA)
    before = world.asked
    for attempt in range(1000):
        with pytest.raises(TokenError):
            await world.keys.find(f"made-up-{attempt}", "RS256")
        assert await world.find(RSA)
    assert world.asked - before == keys.BURST
    world.now += keys.REFILL
    for attempt in range(100):
        with pytest.raises(TokenError):
            await world.keys.find(f"more-{attempt}", "RS256")
    assert world.asked - before == keys.BURST + 1


async def test_many_at_once_share_one_look_up_off_the_loop() -> None:
    """Fifty callers wait for one fetch, in a thread, while the loop goes on."""
    world, release, threads = World(RSA), threading.Event(), set()
    fetch = world.fetch

    def slow(url: str) -> bytes:
        threads.add(threading.current_thread())
        assert release.wait(10)
        return fetch(url)

    world.keys._fetch = slow
    callers = [asyncio.create_task(world.find(RSA)) for _ in range(50)]
    for _ in range(5):
        await asyncio.sleep(0)
    callers[0].cancel()
    release.set()
    found = await asyncio.gather(*callers[1:])
    assert all(found)
    assert world.asked == 1
    assert threading.main_thread() not in threads


async def test_a_fetch_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    world, release = World(RSA), threading.Event()
    world.keys._fetch = lambda url: b"{}" if release.wait(10) else b""
    monkeypatch.setattr(keys, "FETCH_TIMEOUT", 0.01)
    try:
        with pytest.raises(TokenError, match="no answer within"):
            await world.find(RSA)
    finally:
        release.set()


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"d": "AQAB"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"alg": "PS256"},
        {"n": "AQAB"},
        {"kid": 7},
        {"e": None},
    ],
)
async def test_keys_that_are_not_for_this(change: dict[str, Any]) -> None:
    """Encryption keys, private keys, secrets and broken ones in a key set are no signing keys."""
    world = World(RSA)
    world.published = [RSA.jwk() | change, OTHER.jwk()]
    with pytest.raises(TokenError):
        await world.find(RSA)
    assert await world.find(OTHER)


async def test_a_published_private_key_is_none() -> None:
    """Whoever reads the key set could sign with it."""
    key = Key("ES256")
    world = World(key)
    assert await world.find(key)
    assert key._ec is not None
    world = World(key)
    world.published[0]["d"] = number(key._ec.private_numbers().private_value, 32)
    with pytest.raises(TokenError):
        await world.find(key)


async def test_two_keys_under_one_name() -> None:
    """Which of the two was meant cannot be said: neither counts. The same key listed twice is one."""
    world = World(RSA)
    world.published = [RSA.jwk(), OTHER.jwk() | {"kid": RSA.id}]
    with pytest.raises(TokenError):
        await world.find(RSA)
    twice = World(RSA, RSA)
    assert await twice.find(RSA)


async def test_no_key_id() -> None:
    """A token without a key id is fine where there is one key only."""
    assert await World(RSA).keys.find(None, "RS256")
    with pytest.raises(TokenError):
        await World(RSA, OTHER).keys.find(None, "RS256")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": []}', b"\xff", b'{"keys":[' + b"{}," * 200 + b"{}]}"]
)
async def test_broken_key_sets(body: bytes) -> None:
    world = World(RSA)
    world.keys._fetch = lambda url: body
    with pytest.raises(TokenError):
        await world.find(RSA)


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example.com", "jwks_uri": "https://idp.example.com/k"},
        {"issuer": "https://idp.example.com", "jwks_uri": "http://idp.example.com/k"},
        {"issuer": "https://idp.example.com", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "https://idp.example.com"},
    ],
)
async def test_discovery_of_somebody_else(document: dict[str, Any]) -> None:
    """A discovery document speaks for its own issuer, and sends nobody to http:// or files."""

    def fetch(url: str) -> bytes:
        discovery = url.endswith("/.well-known/openid-configuration")
        return json.dumps(document if discovery else {"keys": [RSA.jwk()]}).encode()

    found = IssuerKeys(IssuerRules("https://idp.example.com", "a"), fetch)
    with pytest.raises(TokenError):
        await found.find(RSA.id, "RS256")
    document |= {"issuer": "https://idp.example.com", "jwks_uri": "https://idp.example.com/k"}
    assert await IssuerKeys(IssuerRules("https://idp.example.com", "a"), fetch).find(RSA.id, "RS256")
