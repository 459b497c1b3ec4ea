"""A strict AWS for tests: recomputes every signature from the specification and answers 403 on any difference.

    with StrictAws() as aws:                      # StrictAws(tls=context) speaks https
        key = aws.new_key()                       # or: aws.open_sts = True, and AssumeRole with any key
        aws.answer(lambda request: (200, {"content-type": "application/json"}, b"{}"))
        ... aws.url ...
        assert aws.accepted[0].target == "/"

It shares nothing with the package under test. One thread a connection, so a scripted answer may block on an Event.
"""

from __future__ import annotations

import gzip
import hashlib
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from . import sigv4_judge as sigv4
from .http1 import Fields, Head, Malformed, Stream, Truncated
from .sigv4_judge import Refused, Secret, Signed
from .strict_aws_answers import BodySums, echo, error_answer

ACCOUNT = "123456789012"
Answer = tuple[int, Mapping[str, str], bytes | Iterable[bytes]]


class Reset(Exception):
    """Raised by a scripted answer, or by its body: the connection is reset."""


@dataclass
class Seen:
    """One request as it came. `state` ends as accepted, refused, truncated or malformed."""

    method: str
    target: str
    fields: Fields
    state: str = "head"
    code: str = ""
    message: str = ""
    key_id: str = ""
    service: str = ""
    region: str = ""
    payload: str = ""
    presigned: bool = False
    length: int = 0  # bytes of the decoded body
    sha256: str = ""
    body: bytes = b""  # its first MiB
    chunk_sizes: list[int] = field(default_factory=list)
    trailer: dict[str, str] = field(default_factory=dict)
    sni: str = ""
    done: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """A query-protocol body."""
        body = gzip.decompress(self.body) if self.header("content-encoding") == "gzip" and self.body else self.body
        return dict(parse_qsl(body.decode(), keep_blank_values=True))

    @property
    def action(self) -> str:
        """The operation's name where the protocol writes one: Action, X-Amz-Target, or the CBOR path."""
        named = self.header("x-amz-target").rpartition(".")[2] or self.query.get("Action", "")
        if not named and self.header("content-type").startswith("application/x-www-form-urlencoded"):
            named = self.form.get("Action", "")
        return named or (self.path.rpartition("/operation/")[2] if "/operation/" in self.path else "")

    def header(self, name: str, default: str = "") -> str:
        return Head("", self.fields).get(name, default)

    @property
    def host(self) -> str:
        return self.header("host").partition(":")[0]


class Exchange:
    """A request whose head was verified, handed to an answer. Reading the body verifies the rest of it."""

    def __init__(self, seen: Seen, signed: Signed | None, blocks: Iterator[bytes]) -> None:
        self.seen = seen
        self.signed = signed
        self._blocks = blocks

    def chunks(self) -> Iterator[bytes]:
        """The decoded body in constant memory; raises Refused, Malformed or Truncated, at its end at the latest."""
        return self._blocks

    def read(self) -> bytes:
        return b"".join(self._blocks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.seen, name)


Handler = Callable[[Exchange], Answer | None]


class StrictAws:
    """See the module. `open_sts`: AssumeRole is taken from keys nobody knows, as a sandbox's base keys are."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, open_sts: bool = False, port: int = 0) -> None:
        from .strict_aws_s3 import StrictS3
        from .strict_aws_sts import StrictSts

        self.secrets: dict[str, Secret] = {}
        self.open_sts = open_sts
        self.unsigned_ok: set[str] = set()  # actions taken without a signature
        self.clock: Callable[[], float] = time.time
        self.seen: list[Seen] = []
        self.connections = 0
        self.received = 0  # bytes, over all connections
        self.on_block: Callable[[Seen, int], None] | None = None  # called before each block of a body is read
        self.s3 = StrictS3(self)
        self.sts = StrictSts(self)
        self._handlers: list[Handler] = []
        self._lock = threading.Condition()
        self._open: set[socket.socket] = set()
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True, name="strict-aws").start()

    # -- for tests -------------------------------------------------------------------------------------------------

    def new_key(self, *, token: bool = False, lasts: float = 0.0) -> Secret:
        """A key pair that is accepted from now on."""
        made = Secret(
            ("ASIA" if token else "AKIA")
            + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16)),
            secrets.token_urlsafe(30),
            secrets.token_urlsafe(120) if token else "",
            self.clock() + lasts if lasts else 0.0,
        )
        self.secrets[made.key_id] = made
        return made

    def answer(self, handler: Handler) -> None:
        """Adds a scripted answer; the newest is asked first, and None passes the request on to the next."""
        self._handlers.insert(0, handler)

    def forget(self) -> None:
        """Drops scripts and records; keys and objects stay."""
        with self._lock:
            self._handlers.clear()
            self.seen.clear()
            self.on_block = None

    def _in_state(self, *states: str) -> list[Seen]:
        with self._lock:
            return [seen for seen in self.seen if seen.state in states]

    @property
    def accepted(self) -> list[Seen]:
        return self._in_state("accepted")

    @property
    def refused(self) -> list[Seen]:
        return self._in_state("refused", "malformed")

    @property
    def truncated(self) -> list[Seen]:
        return self._in_state("truncated")

    def wait_for(self, condition: Callable[[StrictAws], bool], timeout: float = 20.0) -> bool:
        """Waits until a condition on what was seen holds; checked whenever a request changes its state."""
        with self._lock:
            return self._lock.wait_for(lambda: condition(self), timeout)

    def close(self) -> None:
        self._listener.close()
        for sock in list(self._open):
            Stream(sock).reset()

    def __enter__(self) -> StrictAws:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- connections -----------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        self.connections += 1
        sni: list[str] = []
        try:
            if self._tls:
                sock = self._handshake(sock, sni)
        except OSError:
            sock.close()
            return
        self._open.add(sock)
        stream = Stream(sock)
        try:
            while self._one(stream, "".join(sni)):
                pass
        except (OSError, Truncated):
            pass
        except Reset:
            stream.reset()
        finally:
            self.received += stream.received
            self._open.discard(sock)
            stream.close()

    def _handshake(self, sock: socket.socket, sni: list[str]) -> socket.socket:
        assert self._tls is not None
        self._tls.sni_callback = lambda tls_sock, name, context: sni.append(name or "")
        return self._tls.wrap_socket(sock, server_side=True)

    def _one(self, stream: Stream, sni: str) -> bool:
        """Serves one request; False when the connection is to be closed."""
        try:
            head = stream.head()
        except Malformed as error:
            self._note(Seen("", "", [], "malformed", message=str(error)))
            self._send(stream, "GET", (400, {"connection": "close"}, str(error).encode()))
            return False
        if head is None:
            return False
        parts = head.start.split(" ")
        seen = Seen(parts[0], parts[1] if len(parts) > 1 else "", head.fields, sni=sni)
        self._note(seen)
        try:
            try:
                answer = self._answer(seen, head, stream)
            except Refused as error:
                self._settle(seen, "refused", error)
                answer = error_answer(seen, error)
            except Malformed as error:
                self._settle(seen, "malformed", error)
                answer = 400, {"connection": "close"}, str(error).encode()
            except (Truncated, OSError) as error:
                self._settle(seen, "truncated", error)
                raise
            self._settle(seen, "accepted")
            self._send(stream, seen.method, answer)
        finally:
            seen.done.set()
        if seen.state != "accepted":
            self._linger(stream)
            return False
        return "close" not in {dict(answer[1]).get("connection", ""), seen.header("connection").lower()}

    @staticmethod
    def _linger(stream: Stream) -> None:
        """Lets the peer read a refusal before unread bytes of its body turn the close into a reset."""
        stream.sock.settimeout(2)
        if not isinstance(stream.sock, ssl.SSLSocket):
            stream.sock.shutdown(socket.SHUT_WR)
        while stream.fill():
            stream.buffer.clear()

    def _note(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)
            self._lock.notify_all()

    def _settle(self, seen: Seen, state: str, error: Exception | None = None) -> None:
        with self._lock:
            if seen.state == "head":
                seen.state = state
                seen.code = getattr(error, "code", "")
                seen.message = str(error) if error else ""
            self._lock.notify_all()

    def _answer(self, seen: Seen, head: Head, stream: Stream) -> Answer:
        if head.start.count(" ") != 2 or not head.start.endswith(" HTTP/1.1") or not seen.target.startswith("/"):
            raise Malformed(f"request line {head.start[:80]!r}")
        if len(head.all("host")) != 1:
            raise Malformed("not exactly one Host")
        for name in head.fields:
            if name[0].lower().startswith(("proxy-", "x-flowwarden")):
                raise Malformed(f"{name[0]} has no place at a server")
        raw = stream.body(head)
        whole: list[bytes] = []

        def body_hash() -> str:
            self._continue(head, stream)
            whole.append(b"".join(self._paced(seen, raw)))
            return hashlib.sha256(whole[0]).hexdigest()

        signed = self._authenticate(seen, head, body_hash)
        if not whole:
            self._continue(head, stream)
        blocks = iter(whole) if whole else self._paced(seen, raw)
        exchange = Exchange(seen, signed, self._verified(seen, signed, blocks))
        return self._dispatch(exchange)

    @staticmethod
    def _continue(head: Head, stream: Stream) -> None:
        if head.get("expect").lower() == "100-continue":
            stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _paced(self, seen: Seen, blocks: Iterator[bytes]) -> Iterator[bytes]:
        read = 0
        while True:
            if self.on_block:
                self.on_block(seen, read)
            block = next(blocks, None)
            if block is None:
                return
            read += len(block)
            yield block

    def _dispatch(self, exchange: Exchange) -> Answer:
        for handler in [*self._handlers, self.sts.handle, self.s3.handle, echo]:
            found = handler(exchange)
            if found is not None:
                for _ in exchange.chunks():  # whatever an answer left unread is still verified
                    pass
                return found
        raise AssertionError("echo answers everything")

    def _authenticate(self, seen: Seen, head: Head, body_hash: Callable[[], str]) -> Signed | None:
        if seen.action in self.unsigned_ok and not head.all("authorization"):
            return None
        if self.open_sts and self._unknown_base_key(seen, head):
            seen.key_id, seen.service = head.get("authorization").split("Credential=")[1].split("/")[0], "sts"
            return None
        signed = sigv4.check_head(
            seen.method, seen.target, head.fields, lookup=self.secrets.get, now=self.clock(), body_hash=body_hash
        )
        seen.key_id, seen.service, seen.region = signed.secret.key_id, signed.service, signed.region
        seen.payload, seen.presigned = signed.payload, signed.presigned
        return signed

    def _unknown_base_key(self, seen: Seen, head: Head) -> bool:
        """An STS call under a key that this server never gave out: a sandbox's base key, whose secret is not known."""
        found = sigv4.HEADER_AUTH.fullmatch(head.get("authorization"))
        if not found:
            return False
        parts = found[1].split("/")
        return len(parts) == 5 and parts[3] == "sts" and parts[0] not in self.secrets

    def _verified(self, seen: Seen, signed: Signed | None, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The decoded body; hashes, lengths, chunk signatures, trailers and checksums are checked on the way."""
        payload = signed.payload if signed else ""
        decoder = None
        if payload in sigv4.STREAMING:
            assert signed is not None
            if "aws-chunked" not in seen.header("content-encoding"):
                raise Refused("InvalidRequest", "aws-chunked is missing in Content-Encoding", 400)
            decoder = sigv4.ChunkDecoder(signed, blocks)
            blocks = iter(decoder)
        sums = BodySums(seen)
        for block in blocks:
            sums.update(block)
            yield block
        seen.length, seen.sha256 = sums.length, sums.sha256.hexdigest()
        seen.body = bytes(sums.kept)
        if decoder:
            seen.trailer, seen.chunk_sizes = decoder.trailer, decoder.sizes
            if str(sums.length) != seen.header("x-amz-decoded-content-length"):
                raise Refused("IncompleteBody", "x-amz-decoded-content-length is not the body's", 400)
            announced = [name.strip().lower() for name in seen.header("x-amz-trailer").split(",") if name.strip()]
            if sorted(announced) != sorted(decoder.trailer):
                raise Refused("InvalidRequest", f"trailer {sorted(decoder.trailer)}, announced {announced}", 400)
        elif sigv4.HEX_HASH.fullmatch(payload) and payload != seen.sha256:
            raise Refused("XAmzContentSHA256Mismatch", "x-amz-content-sha256 is not the body's", 400)
        sums.check()

    def _send(self, stream: Stream, method: str, answer: Answer) -> None:
        status, headers, body = answer
        fields = list(headers.items())
        names = {name.lower() for name, _ in fields}
        start = f"HTTP/1.1 {status} Strict"
        if not names & {"x-amzn-requestid", "x-amz-request-id"}:
            fields.append(("x-amzn-RequestId", secrets.token_hex(16)))
        if isinstance(body, bytes):
            if "content-length" not in names and status not in {204, 304}:
                fields.append(("Content-Length", str(len(body))))
            stream.send_head(start, fields)
            if method != "HEAD":
                stream.send(body)
        elif "content-length" in names:
            stream.send_head(start, fields)
            for block in body if method != "HEAD" else ():
                stream.send(block)
        else:
            stream.send_head(start, [*fields, ("Transfer-Encoding", "chunked")])
            stream.send_chunked(body)
