"""Key ids that nobody published, in a real gateway: the issuer is left alone, and others work on."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from flowwarden.identity.keys import BURST
from support.clients import boto_client
from support.gateway import GatewayProcess
from support.issuer import Key, OidcIssuer
from support.strict_aws import StrictAws


def test_a_flood_of_unknown_key_ids(start_gateway: Callable[..., GatewayProcess]) -> None:
    """Two hundred made-up ids at once cause a few look-ups (fault 30); a warm gateway needs no issuer (fault 27)."""
    with OidcIssuer() as issuer, StrictAws(open_sts=True) as aws:
        gateway = start_gateway(sandbox=aws.url, issuer=issuer)
        env = gateway.session()
        before, stranger = issuer.fetches, Key("ES256")

        def knock(number: int) -> int:
            token = issuer.encode(issuer.claims(), stranger, kid=f"made-up-{number}")
            status, body = gateway.internal("POST", "/session", bearer=token)
            assert json.loads(body)["error"]["code"] == "InvalidToken"
            return status

        with ThreadPoolExecutor(8) as pool:
            flood = [pool.submit(knock, number) for number in range(200)]
            sts = boto_client("sts", env)
            assert all(sts.get_caller_identity()["Account"] for _ in range(5))
            assert gateway.session(subject="bob")["FLOWWARDEN_HANDLE"]
            assert {done.result(60) for done in flood} == {401}
        assert issuer.fetches - before <= BURST
        issuer.down = True
        assert gateway.session(subject="carol")["FLOWWARDEN_HANDLE"], "the keys it has go on serving"
        assert sts.get_caller_identity()["Account"]
