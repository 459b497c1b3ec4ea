"""The issuer's tokens are judged by PyJWT."""

from __future__ import annotations

import json
import urllib.request

import jwt
import pytest

from .issuer import OidcIssuer


def test_tokens_are_what_they_say(issuer: OidcIssuer) -> None:
    keys = jwt.PyJWKSet.from_dict(json.load(urllib.request.urlopen(f"{issuer.url}/keys")))

    def check(token: str) -> dict[str, object]:
        key = keys[jwt.get_unverified_header(token)["kid"]]
        found: dict[str, object] = jwt.decode(token, key, algorithms=["RS256", "ES256"], audience="flowwarden")
        return found

    assert check(issuer.token("bob", ("sre",)))["groups"] == ["sre"]
    assert check(issuer.encode(issuer.claims("eve"), issuer.keys[1]))["sub"] == "eve"
    for wrong, error in (
        (issuer.expired(), jwt.ExpiredSignatureError),
        (issuer.wrongly_signed(), jwt.InvalidSignatureError),
        (issuer.token(aud="else"), jwt.InvalidAudienceError),
        (issuer.confused(), jwt.InvalidAlgorithmError),
    ):
        with pytest.raises(error):
            check(wrong)
    assert issuer.unsigned().endswith(".") and jwt.get_unverified_header(issuer.unsigned())["alg"] == "none"
