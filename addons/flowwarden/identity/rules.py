"""rules/identity.yaml: the issuers that are trusted, how long sessions last, and who may do what here."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from .. import yamlfile
from ..types import Principal
from ..yamlfile import Section

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric only (RFC 7518 §3.1, RFC 8037): a shared secret would let the gateway's readers make tokens."""

ROLES = ("approver", "viewer", "admin")


@dataclass(frozen=True)
class IssuerRules:
    """One trusted issuer. `jwks` is a URL, a file path, or empty for OIDC discovery; `max_lifetime` is in seconds."""

    issuer: str
    audience: str
    jwks: str = ""
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    groups_claim: str = "groups"
    agent_claim: str = "azp"
    owner_claim: str = "owner"
    max_lifetime: float = 12 * 3600.0
    client_id: str = ""  # for people's own sign-in; the audience where none is given
    client_secret_file: str = ""  # for issuers that want a secret beside PKCE
    scopes: tuple[str, ...] = ("openid", "profile", "email")


@dataclass(frozen=True)
class SessionRules:
    """How long sessions last, in seconds. `idle` 0: a session may be silent for as long as it lives."""

    ttl: float = 3600.0
    max: float = 12 * 3600.0
    idle: float = 0.0
    phantoms: str = "required"
    dummy_key: str = "AKIAFLOWWARDENDUMMY0"


@dataclass(frozen=True)
class Role:
    """Who holds a role: anyone in one of the groups, or named by subject or `issuer#subject`."""

    groups: frozenset[str] = frozenset()
    principals: frozenset[str] = frozenset()

    def holds(self, principal: Principal) -> bool:
        if self.groups & principal.groups:
            return True
        return principal.subject in self.principals or f"{principal.issuer}#{principal.subject}" in self.principals


@dataclass(frozen=True)
class IdentityRules:
    """rules/identity.yaml, checked. `digest` is the SHA-256 of the file."""

    issuers: Mapping[str, IssuerRules]
    sessions: SessionRules = field(default_factory=SessionRules)
    roles: Mapping[str, Role] = field(default_factory=dict)
    digest: str = ""

    def has_role(self, role: str, principal: Principal) -> bool:
        found = self.roles.get(role)
        return found is not None and found.holds(principal)


def load(path: Path) -> IdentityRules:
    """Reads and checks rules/identity.yaml; RuleError with file, line and what was expected there."""
    file = yamlfile.load(path)
    file.value("credentials", None)  # read by flowwarden.credentials.rules
    file.value("notify", None)  # read by flowwarden.approval.notify
    issuers: dict[str, IssuerRules] = {}
    for entry in file.sections("issuers"):
        parsed = _issuer(entry, path.parent)
        if parsed.issuer in issuers:
            raise entry.error(f"issuer {parsed.issuer!r} is listed twice", "issuer")
        issuers[parsed.issuer] = parsed
    if not issuers:
        raise file.error("'issuers' is empty, so nobody could sign in", "issuers", "List at least one OIDC issuer.")
    rules = IdentityRules(
        MappingProxyType(issuers),
        _sessions(file.section("sessions", None)),
        MappingProxyType(_roles(file.section("roles", None))),
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    file.finish()
    return rules


def safe_url(url: str) -> bool:
    """Whether keys or tokens may be fetched from there: https, or http on this very machine."""
    parts = urlsplit(url)
    if parts.username or parts.password or not parts.hostname or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _issuer(entry: Section, base: Path) -> IssuerRules:
    issuer = entry.text("issuer")
    if not safe_url(issuer):
        raise entry.error(
            f"'issuer' has to be an https:// URL, not {issuer!r}", "issuer", "http:// is taken for loopback only."
        )
    audience = entry.text("audience")
    if not audience:
        raise entry.error("'audience' must not be empty", "audience")
    algorithms = entry.texts("algorithms", ("RS256", "ES256"))
    unknown = [name for name in algorithms if name not in ALGORITHMS]
    if unknown or not algorithms:
        what = f"{unknown[0]!r} is not an asymmetric algorithm" if unknown else "'algorithms' must not be empty"
        raise entry.error(what, "algorithms", f"Known: {', '.join(ALGORITHMS)}.")
    lifetime = entry.duration("max_lifetime", "12h")
    if lifetime <= 0:
        raise entry.error("'max_lifetime' has to be longer than zero", "max_lifetime")
    parsed = IssuerRules(
        issuer=issuer,
        audience=audience,
        jwks=_jwks(entry, base),
        algorithms=algorithms,
        groups_claim=entry.text("groups_claim", "groups"),
        agent_claim=entry.text("agent_claim", "azp"),
        owner_claim=entry.text("owner_claim", "owner"),
        max_lifetime=lifetime,
        client_id=entry.text("client_id", ""),
        client_secret_file=_file(entry, "client_secret_file", base),
        scopes=entry.texts("scopes", ("openid", "profile", "email")),
    )
    entry.finish()
    return parsed


def _jwks(entry: Section, base: Path) -> str:
    jwks = entry.text("jwks", "")
    if "://" in jwks:
        if not safe_url(jwks):
            raise entry.error(
                f"'jwks' has to be an https:// URL or a file, not {jwks!r}", "jwks", "http:// is for loopback only."
            )
        return jwks
    return _file(entry, "jwks", base)


def _file(entry: Section, key: str, base: Path) -> str:
    """A file's path, from the rule file's folder; empty where none is named."""
    name = entry.text(key, "")
    path = base / name
    if name and not path.is_file():
        raise entry.error(f"{key!r}: there is no file {str(path)!r}", key)
    return str(path) if name else ""


def _sessions(section: Section) -> SessionRules:
    idle = section.value("idle", "off")
    rules = SessionRules(
        ttl=section.duration("ttl", "1h"),
        max=section.duration("max", "12h"),
        idle=0.0 if idle in ("off", False) else section.duration("idle"),
        phantoms=section.choice("phantoms", ("required", "optional"), "required"),
        dummy_key=section.text("dummy_key", SessionRules.dummy_key),
    )
    section.finish()
    if rules.ttl <= 0:
        raise section.error("'ttl' has to be longer than zero", "ttl")
    if rules.max < rules.ttl:
        raise section.error("'max' must not be shorter than 'ttl'", "max" if "max" in section else "ttl")
    return rules


def _roles(section: Section) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for name in ROLES:
        if name not in section:
            continue
        entry = section.section(name)
        entry.where = f"role {name!r}"
        role = Role(frozenset(entry.texts("groups", ())), frozenset(entry.texts("principals", ())))
        entry.finish()
        if not role.groups and not role.principals:
            raise section.error(f"role {name!r} names nobody", name, "Give it groups: [...] or principals: [...].")
        roles[name] = role
    section.finish()
    return roles
