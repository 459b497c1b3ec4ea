"""The same over HTTP/2, where it is offered: a gateway of its own that offers it everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.clients import Keys, sign
from support.gateway import REGION
from support.h2client import Http2Client
from support.issuer import OidcIssuer
from support.way import Way

S3_HOST = f"bucket.s3.{REGION}.amazonaws.com"
STS_HOST = f"sts.{REGION}.amazonaws.com"
QUERY = "/?Action=GetCallerIdentity&Version=2011-06-15"


@pytest.fixture(scope="module")
def _way2(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    with Way.opened(tmp_path_factory.mktemp("e2e-h2"), issuer, options={"warden_http2_hosts": ["*"]}) as way:
        yield way


@pytest.fixture
def way2(_way2: Way) -> Way:
    _way2.aws.forget()
    return _way2


@pytest.fixture(scope="module")
def env(_way2: Way) -> dict[str, str]:
    return _way2.gateway.session()


def connect(way: Way, env: dict[str, str], host: str) -> Http2Client:
    client = way.gateway.client(env["FLOWWARDEN_HANDLE"])
    assert client.tunnel(host, alpn=("h2",)) == "h2"
    return Http2Client(client)


def head(
    env: dict[str, str], method: str, url: str, service: str, body: bytes = b""
) -> tuple[str, list[tuple[str, str]]]:
    return sign(Keys.of(env), method, url, service=service, region=REGION, body=body)


def test_many_streams_on_one_connection(way2: Way, env: dict[str, str]) -> None:
    h2 = connect(way2, env, STS_HOST)
    for _ in range(5):
        target, fields = head(env, "GET", f"https://{STS_HOST}{QUERY}", "sts")
        stream = h2.request("GET", STS_HOST, target, fields)
        assert stream.status == 200 and b"<Arn>" in stream.body
    assert len(way2.calls) == 5 and not way2.aws.refused


@pytest.mark.parametrize("length", [10, 200_000])
def test_a_body_without_a_content_length_is_framed_towards_http1(way2: Way, env: dict[str, str], length: int) -> None:
    """HTTP/2 needs no Content-Length; sent on without one, an HTTP/1 server would read the body as the next request."""
    body = b"x" * length
    h2 = connect(way2, env, S3_HOST)
    target, fields = head(env, "PUT", f"https://{S3_HOST}/two", "s3", body)
    stream = h2.request("PUT", S3_HOST, target, fields, body)
    assert all(seen.state == "accepted" for seen in way2.calls), [seen.message for seen in way2.calls]
    if stream.status == 200:
        assert way2.aws.s3.buckets["bucket"].objects["two"].data == body
    else:
        assert stream.status in {400, 403, 411}
        assert way2.calls == []


def test_a_request_hidden_in_a_body_is_never_a_request(way2: Way, env: dict[str, str]) -> None:
    """What follows a head without a length must not be taken for a head, also on a GET."""
    hidden = f"GET /hidden HTTP/1.1\r\nHost: {S3_HOST}\r\n\r\n".encode()
    for method in ("GET", "PUT", "DELETE"):
        h2 = connect(way2, env, S3_HOST)
        target, fields = head(env, method, f"https://{S3_HOST}/seen", "s3", hidden)
        h2.request(method, S3_HOST, target, fields, hidden)
    assert all(seen.path == "/seen" for seen in way2.calls)


def test_a_denied_upload_is_answered_on_its_head(way2: Way, env: dict[str, str]) -> None:
    outsider = way2.gateway.session(subject="kim", groups=("sre",))
    h2 = connect(way2, outsider, S3_HOST)
    target, fields = head(outsider, "PUT", f"https://{S3_HOST}/denied", "s3", b"x" * 1000)
    pseudo = [(":method", "PUT"), (":authority", S3_HOST), (":scheme", "https"), (":path", target)]
    sent = [(name.lower(), value) for name, value in fields if name.lower() != "host"]
    stream = h2.open([*pseudo, *sent, ("content-length", "1000")], end=False)
    while not stream.fields and h2.pump():
        pass
    assert stream.status == 403 and stream.header("x-flowwarden-reason")
    target, fields = head(outsider, "GET", f"https://{S3_HOST}/again", "s3")
    assert h2.request("GET", S3_HOST, target, fields).status == 403, "the connection is of use afterwards"
    assert way2.calls == []


def test_a_reset_upload_is_not_complete_at_aws(way2: Way, env: dict[str, str]) -> None:
    h2 = connect(way2, env, S3_HOST)
    body = b"x" * 100_000
    target, fields = head(env, "PUT", f"https://{S3_HOST}/reset", "s3", body)
    pseudo = [(":method", "PUT"), (":authority", S3_HOST), (":scheme", "https"), (":path", target)]
    sent = [(name.lower(), value) for name, value in fields if name.lower() != "host"]
    stream = h2.open([*pseudo, *sent, ("content-length", str(len(body)))], end=False)
    h2.send(stream, body[:50_000])
    h2.reset(stream)
    target, fields = head(env, "GET", f"https://{S3_HOST}/after", "s3")
    assert h2.request("GET", S3_HOST, target, fields).status == 404
    bucket = way2.aws.s3.buckets.get("bucket")
    assert bucket is None or "reset" not in bucket.objects


@pytest.mark.parametrize("authority", [STS_HOST, "evil.example.com", f"{S3_HOST}:8443", f"user@{S3_HOST}", ""])
def test_another_authority_is_refused(way2: Way, env: dict[str, str], authority: str) -> None:
    h2 = connect(way2, env, S3_HOST)
    target, fields = head(env, "GET", f"https://{authority or S3_HOST}/k", "s3")
    stream = h2.request("GET", authority, target, fields)
    assert stream.status in {0, 400, 403, 421}
    assert way2.calls == []


def test_a_host_field_beside_another_authority_is_refused(way2: Way, env: dict[str, str]) -> None:
    h2 = connect(way2, env, S3_HOST)
    target, fields = head(env, "GET", f"https://{S3_HOST}/k", "s3")
    pseudo = [(":method", "GET"), (":authority", S3_HOST), (":scheme", "https"), (":path", target)]
    sent = [(name.lower(), value) for name, value in fields if name.lower() != "host"]
    stream = h2.wait(h2.open([*pseudo, *sent, ("host", STS_HOST)]))
    assert stream.status in {0, 400, 403, 421}
    assert way2.calls == []


def test_an_extended_connect_is_refused(way2: Way, env: dict[str, str]) -> None:
    """A WebSocket over HTTP/2 (RFC 8441) and a plain CONNECT inside the tunnel."""
    for fields in (
        [(":method", "CONNECT"), (":authority", f"{STS_HOST}:443")],
        [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", S3_HOST),
        ],
    ):
        h2 = connect(way2, env, S3_HOST)
        stream = h2.wait(h2.open(fields))
        assert stream.status != 200
    assert way2.calls == []


@pytest.mark.parametrize(("sni", "status"), [(S3_HOST, 404), (STS_HOST, 403)])
def test_a_scheme_that_denies_the_tls_around_it_changes_nothing(
    way2: Way, env: dict[str, str], sni: str, status: int
) -> None:
    """`:scheme http` inside a tunnel's TLS: SNI and tunnel are compared all the same."""
    client = way2.gateway.client(env["FLOWWARDEN_HANDLE"])
    assert client.tunnel(S3_HOST, sni=sni, alpn=("h2",)) == "h2"
    h2 = Http2Client(client)
    target, fields = head(env, "GET", f"https://{S3_HOST}/not-there", "s3")
    pseudo = [(":method", "GET"), (":authority", S3_HOST), (":scheme", "http"), (":path", target)]
    sent = [(name.lower(), value) for name, value in fields if name.lower() != "host"]
    assert h2.wait(h2.open([*pseudo, *sent])).status == status
    assert len(way2.calls) == (status == 404)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tls_to_the_proxy_and_no_tunnel(way2: Way, env: dict[str, str], scheme: str) -> None:
    """TLS to the proxy itself says nothing of upstream: what is signed for AWS never leaves in clear text."""
    client = way2.gateway.client(env["FLOWWARDEN_HANDLE"])
    assert client.start_tls(S3_HOST, alpn=("h2",)) == "h2"
    h2 = Http2Client(client)
    target, fields = head(env, "GET", f"https://{S3_HOST}/not-there", "s3")
    pseudo = [(":method", "GET"), (":authority", S3_HOST), (":scheme", scheme), (":path", target)]
    sent = [(name.lower(), value) for name, value in (*fields, *client.proxy_fields()) if name.lower() != "host"]
    stream = h2.wait(h2.open([*pseudo, *sent]))
    if scheme == "http":
        assert stream.status == 403
        assert way2.calls == []
    else:
        assert stream.status == 404
