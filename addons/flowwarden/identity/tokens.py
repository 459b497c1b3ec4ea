"""An OIDC token is verified here, and nowhere else: what comes out is a Principal."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt

from ..errors import TokenError
from ..types import Principal
from .keys import Fetch, IssuerKeys
from .rules import IdentityRules, IssuerRules

MAX_TOKEN = 16 * 1024  # bytes
LEEWAY = 10.0  # seconds that an issuer's clock may differ
MAX_GROUPS = 1000
_TYPES = (None, "jwt", "at+jwt", "application/at+jwt", "application/jwt")  # RFC 9068 §4; a logout token is none


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token whose signature and claims are good. Times are POSIX seconds.

    `token_id` is its `jti`, or the SHA-256 of what was signed where it has none: either names this token alone.
    """

    principal: Principal
    issuer: str
    subject: str
    token_id: str
    issued: float
    expires: float
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


class Verifier:
    """Verifies tokens of the issuers that the rules name. `clock` gives POSIX seconds, `fetch` blocks."""

    def __init__(self, rules: IdentityRules, *, fetch: Fetch | None = None, clock: Callable[[], float] = time.time):
        self.rules = rules
        self._clock = clock
        self._keys = {name: IssuerKeys(issuer, fetch) for name, issuer in rules.issuers.items()}
        self._jwt = _StrictJWT()

    async def verify(self, token: str) -> VerifiedToken:
        """Who the token speaks for. TokenError: ExpiredToken, InvalidToken, IDPCommunicationError."""
        header, claims, signed = _open(token)
        issuer = self._issuer(claims)
        algorithm, kid = _header(header, issuer)
        key = await self._keys[issuer.issuer].find(kid, algorithm)
        try:
            claims = self._jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=issuer.audience,
                issuer=issuer.issuer,
                options={
                    "require": ["iss", "aud", "sub", "exp", "iat"],
                    "strict_aud": True,
                    "verify_exp": False,  # times are checked below, against this verifier's clock
                    "verify_iat": False,
                    "verify_nbf": False,
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.PyJWTError as error:
            raise TokenError(_explain(error, issuer)) from None
        except (ValueError, TypeError, RecursionError):
            raise TokenError("the token cannot be read") from None
        issued, expires = _times(claims, issuer, self._clock())
        principal = _principal(claims, issuer)
        token_id = str(claims.get("jti") or "sha256:" + hashlib.sha256(signed).hexdigest())
        return VerifiedToken(principal, issuer.issuer, principal.subject, token_id, issued, expires, claims)

    def _issuer(self, claims: Mapping[str, Any]) -> IssuerRules:
        name = claims.get("iss")
        found = self.rules.issuers.get(name) if isinstance(name, str) else None
        if found is None:
            raise TokenError(f"the token's issuer {_short(name)} is not one that this gateway trusts")
        return found


def token_hash(token: str) -> str:
    """What stands for a token where the token itself must not be kept."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def looks_like_token(credential: str) -> bool:
    """Whether a proxy password is meant as an OIDC token rather than a session handle."""
    return credential.count(".") == 2 and credential.startswith("ey")


class _StrictJWT(jwt.PyJWT):
    """PyJWT that refuses duplicate keys, and takes `aud` as a list of one (RFC 7519 §4.1.3) for that one."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        claims = _object(decoded["payload"])
        audience = claims.get("aud")
        if isinstance(audience, list) and len(audience) == 1:
            claims["aud"] = audience[0]
        return claims


def _open(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header, claims and signing input, nothing of it trusted yet."""
    if not isinstance(token, str) or not token:
        raise TokenError("there is no token")
    if len(token) > MAX_TOKEN:
        raise TokenError(f"the token is longer than {MAX_TOKEN} bytes")
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii():
        raise TokenError("this is not a signed token (three parts with dots between)")
    try:
        header, payload = (base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True) for part in parts[:2])
    except (binascii.Error, ValueError):
        raise TokenError("the token is not base64url") from None
    return _object(header), _object(payload), f"{parts[0]}.{parts[1]}".encode()


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise TokenError("the token is not JSON, or has a key twice") from None
    if not isinstance(found, dict):
        raise TokenError("the token is not a JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _header(header: Mapping[str, Any], issuer: IssuerRules) -> tuple[str, str | None]:
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        raise TokenError(f"the token is signed with {_short(algorithm)}, not {' or '.join(issuer.algorithms)}")
    if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
        raise TokenError(f"a token of type {_short(kind)} does not sign anybody in")
    if "crit" in header or "b64" in header or "zip" in header:
        raise TokenError("the token asks for extensions that this gateway does not know")
    if kid is not None and not isinstance(kid, str):
        raise TokenError("the token's key id is not text")
    return algorithm, kid


def _times(claims: Mapping[str, Any], issuer: IssuerRules, now: float) -> tuple[float, float]:
    """RFC 7519 §4.1.4 to 4.1.6; a token that lives longer than `max_lifetime` is refused whatever its end."""
    issued, expires = _number(claims, "iat"), _number(claims, "exp")
    start = _number(claims, "nbf") if "nbf" in claims else issued
    if now >= expires + LEEWAY:
        raise TokenError(
            f"the token expired at {_clock_text(expires)} (it is {_clock_text(now)})",
            "ExpiredToken",
            "Get a new one: from the issuer, for `session renew`; by `flowwarden login`, for an operator's commands.",
        )
    if issued > now + LEEWAY or start > now + LEEWAY:
        raise TokenError(f"the token is not valid before {_clock_text(max(issued, start))}")
    if not 0 < expires - issued <= issuer.max_lifetime:
        raise TokenError(f"the token lives longer than the {issuer.max_lifetime:.0f} s that this gateway takes")
    return issued, expires


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11 or math.isnan(value):
        raise TokenError(f"the token's {name!r} is not a time")
    return float(value)


def _principal(claims: Mapping[str, Any], issuer: IssuerRules) -> Principal:
    subject = _text(claims, "sub")
    if not subject:
        raise TokenError("the token has no subject")
    aliases = {_text(claims, name).casefold() for name in ("email", "preferred_username", "upn")} - {""}
    return Principal(
        issuer=issuer.issuer,
        subject=subject,
        agent=_text(claims, issuer.agent_claim),
        owner=_text(claims, issuer.owner_claim),
        groups=_groups(claims, issuer),
        name=_text(claims, "name") or _text(claims, "preferred_username") or _text(claims, "email") or subject,
        aliases=frozenset(aliases),
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claim(claims, name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 1024 or not value.isprintable():
        raise TokenError(f"the token's {name!r} is not plain text")
    return value


def _groups(claims: Mapping[str, Any], issuer: IssuerRules) -> frozenset[str]:
    value = claim(claims, issuer.groups_claim)
    if value is None:
        return frozenset()
    groups = [value] if isinstance(value, str) else value
    if not isinstance(groups, list) or len(groups) > MAX_GROUPS or not all(isinstance(group, str) for group in groups):
        raise TokenError(f"the token's {issuer.groups_claim!r} is not a list of at most {MAX_GROUPS} group names")
    return frozenset(groups)


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name (`cognito:groups`, `https://x.example/groups`) or, failing that, by path (`realm.roles`)."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _explain(error: jwt.PyJWTError, issuer: IssuerRules) -> str:
    if isinstance(error, jwt.InvalidSignatureError):
        return f"the token's signature is not {issuer.issuer}'s"
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the token has no {error.claim!r} claim"
    if isinstance(error, jwt.InvalidAudienceError):
        return f"the token is not for this gateway (audience {issuer.audience!r})"
    return f"the token is not good: {str(error)[:200]}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _clock_text(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
