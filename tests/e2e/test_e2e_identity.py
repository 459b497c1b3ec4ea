"""Who calls: missing, bad, expired and revoked credentials, and keys that belong to somebody else."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, ProxyConnectionError

from support.clients import Keys, boto_client, eventually, sign
from support.gateway import REGION, identity
from support.strict_aws import StrictAws
from support.way import Way

STS = "https://sts.eu-central-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def proxied(way: Way, env: dict[str, str], credential: str) -> dict[str, str]:
    return env | {"HTTPS_PROXY": way.gateway.proxy(credential), "FLOWWARDEN_HANDLE": credential}


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_without_a_token_the_tunnel_is_refused_with_407(way: Way, alice: dict[str, str]) -> None:
    with way.gateway.client() as client:
        head = client.connect("sts.eu-central-1.amazonaws.com:443")
    assert head.status == 407 and head.get("proxy-authenticate").startswith("Basic")
    env = alice | {"HTTPS_PROXY": f"http://127.0.0.1:{way.gateway.port}"}
    with pytest.raises(ProxyConnectionError):
        boto_client("sts", env).get_caller_identity()
    assert way.calls == []


def test_without_a_token_and_without_a_tunnel_too(way: Way) -> None:
    with way.gateway.client() as client:
        reply = client.request("GET", "http://packages.example.com/simple/x/", [("Host", "packages.example.com")])
    assert reply.status == 407
    assert way.calls == []


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("expired", "ExpiredToken"),
        ("wrongly_signed", "InvalidToken"),
        ("unsigned", "InvalidToken"),
        ("confused", "InvalidToken"),
        ("audience", "InvalidToken"),
        ("issuer", "InvalidToken"),
        ("subject", "InvalidToken"),
        ("too long", "InvalidToken"),
        ("unknown handle", "InvalidToken"),
    ],
)
def test_a_bad_token_is_answered_in_the_protocols_own_form(
    way: Way, alice: dict[str, str], kind: str, expected: str
) -> None:
    """The tunnel is accepted, because SDKs hide a 407; each call in it is answered with a code that they print."""
    issuer = way.issuer
    now = int(issuer.claims()["iat"])
    token = {
        "expired": issuer.expired,
        "wrongly_signed": issuer.wrongly_signed,
        "unsigned": issuer.unsigned,
        "confused": issuer.confused,
        "audience": lambda: issuer.token(aud="else"),
        "issuer": lambda: issuer.token(iss="https://else.example.com"),
        "subject": lambda: issuer.token(sub=None),
        "too long": lambda: issuer.token(exp=now + 13 * 3600),
        "unknown handle": lambda: "fwh_" + "A" * 43,
    }[kind]()
    env = proxied(way, alice, token)
    for service, method in (("sts", "get_caller_identity"), ("s3", "list_buckets"), ("dynamodb", "list_tables")):
        with pytest.raises(ClientError) as caught:
            getattr(boto_client(service, env), method)()
        assert code(caught) == expected
        assert caught.value.response["Error"]["Message"]
        assert token not in str(caught.value)
    assert way.calls == []


def test_a_token_as_proxy_password_starts_a_session_by_itself(way: Way) -> None:
    """CI and fixed environments: the OIDC token is the password, the keys come from /credentials."""
    import json

    token = way.issuer.token("grace")
    status, body = way.gateway.internal("GET", "/credentials", credential=token)
    assert status == 200, body
    made = json.loads(body)
    env = way.gateway.environment({"handle": token, "credentials": made})
    assert boto_client("sts", env).get_caller_identity()["Account"] == "123456789012"


def test_keys_of_another_session_are_refused(way: Way, alice: dict[str, str], bob: dict[str, str]) -> None:
    mixed = alice | {name: bob[name] for name in KEYS}
    with pytest.raises(ClientError) as caught:
        boto_client("sts", mixed).get_caller_identity()
    assert code(caught) in {"InvalidClientTokenId", "AccessDenied"}
    assert way.calls == []


def test_a_real_key_is_refused(way: Way, alice: dict[str, str]) -> None:
    """A key that AWS would accept is nothing here: an agent that found one cannot use it."""
    real = way.aws.new_key()
    env = alice | {"AWS_ACCESS_KEY_ID": real.key_id, "AWS_SECRET_ACCESS_KEY": real.secret, "AWS_SESSION_TOKEN": ""}
    for service, method in (("sts", "get_caller_identity"), ("s3", "list_buckets")):
        with pytest.raises(ClientError) as caught:
            getattr(boto_client(service, env), method)()
        assert code(caught) in {"InvalidClientTokenId", "InvalidAccessKeyId"}
    assert way.calls == []


def test_two_sessions_never_see_each_others_lease(way: Way, alice: dict[str, str], bob: dict[str, str]) -> None:
    arns = {boto_client("sts", env).get_caller_identity()["Arn"] for env in (alice, bob, alice, bob)}
    assert len(arns) == 2
    assert len({seen.key_id for seen in way.calls}) == 2


def test_an_ended_session_ends_inside_its_tunnel(way: Way) -> None:
    """The credential is checked on every request, not only at CONNECT."""
    env = way.gateway.session(subject="heidi")
    target, fields = sign(Keys.of(env), "GET", STS, service="sts", region=REGION)
    with way.tunnel(env, "sts.eu-central-1.amazonaws.com") as client:
        assert client.request("GET", target, fields).status == 200
        status, _ = way.gateway.internal("DELETE", "/session", credential=env["FLOWWARDEN_HANDLE"])
        assert status == 200
        reply = client.request("GET", target, fields)
    assert reply.status in {400, 401, 403}
    assert "<Code>ExpiredToken</Code>" in reply.text or "<Code>InvalidToken</Code>" in reply.text
    assert len(way.calls) == 1


def test_a_revoked_principal_is_out_with_every_session_and_token(way: Way) -> None:
    token = way.issuer.token("ivan")
    first, second = way.gateway.session(token), way.gateway.session(subject="ivan")
    assert boto_client("sts", first).get_caller_identity()
    admin = way.issuer.token("root", ("platform",))
    path = f"/sessions/{first['FLOWWARDEN_SESSION']}?principal=1"
    status, answer = way.gateway.operators("DELETE", path, admin)
    assert status == 200, answer
    for env in (first, second):
        with pytest.raises(ClientError) as caught:
            boto_client("sts", env).get_caller_identity()
        assert code(caught) in {"ExpiredToken", "InvalidToken"}
    assert way.gateway.internal("POST", "/session", bearer=token)[0] in {401, 403}


def test_a_session_expires_inside_its_tunnel(start_gateway, issuer, strict_aws: StrictAws) -> None:  # type: ignore[no-untyped-def]
    """The next call after the end gets ExpiredToken."""
    strict_aws.open_sts = True
    rules = identity(issuer, sessions={"ttl": "2s", "max": "1h"})
    gateway = start_gateway(sandbox=strict_aws.url, identity_rules=rules)
    env = gateway.session()
    with gateway.client(env["FLOWWARDEN_HANDLE"]) as client:
        client.tunnel("sts.eu-central-1.amazonaws.com")

        def ask() -> str:
            target, fields = sign(Keys.of(env), "GET", STS, service="sts", region=REGION)
            reply = client.request("GET", target, fields)
            return "" if reply.status == 200 else reply.text

        assert ask() == "", "the session ended before it began"
        assert "<Code>ExpiredToken</Code>" in eventually(ask, what="the session's end")


def test_keys_that_cannot_be_fetched_refuse_newcomers(start_gateway, strict_aws: StrictAws) -> None:  # type: ignore[no-untyped-def]
    """Cold: refused. Nobody comes in because the issuer is down."""
    from support.issuer import OidcIssuer

    strict_aws.open_sts = True
    with OidcIssuer() as issuer:
        issuer.down = True
        gateway = start_gateway(sandbox=strict_aws.url, issuer=issuer)
        status, body = gateway.internal("POST", "/session", bearer=issuer.token())
        assert status in {401, 403, 503}, body
        issuer.down = False
        assert eventually(lambda: gateway.internal("POST", "/session", bearer=issuer.token())[0] == 201)


def test_nobody_reaches_another_session_over_flowwarden_internal(
    way: Way, alice: dict[str, str], bob: dict[str, str]
) -> None:
    """Nothing there lists, approves or shows another session; the rules are not there either."""
    handle = alice["FLOWWARDEN_HANDLE"]
    other = bob["FLOWWARDEN_SESSION"]
    asked = [
        ("GET", f"/sessions/{other}"),
        ("GET", "/sessions"),
        ("GET", f"/session/{other}"),
        ("GET", f"/session?id={other}"),
        ("GET", "/approvals"),
        ("GET", "/approvals/ap-aaaaaaaaaaaa"),
        ("POST", "/approvals/ap-aaaaaaaaaaaa/answer"),
        ("GET", "/rules"),
        ("GET", "/metrics"),
        ("GET", "/health"),
        ("GET", "/../sessions"),
        ("GET", "//sessions"),
        ("GET", "/ca.pem/../whoami"),
    ]
    for method, path in asked:
        status, body = way.gateway.internal(method, path, credential=handle)
        assert status in {400, 401, 403, 404, 405}, (path, status)
        assert other.encode() not in body and bob["AWS_ACCESS_KEY_ID"].encode() not in body
    status, body = way.gateway.internal("GET", "/whoami", credential=handle)
    assert status == 200 and b"alice" in body
    for path in ("/whoami", "/credentials"):
        status, body = way.gateway.internal("GET", path)
        assert status in {401, 407} and b"alice" not in body
    assert way.calls == []
