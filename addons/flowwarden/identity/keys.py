"""The keys of one issuer: fetched off the event loop, cached, kept for a bounded time when the issuer is away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ..errors import TokenError
from .fetch import fetch as fetch_url
from .fetch import parse_object
from .rules import IssuerRules, safe_url

Fetch = Callable[[str], bytes]

FRESH = 600.0  # seconds until keys are looked up again, while the old ones still serve
STALE = 4 * 3600.0  # seconds that old keys serve when the issuer cannot be reached
FETCH_TIMEOUT = 15.0  # seconds for discovery and keys together
BURST = 3  # look-ups that unknown key ids may cause at once ...
REFILL = 30.0  # ... and the seconds until they may cause one more
RETRY = 3.0  # seconds between look-ups that fail
MAX_KEYS = 100
_POOL = ThreadPoolExecutor(4, "issuer-keys")  # its own: an issuer that drips must not take the threads of others

_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}  # RFC 7518 §3.4
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


@dataclass(frozen=True)
class _Entry:
    kid: str | None
    data: Mapping[str, Any]


class IssuerKeys:
    """One issuer's key set. `fetch` blocks and is called in a thread; `clock` gives monotonic seconds."""

    def __init__(
        self, rules: IssuerRules, fetch: Fetch | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rules = rules
        self._fetch = fetch or fetch_url
        self._clock = clock
        self._entries: tuple[_Entry, ...] | None = None
        self._loaded: dict[tuple[int, str], jwt.PyJWK] = {}
        self._fetched = float("-inf")  # when the keys came
        self._tried = float("-inf")  # when the last look-up failed
        self._failure = ""
        self._tokens = float(BURST)
        self._filled = clock()
        self._running: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        """The key that a token names; TokenError if there is none or the issuer cannot be asked.

        An unknown key id causes a look-up (the issuer may have rotated its keys), but no more than BURST at once and
        one every REFILL seconds: a flood of made-up ids costs the issuer nothing and other users wait for nobody.
        """
        await self._ensure()
        key = self._match(kid, algorithm)
        if key is None and self._may_look_again():
            await self._refresh()
            key = self._match(kid, algorithm)
        if key is None:
            named = f"key {kid!r}" if kid is not None else "one key alone"
            raise TokenError(f"the token is signed with a key that {self.rules.issuer} does not publish ({named})")
        return key

    async def _ensure(self) -> None:
        age = self._clock() - self._fetched
        if self._entries is not None and age < FRESH:
            return
        if self._entries is not None and age < STALE:
            if self._clock() - self._tried >= RETRY:
                self._start()  # in the background: the old keys serve meanwhile
            return
        if self._clock() - self._tried >= RETRY or self._running is not None:
            await self._refresh()
        if self._entries is None or self._clock() - self._fetched >= STALE:
            raise TokenError(
                f"the keys of {self.rules.issuer} cannot be looked up: {self._failure}",
                "IDPCommunicationError",
                "Try again once the issuer can be reached.",
            )

    def _may_look_again(self) -> bool:
        now = self._clock()
        self._tokens = min(float(BURST), self._tokens + (now - self._filled) / REFILL)
        self._filled = now
        if self._running is not None:
            return True  # joins a look-up that is under way
        if self._tokens < 1 or now - self._tried < RETRY:
            return False
        self._tokens -= 1
        return True

    def _start(self) -> asyncio.Task[None]:
        if self._running is None:
            self._running = asyncio.create_task(self._look_up(), name=f"keys of {self.rules.issuer}")
        return self._running

    async def _refresh(self) -> None:
        await asyncio.shield(self._start())  # one caller's cancellation is not the others'

    async def _look_up(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                document = await asyncio.get_running_loop().run_in_executor(_POOL, self._download)
            self._entries = _entries(document, self.rules)
            self._loaded.clear()
            self._fetched = self._clock()
            self._failure = ""
        except TokenError as error:
            self._failure, self._tried = error.message, self._clock()
        except TimeoutError:
            self._failure, self._tried = f"no answer within {FETCH_TIMEOUT:.0f} s", self._clock()
        except Exception as error:  # a fetcher's own failure is an unreachable issuer
            self._failure, self._tried = type(error).__name__, self._clock()
        finally:
            self._running = None

    def _download(self) -> dict[str, Any]:
        where = self.rules.jwks or self._discover()
        if "://" in where:
            return parse_object(self._fetch(where), where)
        try:
            return parse_object(Path(where).read_bytes(), where)
        except OSError as error:
            raise TokenError(f"{where} cannot be read: {error.strerror}", "IDPCommunicationError") from None

    def _discover(self) -> str:
        """OpenID Connect Discovery 1.0 §4: the document names its issuer, which has to be this one exactly."""
        found = discover(self.rules.issuer, self._fetch)
        where = found.get("jwks_uri")
        if not isinstance(where, str) or not safe_url(where):
            raise TokenError(f"{self.rules.issuer} does not say where its keys are", "IDPCommunicationError")
        return where

    def _match(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [
            index
            for index, entry in enumerate(self._entries or ())
            if (kid is None or entry.kid == kid)
            and entry.data.get("kty") == _KINDS[algorithm[:2]]
            and entry.data.get("alg") in (None, algorithm)
        ]
        keys = [key for index in fitting if (key := self._load(index, algorithm)) is not None]
        return keys[0] if len(keys) == 1 else None  # two keys under one name: nobody can say which one was meant

    def _load(self, index: int, algorithm: str) -> jwt.PyJWK | None:
        found = self._loaded.get((index, algorithm))
        if found is None and self._entries is not None:
            try:
                found = jwt.PyJWK(dict(self._entries[index].data), algorithm)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                return None
            if not _strong(found.key, algorithm):
                return None
            self._loaded[index, algorithm] = found
        return found


def discover(issuer: str, fetch: Fetch = fetch_url) -> dict[str, Any]:
    """An issuer's discovery document (OpenID Connect Discovery 1.0 §4). Blocks; TokenError."""
    where = issuer.rstrip("/") + "/.well-known/openid-configuration"
    found = parse_object(fetch(where), where)
    if found.get("issuer") != issuer:
        raise TokenError(f"{where} speaks for another issuer, {found.get('issuer')!r}", "IDPCommunicationError")
    return found


def _strong(key: object, algorithm: str) -> bool:
    if isinstance(key, RSAPublicKey):
        return 2048 <= key.key_size <= 8192  # RFC 7518 §3.3; above, one verification takes milliseconds
    if isinstance(key, EllipticCurvePublicKey):
        return key.curve.name == _CURVES.get(algorithm)
    return algorithm == "EdDSA"


def _entries(document: dict[str, Any], rules: IssuerRules) -> tuple[_Entry, ...]:
    """The public signing keys of a key set (RFC 7517 §5); anything else in it is passed over."""
    keys = document.get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise TokenError(f"the key set of {rules.issuer} is not a list of at most {MAX_KEYS} keys")
    found: dict[str, _Entry] = {}
    for data in keys:
        if not isinstance(data, dict) or data.get("use", "sig") != "sig" or "d" in data or "k" in data:
            continue
        operations = data.get("key_ops", ["verify"])
        if not isinstance(operations, list) or "verify" not in operations:
            continue
        kid = data.get("kid")
        if kid is None or isinstance(kid, str):
            found.setdefault(json.dumps(data, sort_keys=True), _Entry(kid, data))  # the same key twice is one key
    if not found:
        raise TokenError(f"the key set of {rules.issuer} has no signing key in it")
    return tuple(found.values())
