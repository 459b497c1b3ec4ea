"""Large bodies pass in constant memory, both ways, with slow servers and slow clients, allowed, held and denied.

128 MiB each; FLOWWARDEN_SOAK=1 makes it 1 GiB. Memory is the gateway's peak resident size above what it was before.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.chunks import chunked_upload
from support.clients import Keys, ProxyClient, Reply, boto_client, eventually, sign
from support.gateway import POLICY, REGION
from support.h2client import Http2Client, Http2Stream
from support.issuer import OidcIssuer
from support.strict_aws import Answer, Exchange, Seen
from support.way import Way

SIZE = (1 << 30) if os.environ.get("FLOWWARDEN_SOAK") else (128 << 20)
GROWTH = 32 << 20
HELD_GROWTH = 16 << 20
HOST = f"bucket.s3.{REGION}.amazonaws.com"
HOST2 = f"bucket2.s3.{REGION}.amazonaws.com"  # HTTP/2 is offered here
BLOCK = bytes(1 << 20)
HOLD = {
    "id": "hold-uploads",
    "effect": "approve",
    "actions": ["s3:PutObject"],
    "resources": ["arn:aws:s3:::bucket/held*"],
    "approvers": {"groups": ["sre"], "count": 1},
    "hold": "60s",
    "expires": "120s",
}


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory, issuer: OidcIssuer) -> Iterator[Way]:
    policy = POLICY | {"rules": [*POLICY["rules"], HOLD]}
    folder, options = tmp_path_factory.mktemp("streams"), {"warden_http2_hosts": [HOST2]}
    with Way.opened(folder, issuer, policy=policy, options=options) as way:
        s3 = boto_client("s3", way.gateway.session())  # everything is loaded before memory is measured
        s3.put_object(Bucket="bucket", Key="warm", Body=bytes(9 << 20))
        s3.get_object(Bucket="bucket", Key="warm")["Body"].read()
        way.gateway.questions(issuer.token("carol", ("sre",), owner=None))
        stalled(lambda: status(way, "VmRSS"))  # the tables of all services are loaded meanwhile
        yield way


@pytest.fixture(scope="module")
def agent(streams: Way) -> dict[str, str]:
    return streams.gateway.session()


def status(way: Way, name: str) -> int:
    assert way.gateway.process
    text = Path(f"/proc/{way.gateway.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:"))) << 10


@contextmanager
def bounded(way: Way, most: int = GROWTH) -> Iterator[None]:
    """The gateway's peak grows by at most `most` bytes inside."""
    way.aws.forget()
    assert way.gateway.process
    Path(f"/proc/{way.gateway.process.pid}/clear_refs").write_text("5")  # resets the peak to what it is now
    before = status(way, "VmRSS")
    yield
    grown = status(way, "VmHWM") - before
    print(f"the gateway grew by {grown / (1 << 20):.1f} MiB")
    assert grown <= most, f"the gateway grew by {grown >> 20} MiB"


class Zeros(io.RawIOBase):
    """A file of zeros of any size. `pause` is waited for at half of it."""

    def __init__(self, size: int, pause: threading.Event | None = None) -> None:
        self.size, self.at, self.pause = size, 0, pause

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def read(self, count: int = -1) -> bytes:
        if self.pause is not None and self.at >= self.size // 2:
            self.pause.wait(240)
        left = self.size - self.at
        count = left if count < 0 else min(count, left)
        self.at += count
        return BLOCK[:count] if count <= len(BLOCK) else bytes(count)


def zeros_hash(size: int) -> str:
    digest = hashlib.sha256()
    for _ in range(size >> 20):
        digest.update(BLOCK)
    return digest.hexdigest()


class Upload:
    """A PUT of zeros in a thread, unsigned payload; `sent` says how far it got."""

    def __init__(
        self, way: Way, env: dict[str, str], key: str, size: int = SIZE, pause: threading.Event | None = None
    ) -> None:
        self.sent = 0
        self.pause = pause  # waited for at half the size
        self.reply: Reply | None = None
        self.error: OSError | None = None
        fields = (("Content-Length", str(size)),)
        target, head = sign(
            Keys.of(env),
            "PUT",
            f"https://{HOST}/{key}",
            service="s3",
            region=REGION,
            fields=fields,
            payload="UNSIGNED-PAYLOAD",
        )
        self.client: ProxyClient = way.gateway.client(env["FLOWWARDEN_HANDLE"], timeout=120)
        self.client.tunnel(HOST)
        self.client.stream.send_head(f"PUT {target} HTTP/1.1", head)
        self.size = size
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            while self.sent < self.size:
                self.client.send(BLOCK)
                self.sent += len(BLOCK)
                if self.pause is not None and self.sent == self.size // 2:
                    self.pause.wait(240)
        except OSError as error:
            self.error = error
        try:
            self.reply = self.client.reply("PUT")
        except OSError as error:
            self.error = error

    def resume(self) -> None:
        assert self.pause is not None
        self.pause.set()

    def wait(self) -> Reply | None:
        self.thread.join(240)
        assert not self.thread.is_alive()
        self.client.close()
        return self.reply


def stalled(progress: Callable[[], int]) -> int:
    """Waits until something stands still for half a second; how far it got."""
    last, since = -1, time.monotonic()

    def still() -> bool:
        nonlocal last, since
        if progress() != last:
            last, since = progress(), time.monotonic()
        return time.monotonic() - since > 0.5

    eventually(still, timeout=120, what="a stall")
    return last


def test_put_object_by_boto3(streams: Way, agent: dict[str, str]) -> None:
    """Today's default upload, a body with an unsigned trailer."""
    with bounded(streams):
        boto_client("s3", agent).put_object(Bucket="bucket", Key="boto3", Body=Zeros(SIZE))
    seen = streams.calls[-1]
    assert seen.payload == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    assert seen.length == SIZE and seen.sha256 == zeros_hash(SIZE)


def test_put_object_with_a_slow_server(streams: Way, agent: dict[str, str]) -> None:
    gate = threading.Event()
    with bounded(streams):
        streams.aws.on_block = lambda seen, read: gate.wait(120) and None if read > 1 << 20 else None
        upload = Upload(streams, agent, "slow-server")
        sent = stalled(lambda: upload.sent)
        assert sent < SIZE, "nothing held the client back"
        assert sent < 48 << 20
        gate.set()
        reply = upload.wait()
    assert reply is not None and reply.status == 200, (reply, upload.error)
    assert streams.calls[-1].length == SIZE


def test_put_object_by_a_slow_client(streams: Way, agent: dict[str, str]) -> None:
    """A client that stops half-way: AWS has got what it sent, and the gateway holds nothing of it."""
    arrived = 0

    def count(_seen: object, read: int) -> None:
        nonlocal arrived
        arrived = read

    with bounded(streams):
        streams.aws.on_block = count
        upload = Upload(streams, agent, "slow-client", pause=threading.Event())
        eventually(lambda: arrived >= SIZE // 2 - GROWTH and upload.sent >= SIZE // 2, timeout=240, what="the half")
        upload.resume()
        reply = upload.wait()
    assert reply is not None and reply.status == 200, (reply, upload.error)
    assert streams.calls[-1].length == SIZE


def test_get_object(streams: Way, agent: dict[str, str]) -> None:
    stored = streams.aws.s3.synthetic("bucket", "big", SIZE)
    digest = hashlib.sha256()
    with bounded(streams):
        body = boto_client("s3", agent).get_object(Bucket="bucket", Key="big")["Body"]
        for block in body.iter_chunks(1 << 20):
            digest.update(block)
    assert digest.hexdigest() == stored.sha256


def test_get_object_by_a_slow_client(streams: Way, agent: dict[str, str]) -> None:
    stored = streams.aws.s3.synthetic("bucket", "big", SIZE)
    digest = hashlib.sha256()
    with bounded(streams):
        target, head = sign(Keys.of(agent), "GET", f"https://{HOST}/big", service="s3", region=REGION)
        with streams.tunnel(agent, HOST) as client:
            client.stream.send_head(f"GET {target} HTTP/1.1", head)
            answer = client.stream.head()
            assert answer and answer.status == 200
            blocks = client.stream.body(answer, response_to="GET")
            digest.update(next(blocks))
            stalled(lambda: status(streams, "VmRSS") >> 21)
            for block in blocks:
                digest.update(block)
    assert digest.hexdigest() == stored.sha256


def test_get_object_from_a_slow_server(streams: Way, agent: dict[str, str]) -> None:
    """The client has what the server sent before it stopped, but for what the masker still looks at."""
    gate, got = threading.Event(), 0

    def blocks() -> Iterator[bytes]:
        for number in range(SIZE >> 20):
            if number == SIZE >> 21:
                gate.wait(240)
            yield BLOCK

    def slow(exchange: Exchange) -> Answer | None:
        if exchange.path != "/slow":
            return None
        return 200, {"content-length": str(SIZE), "content-type": "application/octet-stream"}, blocks()

    def read() -> None:
        nonlocal got
        body = boto_client("s3", agent).get_object(Bucket="bucket", Key="slow")["Body"]
        for block in body.iter_chunks(1 << 20):
            got += len(block)

    with bounded(streams):
        streams.aws.answer(slow)
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        eventually(lambda: got >= SIZE // 2 - (8 << 20), timeout=240, what="the first half")
        gate.set()
        reader.join(240)
    assert got == SIZE


def test_a_denied_upload_costs_nothing(streams: Way) -> None:
    """Refused on its head; what the client still sends is dropped (fault 55)."""
    outsider = streams.gateway.session(subject="olga", groups=("sre",))
    with bounded(streams):
        upload = Upload(streams, outsider, "denied")
        reply = upload.wait()
    assert reply is not None and reply.status == 403
    assert streams.calls == []


@pytest.mark.parametrize("approve", [True, False])
def test_a_held_upload(streams: Way, agent: dict[str, str], issuer: OidcIssuer, approve: bool) -> None:
    """Read to disk, hashed, held, and sent from there: at no time is much of it in memory (fault 55)."""
    carol = issuer.token("carol", ("sre",), owner=None)
    with bounded(streams, HELD_GROWTH):
        upload = Upload(streams, agent, f"held-{approve}")
        (question,) = eventually(lambda: streams.gateway.questions(carol), timeout=240, what="the question")
        assert streams.calls == []
        path = f"/approvals/{question['id']}"
        assert streams.gateway.operators("GET", path, carol)[1]["summary"]["body_sha256"] == zeros_hash(SIZE)
        assert streams.gateway.operators("POST", f"{path}/answer", carol, {"approve": approve, "reason": "x"})[0] == 200
        reply = upload.wait()
    assert reply is not None and reply.status == (200 if approve else 403), (reply, upload.error)
    assert [(seen.length, seen.sha256) for seen in streams.calls] == ([(SIZE, zeros_hash(SIZE))] if approve else [])


def test_a_held_upload_to_a_slow_server(streams: Way, agent: dict[str, str], issuer: OidcIssuer) -> None:
    """What leaves the disk goes no faster than AWS takes it."""
    carol = issuer.token("carol", ("sre",), owner=None)
    gate, began = threading.Event(), threading.Event()
    with bounded(streams, HELD_GROWTH):

        def block(seen: object, read: int) -> None:
            if read > 1 << 20:
                began.set()
                gate.wait(120)

        streams.aws.on_block = block
        upload = Upload(streams, agent, "held-slow")
        (question,) = eventually(lambda: streams.gateway.questions(carol), timeout=240, what="the question")
        body = {"approve": True, "reason": "x"}
        assert streams.gateway.operators("POST", f"/approvals/{question['id']}/answer", carol, body)[0] == 200
        assert began.wait(60)
        stalled(lambda: status(streams, "VmRSS") >> 21)
        gate.set()
        reply = upload.wait()
    assert reply is not None and reply.status == 200, (reply, upload.error)


def test_a_client_that_leaves_in_mid_upload(streams: Way, agent: dict[str, str]) -> None:
    """AWS sees an unterminated body and stores nothing."""
    streams.aws.forget()
    gate = threading.Event()
    streams.aws.on_block = lambda seen, read: gate.wait(120) and None if read > 1 << 20 else None
    upload = Upload(streams, agent, "left")
    stalled(lambda: upload.sent)
    upload.client.stream.reset()
    gate.set()
    assert streams.aws.wait_for(lambda aws: bool(aws.truncated)), [seen.state for seen in streams.calls]
    assert "left" not in streams.aws.s3.buckets["bucket"].objects


@pytest.mark.parametrize("trailer", [False, True])
def test_a_chunk_signed_upload(streams: Way, agent: dict[str, str], trailer: bool) -> None:
    """Checked and signed again chunk by chunk."""
    size = 64 << 20
    data = bytes(size)
    fields, body = chunked_upload(
        Keys.of(agent), f"https://{HOST}/chunks", data, 1 << 20, region=REGION, trailer=trailer
    )
    with bounded(streams), streams.tunnel(agent, HOST) as client:
        reply = client.request("PUT", "/chunks", fields, body, split=1 << 18)
    assert reply.status == 200, reply.text
    assert streams.calls[-1].length == size and streams.calls[-1].sha256 == hashlib.sha256(data).hexdigest()


def test_multipart_upload(streams: Way, agent: dict[str, str]) -> None:
    with bounded(streams):
        boto_client("s3", agent).upload_fileobj(Zeros(SIZE), "bucket", "parts")
    assert sum(seen.length for seen in streams.calls if seen.method == "PUT") == SIZE
    assert not streams.aws.refused


@pytest.mark.parametrize("who", ["server", "client"])
def test_multipart_upload_with_a_slow(streams: Way, agent: dict[str, str], who: str) -> None:
    gate, arrived = threading.Event(), 0

    def block(seen: Seen, read: int) -> None:
        nonlocal arrived
        arrived += 1
        if who == "server" and "partNumber=7&" in f"{seen.target}&" and read > 1 << 20:
            gate.wait(240)

    with bounded(streams):
        streams.aws.on_block = block
        source = Zeros(SIZE, gate if who == "client" else None)
        thread = threading.Thread(
            target=boto_client("s3", agent).upload_fileobj, args=(source, "bucket", "parts"), daemon=True
        )
        thread.start()
        eventually(lambda: arrived > 20, what="the first parts")
        stalled(lambda: arrived)
        gate.set()
        thread.join(240)
        assert not thread.is_alive()
    assert sum(seen.length for seen in streams.calls if seen.method == "PUT") == SIZE
    assert not streams.aws.refused


def http2(way: Way, env: dict[str, str]) -> Http2Client:
    client = way.gateway.client(env["FLOWWARDEN_HANDLE"], timeout=120)
    assert client.tunnel(HOST2, alpn=("h2",)) == "h2"
    return Http2Client(client)


def opened(
    h2: Http2Client,
    env: dict[str, str],
    method: str,
    key: str,
    fields: tuple[tuple[str, str], ...] = (),
    payload: str = "",
) -> Http2Stream:
    url = f"https://{HOST2}/{key}"
    target, head = sign(Keys.of(env), method, url, service="s3", region=REGION, fields=fields, payload=payload)
    pseudo = [(":method", method), (":authority", HOST2), (":scheme", "https"), (":path", target)]
    sent = [(name.lower(), value) for name, value in head if name.lower() != "host"]
    return h2.open([*pseudo, *sent], end=method == "GET")


def read(h2: Http2Client, got: Http2Stream) -> str:
    """All of an answer's body, as its hash."""
    digest = hashlib.sha256()
    while not got.over and h2.pump():
        digest.update(got.body)
        got.body.clear()
    digest.update(got.body)
    return digest.hexdigest()


def test_over_http2(streams: Way, agent: dict[str, str]) -> None:
    """The same over HTTP/2, where mitmproxy has no flow control of its own."""
    stored = streams.aws.s3.synthetic("bucket2", "big", SIZE)
    streams.aws.s3.synthetic("bucket2", "warm", 1 << 20)
    h2 = http2(streams, agent)
    h2.wait(opened(h2, agent, "GET", "warm"))
    with bounded(streams):
        put = opened(h2, agent, "PUT", "put", (("Content-Length", str(SIZE)),), "UNSIGNED-PAYLOAD")
        for _ in range(SIZE >> 20):
            h2.send(put, BLOCK)
        h2.send(put, b"", end=True)
        assert h2.wait(put).status == 200
        assert streams.calls[-1].length == SIZE
    with bounded(streams):
        got = opened(h2, agent, "GET", "big")
        assert read(h2, got) == stored.sha256 and got.status == 200
    h2.stream.close()


def test_over_http2_a_stream_that_nobody_reads(streams: Way, agent: dict[str, str]) -> None:
    """A closed window stops the reading from AWS, and no other stream of the connection waits for it."""
    stored = streams.aws.s3.synthetic("bucket2", "big", SIZE)
    small = streams.aws.s3.synthetic("bucket2", "small", 1 << 15)
    h2 = http2(streams, agent)
    with bounded(streams):
        h2.acknowledge = False
        unread = opened(h2, agent, "GET", "big")
        while len(unread.body) < 65_535 and h2.pump():
            pass
        assert stalled(lambda: status(streams, "VmRSS") >> 21)
        h2.h2.increment_flow_control_window(1 << 20)  # of the connection, not of the stream
        assert read(h2, opened(h2, agent, "GET", "small")) == small.sha256
        h2.acknowledge = True
        first = bytes(unread.body)
        unread.body.clear()
        h2.h2.acknowledge_received_data(len(first), unread.id)
        h2.flush()
        digest = hashlib.sha256(first)
        while not unread.over and h2.pump():
            digest.update(unread.body)
            unread.body.clear()
        digest.update(unread.body)
    assert digest.hexdigest() == stored.sha256
    h2.stream.close()


def test_over_http2_a_slow_server(streams: Way, agent: dict[str, str]) -> None:
    """What AWS does not take is not taken from the client."""
    gate = threading.Event()
    h2, sent = http2(streams, agent), 0
    with bounded(streams):
        streams.aws.on_block = lambda seen, read: gate.wait(120) and None if read > 1 << 20 else None
        put = opened(h2, agent, "PUT", "put", (("Content-Length", str(SIZE)),), "UNSIGNED-PAYLOAD")

        def send() -> None:
            nonlocal sent
            for _ in range(SIZE >> 20):
                h2.send(put, BLOCK)
                sent += len(BLOCK)
            h2.send(put, b"", end=True)

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        assert stalled(lambda: sent) < min(SIZE, 48 << 20)
        gate.set()
        thread.join(240)
        assert h2.wait(put).status == 200
    h2.stream.close()
