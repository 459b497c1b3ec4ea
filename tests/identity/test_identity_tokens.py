"""Tokens: each known weakness of token libraries, against an issuer that makes any token by hand."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import oidc_provider_mock
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from flowwarden.errors import TokenError
from flowwarden.identity.rules import IdentityRules, IssuerRules
from flowwarden.identity.tokens import MAX_TOKEN, Verifier, looks_like_token, token_hash
from support.issuer import Key, OidcIssuer, b64


def rules(issuer: OidcIssuer, **changes: Any) -> IdentityRules:
    found = replace(IssuerRules(issuer.url, issuer.audience, jwks=f"{issuer.url}/keys"), **changes)
    return IdentityRules({issuer.url: found})


def verify(issuer: OidcIssuer, token: str, now: float | None = None, **changes: Any) -> Any:
    clock = time.time if now is None else lambda: now
    return asyncio.run(Verifier(rules(issuer, **changes), clock=clock).verify(token))


def refused(issuer: OidcIssuer, token: str, code: str = "InvalidToken", **changes: Any) -> str:
    with pytest.raises(TokenError) as found:
        verify(issuer, token, **changes)
    assert found.value.code == code
    assert token not in str(found.value)
    return str(found.value)


def test_a_good_token_is_a_principal(issuer: OidcIssuer) -> None:
    """Every claim that the rules name arrives in the principal, under RS256 and ES256."""
    claims = issuer.claims("alice", ("developers", "eu"), email="Alice@Example.com", name="Alice A.", jti="t1")
    for key in issuer.keys:
        found = verify(issuer, issuer.encode(claims, key))
        assert found.principal.issuer == issuer.url == found.issuer
        assert found.principal.subject == "alice" == found.subject
        assert found.principal.groups == {"developers", "eu"}
        assert found.principal.agent == "agent-one"
        assert found.principal.owner == "alice-owner"
        assert found.principal.aliases == {"alice@example.com"}
        assert found.principal.name == "Alice A."
        assert (found.token_id, found.issued, found.expires) == ("t1", claims["iat"], claims["exp"])


def test_discovery_file_and_provider_of_its_own(tmp_path: Path, issuer: OidcIssuer) -> None:
    """Keys come by discovery, from a file, and from an OIDC provider that this project did not write."""
    assert verify(issuer, issuer.token(), jwks="").subject == "alice"
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [key.jwk() for key in issuer.keys]}))
    assert verify(issuer, issuer.token(), jwks=str(file)).subject == "alice"


def test_tokens_of_oidc_provider_mock() -> None:
    """A real provider's id token (its `aud` is a list of one) is verified through discovery."""
    import http.client
    from urllib.parse import parse_qs, urlencode, urlsplit

    user = oidc_provider_mock.User(sub="alice", claims={"groups": ["sre"], "email": "alice@example.com"})
    with oidc_provider_mock.run_server_in_thread(user_claims=[user]) as server:
        url = f"http://localhost:{server.server_port}"
        link = http.client.HTTPConnection("localhost", server.server_port)
        where = {"client_id": "flowwarden", "redirect_uri": "http://localhost/cb", "response_type": "code"}
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        link.request(
            "POST",
            "/oauth2/authorize?" + urlencode({**where, "scope": "openid email"}),
            urlencode({"sub": "alice"}),
            form,
        )
        answer = link.getresponse()
        answer.read()
        code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
        grant = {**where, "grant_type": "authorization_code", "code": code, "client_secret": "x"}
        link.request("POST", "/oauth2/token", urlencode(grant), form)
        token = json.loads(link.getresponse().read())["id_token"]
        found = asyncio.run(Verifier(IdentityRules({url: IssuerRules(url, "flowwarden")})).verify(token))
        assert found.principal.groups == {"sre"}
        assert found.subject == "alice"


def test_signatures(issuer: OidcIssuer) -> None:
    """None, a public key as HMAC secret, a stranger's key, a changed byte: none of them is the issuer's signature."""
    assert "signature" in refused(issuer, issuer.wrongly_signed())
    refused(issuer, issuer.unsigned())
    refused(issuer, issuer.confused())
    head, body, signature = issuer.token().split(".")
    claims = issuer.claims("mallory")
    refused(issuer, f"{head}.{b64(json.dumps(claims).encode())}.{signature}")
    refused(issuer, f"{head}.{body}.")


def test_a_tokens_own_key_is_not_asked(issuer: OidcIssuer) -> None:
    """jwk, jku, x5u in the header name no key (RFC 8725 §3.10): only the issuer's published ones count."""
    mine = Key("RS256")
    for header in ({"jwk": mine.jwk()}, {"jku": "http://127.0.0.1:1/keys"}, {"x5u": "http://127.0.0.1:1/"}):
        refused(issuer, issuer.encode(issuer.claims(), mine, **header))
        refused(issuer, issuer.encode(issuer.claims(), mine, **header, kid=issuer.keys[0].id))


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp", "iat"])
def test_required_claims(issuer: OidcIssuer, name: str) -> None:
    """PyJWT takes tokens without them; this gateway does not."""
    refused(
        issuer,
        issuer.token(**{name: None})
        if name != "sub"
        else issuer.encode({k: v for k, v in issuer.claims().items() if k != "sub"}, issuer.keys[0]),
    )


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"aud": ["flowwarden", "other"]},
        {"aud": []},
        {"aud": {"flowwarden": 1}},
        {"iss": "https://idp.example.com"},
        {"iss": 7},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 1e300},
        {"iat": -5},
        {"groups": {"sre": True}},
        {"groups": [["sre"]]},
        {"groups": ["g"] * 1001},
        {"owner": ["x"]},
        {"jti": 7},
    ],
)
def test_claims_of_a_wrong_kind(issuer: OidcIssuer, claims: dict[str, Any]) -> None:
    """What is malformed is refused, not read as something close to it."""
    refused(issuer, issuer.encode(issuer.claims() | claims, issuer.keys[0]))


@pytest.mark.parametrize(
    "header", [{"typ": "logout+jwt"}, {"typ": 7}, {"crit": ["exp"]}, {"b64": True}, {"kid": 7}, {"zip": "DEF"}]
)
def test_headers(issuer: OidcIssuer, header: dict[str, Any]) -> None:
    """A token made for something else, or with extensions nobody here knows, signs nobody in."""
    refused(issuer, issuer.encode(issuer.claims(), issuer.keys[0], **header))


def test_times_to_the_second(issuer: OidcIssuer) -> None:
    """Ten seconds of leeway at either end, no more; and a life longer than max_lifetime is refused altogether."""
    now = 1_800_000_000.0
    token = issuer.token(iat=int(now), nbf=int(now), exp=int(now) + 600)
    assert verify(issuer, token, now=now + 609).expires == now + 600
    assert "expired at 2027-01-15T" in refused(issuer, token, "ExpiredToken", now=now + 610)
    assert verify(issuer, token, now=now - 10).issued == now
    refused(issuer, token, now=now - 11)
    refused(issuer, issuer.token(iat=int(now), nbf=int(now) + 60, exp=int(now) + 600), now=now)
    exact = issuer.token(iat=int(now), nbf=int(now), exp=int(now) + 43200)
    assert verify(issuer, exact, now=now)
    refused(issuer, issuer.token(iat=int(now), nbf=int(now), exp=int(now) + 43201), now=now)
    refused(issuer, issuer.token(iat=int(now), nbf=int(now), exp=int(now)), now=now - 5)


def test_duplicate_keys(issuer: OidcIssuer) -> None:
    """A claim or header that stands twice means different things to different readers."""

    def signed(head: str, body: str) -> str:
        text = f"{b64(head.encode())}.{b64(body.encode())}"
        return f"{text}.{b64(issuer.keys[0].sign(text.encode()))}"

    head = json.dumps({"alg": "RS256", "kid": issuer.keys[0].id})
    body = json.dumps(issuer.claims())
    assert verify(issuer, signed(head, body))
    refused(issuer, signed(head, body[:-1] + ', "sub": "root"}'))
    refused(issuer, signed(head[:-1] + ', "alg": "RS256"}', body))
    refused(issuer, signed(head, body[:-1] + ', "x": {"a": 1, "a": 2}}'))
    refused(issuer, signed(head, body[:-1] + ', "x": NaN}'))
    refused(issuer, signed(head, "[" * 5000 + "]" * 5000))


def test_size(issuer: OidcIssuer) -> None:
    """16 KiB and not a byte more, before anything is parsed."""
    long = issuer.token(pad="x" * MAX_TOKEN)
    assert "longer than" in refused(issuer, long)


def test_a_token_without_jti_has_an_id_that_cannot_be_varied(issuer: OidcIssuer) -> None:
    """An ECDSA signature (r, s) has a twin (r, n - s): two spellings of one token have one id, so it can be revoked."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    token = issuer.encode(issuer.claims(jti=None), issuer.keys[1])
    found = verify(issuer, token)
    assert found.token_id.startswith("sha256:")
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    twin = f"{signed}.{b64(raw[:32] + (order - int.from_bytes(raw[32:], 'big')).to_bytes(32, 'big'))}"
    assert token_hash(twin) != token_hash(token)
    assert verify(issuer, twin).token_id == found.token_id


def test_rsa_1024_is_no_key(issuer: OidcIssuer) -> None:
    """A published key that can be factored proves nothing."""
    weak = Key("RS256")
    weak._rsa = rsa.generate_private_key(65537, 1024)  # noqa: S505 that is the point
    issuer.keys.append(weak)
    try:
        assert "does not publish" in refused(issuer, issuer.encode(issuer.claims(), weak))
    finally:
        issuer.keys.remove(weak)


def test_algorithms_by_list(issuer: OidcIssuer) -> None:
    """An algorithm that the rules do not list is refused though the key is published."""
    token = issuer.encode(issuer.claims(), issuer.keys[1])
    assert verify(issuer, token, algorithms=("ES256",))
    assert "not RS256" in refused(issuer, token, algorithms=("RS256",))


@given(
    st.text(max_size=200)
    | st.builds(".".join, st.lists(st.text("ABCxyz019-_=ey.", max_size=40), min_size=3, max_size=3))
)
def test_anything_else_is_refused(text: str) -> None:
    """Whatever stands where a token should stand is a TokenError, never a traceback."""
    verifier = Verifier(IdentityRules({}))
    with pytest.raises(TokenError):
        asyncio.run(verifier.verify(text))


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_json_in_header_and_claims(head: bytes, body: bytes) -> None:
    verifier = Verifier(IdentityRules({"x": IssuerRules("x", "y")}), fetch=lambda url: b"{}")
    for claims in (body, b'{"iss":"x","a":"' + base64.b64encode(body) + b'"}'):
        with pytest.raises(TokenError):
            asyncio.run(verifier.verify(f"{b64(head)}.{b64(claims)}.x"))


def test_claim_names_with_dots_and_paths(issuer: OidcIssuer) -> None:
    """`cognito:groups`, a URL as a name, and Keycloak's nested roles are all reachable."""
    token = issuer.token(**{"https://x.example/groups": ["a"], "realm_access": {"roles": ["b"]}})
    assert verify(issuer, token, groups_claim="https://x.example/groups").principal.groups == {"a"}
    assert verify(issuer, token, groups_claim="realm_access.roles").principal.groups == {"b"}
    assert verify(issuer, token, groups_claim="missing.roles").principal.groups == frozenset()


def test_tokens_and_handles_are_told_apart(issuer: OidcIssuer) -> None:
    assert looks_like_token(issuer.token())
    assert not looks_like_token("fwh_abc")
