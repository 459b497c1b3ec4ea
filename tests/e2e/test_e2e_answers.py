"""What AWS hands out in its answers: credentials become phantoms that work here, presigned URLs of its own pass as they are."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from support.clients import Keys, boto_client, sign
from support.gateway import REGION
from support.sigv4_judge import Refused, Secret
from support.strict_aws import Answer, Exchange
from support.way import Way

JSON = {"content-type": "application/x-amz-json-1.1"}


def as_agent(alice: dict[str, str], found: dict[str, str], name: str = "SecretAccessKey") -> dict[str, str]:
    """The environment of a process that uses what an answer gave it."""
    return alice | {
        "AWS_ACCESS_KEY_ID": next(found[name] for name in ("AccessKeyId", "accessKeyId") if name in found),
        "AWS_SECRET_ACCESS_KEY": next(found[each] for each in (name, "secretAccessKey") if each in found),
        "AWS_SESSION_TOKEN": next(found[name] for name in ("SessionToken", "sessionToken") if name in found),
    }


def works(way: Way, env: dict[str, str], real: Secret) -> None:
    """The phantom has the real one's shape, works through the gateway, and AWS sees the real one."""
    for shown, kept in zip(
        (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_SESSION_TOKEN"]),
        (real.key_id, real.secret, real.token),
        strict=True,
    ):
        assert shown != kept and len(shown) == len(kept)
    assert env["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    boto_client("dynamodb", env).list_tables()
    assert way.calls[-1].key_id == real.key_id and way.calls[-1].state == "accepted"
    with pytest.raises(ClientError, match="keep-buckets"):
        boto_client("s3", env).delete_bucket(Bucket="bucket")


def test_get_session_token(way: Way, alice: dict[str, str]) -> None:
    known = set(way.aws.secrets)
    made = boto_client("sts", alice).get_session_token()["Credentials"]
    (real,) = [secret for key, secret in way.aws.secrets.items() if key not in known and secret.session is None]
    works(way, as_agent(alice, made), real)


def test_get_federation_token(way: Way, alice: dict[str, str]) -> None:
    real = way.aws.new_key(token=True)
    xml = (
        '<GetFederationTokenResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetFederationTokenResult>'
        f"<Credentials><AccessKeyId>{real.key_id}</AccessKeyId><SecretAccessKey>{real.secret}</SecretAccessKey>"
        f"<SessionToken>{real.token}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
        "</GetFederationTokenResult></GetFederationTokenResponse>"
    )
    way.aws.answer(lambda seen: (200, {"content-type": "text/xml"}, xml.encode()) if seen.service == "sts" else None)
    works(way, as_agent(alice, boto_client("sts", alice).get_federation_token(Name="me")["Credentials"]), real)


def test_sso_role_credentials(way: Way, alice: dict[str, str]) -> None:
    """An operation without a signature: its own token is in a header."""
    real = way.aws.new_key(token=True)
    way.aws.unsigned_ok.add("")
    body = {
        "roleCredentials": {
            "accessKeyId": real.key_id,
            "secretAccessKey": real.secret,
            "sessionToken": real.token,
            "expiration": int(time.time() + 3600) * 1000,
        }
    }
    way.aws.answer(
        lambda seen: (
            (200, {"content-type": "application/json"}, json.dumps(body).encode())
            if seen.path.startswith("/federation/credentials")
            else None
        )
    )
    try:
        found = boto_client("sso", alice).get_role_credentials(
            roleName="r", accountId="123456789012", accessToken="made-up"
        )
    finally:
        way.aws.unsigned_ok.discard("")
    works(way, as_agent(alice, found["roleCredentials"]), real)


def test_cognito_credentials(way: Way, alice: dict[str, str]) -> None:
    real = way.aws.new_key(token=True)
    way.aws.unsigned_ok.add("GetCredentialsForIdentity")
    body = {
        "IdentityId": f"{REGION}:1",
        "Credentials": {
            "AccessKeyId": real.key_id,
            "SecretKey": real.secret,
            "SessionToken": real.token,
            "Expiration": time.time() + 3600,
        },
    }
    way.aws.answer(
        lambda seen: (200, JSON, json.dumps(body).encode()) if seen.action == "GetCredentialsForIdentity" else None
    )
    client = boto_client("cognito-identity", alice, config=Config(signature_version=UNSIGNED))
    found = client.get_credentials_for_identity(IdentityId=f"{REGION}:1")["Credentials"]
    way.aws.unsigned_ok.discard("GetCredentialsForIdentity")
    works(way, as_agent(alice, found, "SecretKey"), real)


def test_they_are_of_their_session_alone(way: Way, alice: dict[str, str], bob: dict[str, str]) -> None:
    made = boto_client("sts", alice).get_session_token()["Credentials"]
    way.aws.forget()
    with pytest.raises(ClientError) as caught:
        boto_client("dynamodb", as_agent(bob, made)).list_tables()
    assert caught.value.response["Error"]["Code"] in {"InvalidClientTokenId", "UnrecognizedClientException"}
    assert way.calls == []


# -- presigned URLs ----------------------------------------------------------------------------------------------------


def presigned(way: Way, host: str) -> str:
    """A URL that AWS signed with a key of its own."""
    key = way.aws.new_key(token=True)
    url = f"https://{host}/snapshots/123456789012/f?versionId=x"
    target, _ = sign(Keys(key.key_id, key.secret, key.token), "GET", url, service="s3", region=REGION, presign=600)
    way.aws.answer(
        lambda seen: (
            (200, {"content-type": "application/zip"}, b"PK-layer")
            if seen.path.startswith("/snapshots/") and seen.signed is not None
            else None
        )
    )
    return f"https://{host}{target}"


def fetched(way: Way, env: dict[str, str], url: str) -> Any:
    parts = urlsplit(url)
    assert parts.hostname
    with way.tunnel(env, parts.hostname) as client:
        return client.request("GET", f"{parts.path}?{parts.query}", [("Host", parts.hostname)])


def hands_out(service: str, body: Any) -> Any:
    def answer(exchange: Exchange) -> Answer | None:
        return (200, JSON, json.dumps(body).encode()) if exchange.service == service else None

    return answer


@pytest.mark.parametrize("which", ["lambda", "ecr"])
def test_a_url_of_awss_own_passes_as_it_is(way: Way, alice: dict[str, str], bob: dict[str, str], which: str) -> None:
    """Code.Location and ECR's layers are signed by AWS: nothing of them is changed, and the fetch is recorded."""
    bucket = {"lambda": "awslambda-eu-cent-1-tasks", "ecr": "prod-eu-central-1-starport-layer-bucket"}[which]
    url = presigned(way, f"{bucket}.s3.{REGION}.amazonaws.com")
    assert fetched(way, alice, url).status == 403, "nobody handed it out yet"
    assert way.calls == []
    if which == "lambda":
        way.aws.answer(hands_out("lambda", {"Code": {"RepositoryType": "S3", "Location": url}}))
        shown = boto_client("lambda", alice).get_function(FunctionName="f")["Code"]["Location"]
    else:
        way.aws.answer(hands_out("ecr", {"downloadUrl": url, "layerDigest": "sha256:" + "0" * 64}))
        digest = "sha256:" + "0" * 64
        shown = boto_client("ecr", alice).get_download_url_for_layer(repositoryName="repo", layerDigest=digest)[
            "downloadUrl"
        ]
    assert shown == url
    way.aws.seen.clear()
    before = len(way.gateway.evidence())
    reply = fetched(way, alice, url)
    assert (reply.status, reply.body) == (200, b"PK-layer"), reply.text
    (seen,) = way.calls
    assert f"https://{seen.host}{seen.target}" == url and seen.presigned and seen.state == "accepted"
    records = way.gateway.evidence()[before:]
    assert any("issued-url" in json.dumps(record) for record in records if record["type"] == "intent")
    assert url.rpartition("X-Amz-Signature=")[2] not in json.dumps(records)
    for env, other in ((bob, url), (alice, url.replace("versionId=x", "versionId=y"))):
        assert fetched(way, env, other).status == 403
    assert len(way.calls) == 1


# -- the lease (fault 42) ----------------------------------------------------------------------------------------------


def test_a_lease_that_cannot_be_renewed(way: Way) -> None:
    """It ends while STS fails: 503 with the reason, and nothing leaves, neither unsigned nor with the phantom."""
    env = way.gateway.session(subject="lapsed")
    way.aws.sts.lasts = 21.0  # of which the last twenty are not used: a call has to reach AWS
    boto_client("dynamodb", env).list_tables()
    way.aws.sts.refuse = Refused("ServiceUnavailable", "not now", 503)
    way.aws.sts.lasts = None
    try:
        end = time.monotonic() + 30
        while True:
            way.aws.seen.clear()
            try:
                boto_client("dynamodb", env).list_tables()
            except ClientError as error:
                caught = error.response
                break
            assert time.monotonic() < end
    finally:
        way.aws.sts.refuse = None
    assert caught["ResponseMetadata"]["HTTPStatusCode"] == 503 and "STS" in caught["Error"]["Message"]
    assert not [seen for seen in way.aws.seen if seen.service == "dynamodb"]
