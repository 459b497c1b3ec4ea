"""What AWS does wrong, and what is never to be found afterwards: the real credentials, anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support.clients import boto_client, eventually
from support.strict_aws import Answer, Exchange, Reset
from support.way import Way


def outcomes(way: Way, before: int) -> list[dict[str, object]]:
    return [record for record in way.gateway.evidence()[before:] if record["type"] == "outcome"]


def test_a_reset_after_the_request_was_sent_is_an_unknown_outcome(way: Way, alice: dict[str, str]) -> None:
    """The gateway does not retry: the call may have been carried out."""
    before = len(way.gateway.evidence())

    def reset(exchange: Exchange) -> Answer | None:
        if exchange.service != "dynamodb":
            return None
        exchange.read()
        raise Reset

    way.aws.answer(reset)
    with pytest.raises(ClientError) as caught:
        boto_client("dynamodb", alice).delete_item(TableName="t", Key={"k": {"S": "v"}})
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 502
    assert len([seen for seen in way.aws.seen if seen.service == "dynamodb"]) == 1
    found = eventually(lambda: outcomes(way, before), what="an outcome")
    assert [record["outcome"] for record in found] == ["unknown"]


def test_an_answer_that_breaks_off_is_no_whole_answer(way: Way, alice: dict[str, str]) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 70_000
        raise Reset

    def script(exchange: Exchange) -> Answer | None:
        if exchange.service != "s3" or exchange.method != "GET":
            return None
        return 200, {"content-length": "100000", "content-type": "application/octet-stream"}, broken()

    way.aws.answer(script)
    reply = way.raw(alice, "GET", "https://bucket.s3.eu-central-1.amazonaws.com/broken", service="s3")
    assert reply.truncated or reply.status == 502
    assert len([seen for seen in way.aws.seen if seen.method == "GET" and seen.service == "s3"]) == 1


def test_an_answer_that_cannot_be_read_is_withheld_with_the_reason(way: Way, alice: dict[str, str]) -> None:
    """JSON that is none cannot be searched for secrets: 502, and the agent is told why."""

    def script(exchange: Exchange) -> Answer | None:
        if exchange.service != "dynamodb":
            return None
        return 200, {"content-type": "application/x-amz-json-1.0"}, b'{"Secret": "half'

    way.aws.answer(script)
    with pytest.raises(ClientError) as caught:
        boto_client("dynamodb", alice).list_tables()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 502
    assert "half" not in str(caught.value.response)
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["x-flowwarden-station"] == "mask"


def test_sts_refuses_and_nothing_leaves(way: Way) -> None:
    """No lease: an answer with STS's reason, nothing forwarded unsigned or with phantom keys."""
    from support.sigv4_judge import Refused

    env = way.gateway.session(subject="mallory")
    way.aws.sts.refuse = Refused("AccessDenied", "is not authorized to perform: sts:AssumeRole")
    try:
        with pytest.raises(ClientError) as caught:
            boto_client("dynamodb", env).list_tables()
    finally:
        way.aws.sts.refuse = None
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in {403, 503}
    assert "dynamodb" not in {seen.service for seen in way.aws.seen}


def test_the_real_credentials_are_nowhere(way: Way, alice: dict[str, str]) -> None:
    """Recordings, index, state, logs and what the agent received hold neither a secret nor a token of a lease."""
    known = set(way.aws.secrets)
    received = [
        repr(boto_client("sts", alice).get_session_token()),
        repr(boto_client("sts", alice).get_caller_identity()),
        repr(boto_client("s3", alice).list_buckets()),
        way.raw(alice, "GET", "https://bucket.s3.eu-central-1.amazonaws.com/none", service="s3").text,
    ]
    with pytest.raises(ClientError) as caught:
        boto_client("iam", alice).delete_user(UserName="u")
    received.append(repr(caught.value.response))
    vended = [secret for key, secret in way.aws.secrets.items() if key not in known]
    leases = [lease.made for lease in way.aws.sts.leases if lease.made] + vended
    assert vended and leases and any(seen.key_id in {lease.key_id for lease in leases} for seen in way.calls)
    places: dict[str, bytes] = {
        "what the gateway printed": way.gateway.text.encode(),
        "answers": repr(received).encode(),
    }
    for path in way.gateway.folder.rglob("*"):
        if path.is_file() and path != Path(way.gateway.ca()):
            places[str(path)] = path.read_bytes()
    assert any("evidence.ndjson" in place for place in places) and any(".mitm" in place for place in places)
    for secret in [lease.secret for lease in leases] + [lease.token for lease in leases]:
        for place, content in places.items():
            assert secret.encode() not in content, f"a real credential stands in {place}"
    # The agent's own: kept by hash or sealed in the state, never in what is recorded or printed.
    for name in ("AWS_SECRET_ACCESS_KEY", "FLOWWARDEN_HANDLE"):
        for place, content in places.items():
            if "/state/" not in place:
                assert alice[name].encode() not in content, f"{name} stands in {place}"
