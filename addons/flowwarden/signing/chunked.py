"""Bodies in the aws-chunked form, checked and signed again as they pass, at any split of the bytes.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and sigv4-streaming-trailers.html. A signature is
64 digits whoever makes it, so the length of the body stays what Content-Length says. A chunk's signature stands before
its data: one chunk at a time is held until it has been checked, and nothing unchecked is ever passed on.
"""

from __future__ import annotations

import re
from hashlib import sha256
from hmac import compare_digest
from typing import Protocol

from ..errors import Refusal
from ..types import Credentials, Headers, Phantom
from .authentication import Authentication, Kind, Scope
from .keys import SigningKey, signing_key
from .shapes import refuse
from .sigv4 import EMPTY_SHA256, Signed

LARGEST_CHUNK = 8 * 1024 * 1024  # bytes of a signed chunk; SDKs send 64 KiB to 1 MiB
_LONGEST_LINE = 256
_LONGEST_TRAILER = 16 * 1024
_SIGNED_LINE = re.compile(rb"([0-9A-Fa-f]{1,16});chunk-signature=([0-9a-f]{64})")
_PLAIN_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})")
_TRAILER_LINE = re.compile(rb"([A-Za-z0-9-]{1,128}):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)[ \t]*")
_TRAILER_SIGNATURE = b"x-amz-trailer-signature"
_HEX = re.compile(rb"[0-9a-f]{64}")


class Transform(Protocol):
    """A request body on its way: what goes in need not come out at once. Both methods raise Refusal."""

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes, gives what may go on."""

    def finish(self) -> bytes:
        """Says that the body is complete, gives the rest."""


class ChunkSigner:
    """The chain of chunk signatures of one side: each signs the one before it."""

    def __init__(self, key: SigningKey, date: str, scope: Scope, seed: str) -> None:
        self._key = key
        self._scope = f"{date}\n{scope}"
        self.previous = seed

    def chunk(self, data_sha256: str) -> str:
        return self._next(f"AWS4-HMAC-SHA256-PAYLOAD\n{self._scope}\n{self.previous}\n{EMPTY_SHA256}\n{data_sha256}")

    def trailer(self, trailer_sha256: str) -> str:
        return self._next(f"AWS4-HMAC-SHA256-TRAILER\n{self._scope}\n{self.previous}\n{trailer_sha256}")

    def _next(self, text: str) -> str:
        self.previous = self._key.sign(text)
        return self.previous


class _Chunked:
    """The framing that both forms share: lines, data, end. Subclasses say what a line, data and the end mean."""

    def __init__(self, headers: Headers, *, trailer: bool) -> None:
        fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
        self._length = _decoded_length(fields.get("x-amz-decoded-content-length"))
        names = fields.get("x-amz-trailer", "").lower().replace(" ", "")
        self._declared = frozenset(names.split(",")) - {"", _TRAILER_SIGNATURE.decode()}
        if trailer != bool(self._declared):
            raise refuse("x-amz-trailer and x-amz-content-sha256 contradict each other", "InvalidRequest", 400)
        self._seen: set[str] = set()
        self._read = 0  # bytes of data of all chunks
        self._left = 0  # bytes of data still missing in this chunk
        self._line = bytearray()
        self._state = self._chunk_line
        self._trailer_size = 0
        self._failed = False

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes of the body, at any split; gives what may go on. Raises Refusal, and from then always."""
        if self._failed:
            raise refuse("the body was refused before", "IncompleteBody", 400)
        self._failed = True  # until this feed has come to its end
        at, end = 0, len(data)
        while at < end:
            at = self._data(data, at) if self._left else self._lines(data, at)
        self._failed = False
        return self._passed(data)

    def finish(self) -> bytes:
        """Says that no more bytes come. Raises Refusal if the body is not complete."""
        if self._failed or self._state != self._over:
            raise refuse("the request body ended before its last chunk", "IncompleteBody", 400)
        return b""

    def _data(self, data: bytes, at: int) -> int:
        end = min(len(data), at + self._left)
        self._left -= end - at
        self._payload(data, at, end)
        if not self._left:
            self._state = self._data_end
        return end

    def _lines(self, data: bytes, at: int) -> int:
        """Takes up to the end of one line and gives it to the state."""
        if self._state == self._over:
            raise _framing("bytes follow the end of the chunked body")
        stop = data.find(b"\n", at)
        piece = data[at:] if stop < 0 else data[at : stop + 1]
        if len(self._line) + len(piece) > (_LONGEST_TRAILER if self._state == self._trailer_line else _LONGEST_LINE):
            raise _framing("a line of the chunked body is too long")
        if stop < 0:
            self._line += piece
            return len(data)
        line = bytes(self._line + piece)
        self._line.clear()
        self._state(line)
        return stop + 1

    def _chunk_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise _framing("a chunk's header has to end with CR LF")
        size = self._header(line)
        self._read += size
        if self._read > self._length:
            raise _framing("the chunks are longer than x-amz-decoded-content-length", "IncompleteBody")
        if size:
            self._left = size
            return
        if self._read != self._length:
            raise _framing("the chunks are shorter than x-amz-decoded-content-length", "IncompleteBody")
        self._chunk_done()
        self._state = self._trailer_line if self._declared else self._last_line

    def _data_end(self, line: bytes) -> None:
        if line != b"\r\n":
            raise _framing("a chunk is not as long as it says")
        self._chunk_done()
        self._emit(line)
        self._state = self._chunk_line

    def _last_line(self, line: bytes) -> None:
        if line != b"\r\n":
            raise _framing("the last chunk has to be followed by an empty line")
        self._emit(line)
        self._state = self._over

    def _over(self, line: bytes) -> None:
        """The state after the last line: nothing may follow."""

    def _trailer_line(self, line: bytes) -> None:
        self._trailer_size += len(line)
        if self._trailer_size > _LONGEST_TRAILER:
            raise _framing("the trailer is too long", "MalformedTrailerError")
        text = line[:-2] if line.endswith(b"\r\n") else line[:-1]
        if not text:
            self._trailer_end(line)
            return
        found = _TRAILER_LINE.fullmatch(text)
        if not found:
            raise _framing("a line of the trailer is not name:value", "MalformedTrailerError")
        self._trailer_field(found[1].lower(), found[2], line)

    def _trailer_field(self, name: bytes, value: bytes, line: bytes) -> None:
        self._declared_field(name)
        self._emit(line)

    def _declared_field(self, name: bytes) -> None:
        key = name.decode()
        if key not in self._declared or key in self._seen:
            raise _framing(f"the trailer {key!r} was not declared in x-amz-trailer", "MalformedTrailerError")
        self._seen.add(key)

    def _trailer_end(self, line: bytes) -> None:
        if self._seen != self._declared:
            raise _framing("a declared trailer is missing", "MalformedTrailerError")
        self._emit(line)
        self._state = self._over

    def _header(self, line: bytes) -> int:
        raise NotImplementedError

    def _payload(self, data: bytes, start: int, end: int) -> None:
        raise NotImplementedError

    def _chunk_done(self) -> None:
        raise NotImplementedError

    def _emit(self, line: bytes) -> None:
        raise NotImplementedError

    def _passed(self, data: bytes) -> bytes:
        """What goes on now that `data` has been taken."""
        raise NotImplementedError


class TrailerReader(_Chunked):
    """STREAMING-UNSIGNED-PAYLOAD-TRAILER: passes the bytes unchanged and checks their framing."""

    def __init__(self, headers: Headers, *, decoded_sha256: bool = False) -> None:
        """`decoded_sha256`: also hash the data of the chunks, for `hexdigest`."""
        super().__init__(headers, trailer=True)
        self._hash = sha256() if decoded_sha256 else None

    def hexdigest(self) -> str:
        """SHA-256 of the decoded data so far; empty if it was not asked for."""
        return self._hash.hexdigest() if self._hash is not None else ""

    def _header(self, line: bytes) -> int:
        found = _PLAIN_LINE.fullmatch(line[:-2])
        if not found:
            raise _framing("a chunk's header is not a size")
        return int(found[1], 16)

    def _payload(self, data: bytes, start: int, end: int) -> None:
        if self._hash is not None:
            self._hash.update(memoryview(data)[start:end])

    def _chunk_done(self) -> None:
        """Nothing stands before a chunk that depends on its data."""

    def _emit(self, line: bytes) -> None:
        """What came goes on as it is."""

    def _passed(self, data: bytes) -> bytes:
        return data


class Resigner(_Chunked):
    """STREAMING-AWS4-HMAC-SHA256-PAYLOAD and -TRAILER: checks each signature and puts the real one in its place."""

    def __init__(self, headers: Headers, checked: ChunkSigner | None, signer: ChunkSigner, *, trailer: bool) -> None:
        """`checked` computes the client's signatures (None: they are not checked), `signer` those that go on."""
        super().__init__(headers, trailer=trailer)
        self._checked = checked
        self._signer = signer
        self._size = b""
        self._claimed = ""
        self._hash = sha256()
        self._held: list[bytes] = []
        self._out: list[bytes] = []
        self._trailer_text = b""
        self._trailer_signed = False

    def _header(self, line: bytes) -> int:
        found = _SIGNED_LINE.fullmatch(line[:-2])
        if not found:
            raise _framing("a chunk's header is not <size>;chunk-signature=<64 digits>")
        size = int(found[1], 16)
        if size > LARGEST_CHUNK:
            raise refuse(f"a signed chunk may have at most {LARGEST_CHUNK} bytes", "InvalidChunkSizeError")
        self._size, self._claimed = found[1], found[2].decode()
        self._hash = sha256()
        return size

    def _payload(self, data: bytes, start: int, end: int) -> None:
        piece = data if end - start == len(data) else data[start:end]
        self._hash.update(piece)
        self._held.append(piece)

    def _emit(self, line: bytes) -> None:
        self._out.append(line)

    def _passed(self, data: bytes) -> bytes:
        passed = b"".join(self._out)
        self._out.clear()
        return passed

    def _chunk_done(self) -> None:
        data_sha256 = self._hash.hexdigest()
        if self._checked is not None:
            _same(self._checked.chunk(data_sha256), self._claimed, "chunk")
        signature = self._signer.chunk(data_sha256)
        self._out.append(b"%b;chunk-signature=%b\r\n" % (self._size, signature.encode()))
        self._out.extend(self._held)
        self._held.clear()

    def _trailer_field(self, name: bytes, value: bytes, line: bytes) -> None:
        if self._trailer_signed:
            raise _framing("a line follows the trailer's signature", "MalformedTrailerError")
        if name != _TRAILER_SIGNATURE:
            self._declared_field(name)
            self._trailer_text += b"%b:%b\n" % (name, value)
            self._held.append(line)
            return
        if not _HEX.fullmatch(value):
            raise _framing("the trailer's signature is not 64 digits", "MalformedTrailerError")
        trailer_sha256 = sha256(self._trailer_text).hexdigest()
        if self._checked is not None:
            _same(self._checked.trailer(trailer_sha256), value.decode(), "trailer")
        self._out.extend(self._held)
        self._held.clear()
        self._out.append(line.replace(value, self._signer.trailer(trailer_sha256).encode()))
        self._trailer_signed = True

    def _trailer_end(self, line: bytes) -> None:
        if not self._trailer_signed:
            raise _framing("the trailer has no x-amz-trailer-signature", "MalformedTrailerError")
        super()._trailer_end(line)


def transform(
    auth: Authentication, phantom: Phantom | None, credentials: Credentials, signed: Signed
) -> Transform | None:
    """What a streamed body of this request has to pass; None for one that is not in the aws-chunked form.

    `phantom` None: a key whose secret is not known; chunks are then signed and not checked. `signed` is what `sign`
    made of the head. Raises Refusal if the head contradicts itself, or if its body cannot stream.
    """
    if auth.kind in {Kind.UNSIGNED, Kind.HASHED}:
        return None
    if auth.kind is Kind.STREAMING_UNSIGNED_TRAILER:
        return TrailerReader(signed.headers)
    if auth.kind is Kind.ABSENT_HASH:
        raise refuse("the whole body is needed to check this signature", "ServiceUnavailable", 503)
    checked = None
    if phantom is not None:
        key = signing_key(phantom.secret_access_key, *auth.scope)
        checked = ChunkSigner(key, auth.date, auth.scope, auth.signature)
    key = signing_key(credentials.secret_access_key, *signed.scope)
    signer = ChunkSigner(key, signed.date, signed.scope, signed.signature)
    return Resigner(signed.headers, checked, signer, trailer=auth.kind is Kind.STREAMING_SIGNED_TRAILER)


def _same(expected: str, claimed: str, what: str) -> None:
    if not compare_digest(expected, claimed):
        raise refuse(f"the signature of a {what} does not match what was computed", "SignatureDoesNotMatch")


def _framing(message: str, code: str = "InvalidRequest") -> Refusal:
    return refuse(message, code, 400)


def _decoded_length(text: str | None) -> int:
    if text is None or not re.fullmatch(r"[0-9]{1,16}", text.strip()):
        raise refuse("an aws-chunked body needs x-amz-decoded-content-length", "MissingContentLength", 411)
    return int(text)
