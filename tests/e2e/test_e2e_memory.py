"""One session cannot take all of the gateway's memory: with large bodies under way its next call has to come again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from support.clients import Keys, boto_client, eventually, sign
from support.gateway import REGION, GatewayProcess
from support.issuer import OidcIssuer
from support.way import Way

HOST = f"dynamodb.{REGION}.amazonaws.com"
ITEM = {"k": {"S": "a" * 250_000}}


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    options = {"warden_body_limit": "300k", "warden_session_memory": "300k", "warden_memory": "700k"}
    with Way.opened(tmp_path_factory.mktemp("memory"), issuer, options=options) as way:
        yield way


def test_a_session_has_its_share(small: Way) -> None:
    """The call beyond it gets 503 SlowDown, which the SDK sends again; another session is not held up."""
    alice, bob = (small.gateway.session(subject=name) for name in ("alice", "bob"))
    body = b'{"TableName":"t","Item":{"k":{"S":"' + b"b" * 250_000 + b'"}}}'
    fields = (("Content-Type", "application/x-amz-json-1.0"), ("X-Amz-Target", "DynamoDB_20120810.PutItem"))
    target, head = sign(
        Keys.of(alice), "POST", f"https://{HOST}/", service="dynamodb", region=REGION, fields=fields, body=body
    )
    with small.tunnel(alice, HOST) as client:
        client.stream.send_head(f"POST {target} HTTP/1.1", [*head, ("Content-Length", str(len(body)))])
        client.send(body[:-1])

        def answer() -> tuple[str, int] | None:
            try:
                boto_client("dynamodb", alice).put_item(TableName="t", Item=ITEM)
            except ClientError as error:
                return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            return None  # the first part of the body may not have been read yet

        assert eventually(answer, what="a refusal") == ("SlowDown", 503)
        boto_client("dynamodb", bob).put_item(TableName="t", Item=ITEM)
        again = boto_client("dynamodb", alice, attempts=5)
        refused = []

        def finish(response: object, **_more: object) -> None:
            if response is not None and response[0].status_code == 503 and not refused:  # type: ignore[index]
                refused.append(response)
                client.send(body[-1:])
                assert client.reply("POST").status == 200

        again.meta.events.register("needs-retry.dynamodb.PutItem", finish)
        again.put_item(TableName="t", Item=ITEM)
        assert refused
    assert not small.aws.refused


@pytest.mark.parametrize("sizes", [("1m", "512k", "2m"), ("32m", "64m", "48m")])
def test_bounds_that_cannot_be_kept_stop_the_start(issuer: OidcIssuer, tmp_path, sizes: tuple[str, str, str]) -> None:  # type: ignore[no-untyped-def]
    names = ("warden_body_limit", "warden_session_memory", "warden_memory")
    gateway = GatewayProcess(
        tmp_path, issuer, sandbox="http://127.0.0.1:1", options=dict(zip(names, sizes, strict=True))
    )
    with pytest.raises(RuntimeError, match="warden_session_memory and warden_memory have to rise"):
        gateway.start()
