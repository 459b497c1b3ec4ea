"""AWS Signature Version 4, checked straight from the specification, by nothing but the standard library.

Sources: "Create a signed AWS API request" (IAM user guide), "Authenticating Requests (AWS Signature Version 4)" and
"Signature calculations for the Authorization header: transferring payload in multiple chunks" (S3 API reference).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .http1 import Fields

EMPTY = hashlib.sha256(b"").hexdigest()
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
HEX_HASH = re.compile(r"[0-9a-f]{64}")
UNSIGNED = "UNSIGNED-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING = frozenset({UNSIGNED_TRAILER, SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER})
S3_SERVICES = frozenset({"s3", "s3-object-lambda", "s3-outposts"})
HEADER_AUTH = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]{64})"
)
QUERY_NAMES = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders")


class Refused(Exception):
    """What AWS would answer instead: an error code, a message and a status."""

    def __init__(self, code: str, message: str, status: int = 403) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


@dataclass
class Secret:
    """A key pair that the server knows. `expires` in POSIX seconds (0: never)."""

    key_id: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)
    expires: float = 0.0
    session: object = None  # what AssumeRole was asked, for keys that it made


@dataclass
class Signed:
    """A verified head: who signed, with what scope, and what its payload has to be."""

    secret: Secret
    service: str
    region: str
    payload: str  # value of the canonical request's last line
    presigned: bool
    signature: str
    stamp: str
    scope: str
    key: bytes = field(repr=False, default=b"")

    def chunk_signature(self, algorithm: str, previous: str, *digests: str) -> str:
        text = "\n".join([algorithm, self.stamp, self.scope, previous, *digests])
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


def percent_encode(data: bytes, keep: bytes = b"") -> str:
    return "".join(chr(byte) if byte in UNRESERVED or byte in keep else f"%{byte:02X}" for byte in data)


def percent_decode(text: str) -> bytes:
    def one(found: re.Match[bytes]) -> bytes:
        return bytes([int(found[1], 16)])

    return re.sub(rb"%([0-9A-Fa-f]{2})", one, text.encode("latin-1"))


def canonical_path(path: str, service: str) -> str:
    """S3: decoded and encoded once, nothing normalised. Elsewhere: normalised (RFC 3986, 6.2.2.3), encoded again."""
    if service in S3_SERVICES:
        return percent_encode(percent_decode(path), keep=b"/") or "/"
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    normal = "/" + "/".join(parts) + ("/" if parts and path.endswith("/") else "")
    return percent_encode(normal.encode("latin-1"), keep=b"/")


def query_items(query: str) -> list[tuple[bytes, bytes]]:
    """Decoded pairs. `+` is a space, as in every S3 server whose source is public (MinIO, Ceph)."""
    pairs = [item.partition("=") for item in query.split("&") if item]
    return [(percent_decode(a.replace("+", " ")), percent_decode(b.replace("+", " "))) for a, _, b in pairs]


def canonical_query(query: str) -> str:
    encoded = [(percent_encode(a), percent_encode(b)) for a, b in query_items(query)]
    return "&".join(f"{a}={b}" for a, b in sorted(encoded) if a != "X-Amz-Signature")


def canonical_headers(fields: Fields, names: list[str]) -> str:
    lines = []
    for name in names:
        values = [re.sub(r" +", " ", value.strip()) for key, value in fields if key.lower() == name]
        if not values:
            raise Refused("SignatureDoesNotMatch", f"signed header {name} is not in the request")
        lines.append(f"{name}:{','.join(values)}\n")
    return "".join(lines)


def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


@dataclass
class Claim:
    """What a request says of its signature, before anything is checked."""

    credential: str
    names: list[str]
    signature: str
    stamp: str
    token: str
    presigned: bool
    expires: int = 0


def read_claim(method: str, path: str, query: str, fields: Fields) -> Claim:
    """Reads header or query authentication; both at once, or neither, is refused."""
    headers = [value for name, value in fields if name.lower() == "authorization"]
    items = [(a.decode("latin-1"), b.decode("latin-1")) for a, b in query_items(query)]
    in_query = {a: b for a, b in items if a.startswith("X-Amz-")}
    if "X-Amz-Signature" in in_query or "X-Amz-Algorithm" in in_query:
        if headers:
            raise Refused("InvalidArgument", "Only one auth mechanism allowed", 400)
        if [a for a, _ in items if a in (*QUERY_NAMES, "X-Amz-Signature")] != list(
            dict.fromkeys(a for a, _ in items if a in (*QUERY_NAMES, "X-Amz-Signature"))
        ) or any(name not in in_query for name in (*QUERY_NAMES, "X-Amz-Signature")):
            raise Refused("AuthorizationQueryParametersError", "query authentication is not complete", 400)
        if in_query["X-Amz-Algorithm"] != "AWS4-HMAC-SHA256" or not in_query["X-Amz-Expires"].isdigit():
            raise Refused("AuthorizationQueryParametersError", "algorithm or expiry", 400)
        return Claim(
            in_query["X-Amz-Credential"],
            in_query["X-Amz-SignedHeaders"].split(";"),
            in_query["X-Amz-Signature"],
            in_query["X-Amz-Date"],
            in_query.get("X-Amz-Security-Token", ""),
            True,
            int(in_query["X-Amz-Expires"]),
        )
    if len(headers) != 1:
        raise Refused("MissingAuthenticationToken", f"{len(headers)} Authorization headers")
    found = HEADER_AUTH.fullmatch(headers[0])
    if not found:
        raise Refused("IncompleteSignature", f"Authorization is not SigV4: {headers[0][:40]!r}", 400)
    lower: dict[str, list[str]] = {}
    for name, value in fields:
        lower.setdefault(name.lower(), []).append(value)
    for single in ("x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "host"):
        if len(lower.get(single, [])) > 1:
            raise Refused("IncompleteSignature", f"{single} stands there twice", 400)
    token = lower.get("x-amz-security-token", [""])[0]
    return Claim(found[1], found[2].split(";"), found[3], lower.get("x-amz-date", [""])[0], token, False)


def check_head(
    method: str,
    target: str,
    fields: Fields,
    *,
    lookup: Callable[[str], Secret | None],
    now: float,
    body_hash: Callable[[], str],
) -> Signed:
    """Verifies everything that a head can show. `body_hash` is called only where the body's hash stands in no header."""
    path, _, query = target.partition("?")
    claim = read_claim(method, path, query, fields)
    parts = claim.credential.split("/")
    if len(parts) != 5 or parts[4] != "aws4_request":
        raise Refused("IncompleteSignature", f"credential scope {claim.credential!r}", 400)
    key_id, date, region, service = parts[:4]
    secret = lookup(key_id)
    if secret is None:
        raise Refused("InvalidClientTokenId", f"key {key_id} is not known")
    if secret.expires and now > secret.expires:
        raise Refused("ExpiredToken", f"key {key_id} has expired")
    if not hmac.compare_digest(claim.token, secret.token):
        raise Refused("InvalidClientTokenId", f"key {key_id} came with another security token")
    check_time(claim, date, service, now)
    check_names(claim, fields, service)
    check_region(fields, region, service)
    payload = payload_hash(claim, fields, service, body_hash)
    names = claim.names
    canonical = "\n".join(
        [
            method,
            canonical_path(path, service),
            canonical_query(query),
            canonical_headers(fields, names),
            ";".join(names),
            payload,
        ]
    )
    scope = "/".join(parts[1:])
    text = "\n".join(["AWS4-HMAC-SHA256", claim.stamp, scope, hashlib.sha256(canonical.encode("latin-1")).hexdigest()])
    key = signing_key(secret.secret, date, region, service)
    expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, claim.signature):
        raise Refused("SignatureDoesNotMatch", f"the canonical request should have been:\n{canonical}")
    return Signed(secret, service, region, payload, claim.presigned, claim.signature, claim.stamp, scope, key)


def check_time(claim: Claim, date: str, service: str, now: float) -> None:
    try:
        signed_at = datetime.strptime(claim.stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise Refused("IncompleteSignature", f"X-Amz-Date {claim.stamp!r}", 400) from None
    if claim.stamp[:8] != date:
        raise Refused("SignatureDoesNotMatch", "the scope's date is not X-Amz-Date's")
    leeway = 900 if service in S3_SERVICES else 300
    if claim.presigned:
        if not 0 < claim.expires <= 604800:
            raise Refused("AuthorizationQueryParametersError", "X-Amz-Expires", 400)
        if now > signed_at + claim.expires or now < signed_at - leeway:
            raise Refused("AccessDenied", "Request has expired")
    elif abs(now - signed_at) > leeway:
        raise Refused("RequestTimeTooSkewed", f"signed {now - signed_at:.0f} s ago")


def check_names(claim: Claim, fields: Fields, service: str) -> None:
    if claim.names != sorted(set(claim.names)) or any(name != name.lower() for name in claim.names):
        raise Refused("SignatureDoesNotMatch", "SignedHeaders is not sorted, lower-case and unique")
    present = {name.lower() for name, _ in fields}
    missing = {name for name in present if name.startswith("x-amz-") or name == "host"} - set(claim.names)
    if "host" not in present or missing:
        raise Refused("AccessDenied", f"headers present in the request which were not signed: {sorted(missing)}")


def check_region(fields: Fields, region: str, service: str) -> None:
    """A host of the form name.region.amazonaws.com takes signatures for that region only."""
    host = next(value for name, value in fields if name.lower() == "host").partition(":")[0]
    found = re.search(r"[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com$", host)
    if found and found[1] != region:
        raise Refused("AuthorizationHeaderMalformed", f"region {region} at {host}", 400)


def payload_hash(claim: Claim, fields: Fields, service: str, body_hash: Callable[[], str]) -> str:
    stated = [value for name, value in fields if name.lower() == "x-amz-content-sha256"]
    if stated:
        if not (HEX_HASH.fullmatch(stated[0]) or stated[0] == UNSIGNED or stated[0] in STREAMING):
            raise Refused("InvalidRequest", f"x-amz-content-sha256 {stated[0]!r}", 400)
        return stated[0]
    if service in S3_SERVICES:
        if not claim.presigned:
            raise Refused("InvalidRequest", "Missing required header for this request: x-amz-content-sha256", 400)
        return UNSIGNED
    return body_hash()


class ChunkDecoder:
    """aws-chunked framing as the bytes come: yields the data, checks each signature, then holds the trailer."""

    def __init__(self, signed: Signed, blocks: Iterator[bytes]) -> None:
        self.signed = signed
        self.blocks = blocks
        self.buffer = bytearray()
        self.trailer: dict[str, str] = {}
        self.sizes: list[int] = []

    def _line(self) -> bytes:
        while (at := self.buffer.find(b"\r\n")) < 0:
            if len(self.buffer) > 16384:
                raise Refused("InvalidRequest", "an aws-chunked line without end", 400)
            self._fill()
        line = bytes(self.buffer[:at])
        del self.buffer[: at + 2]
        return line

    def _fill(self) -> None:
        try:
            self.buffer += next(self.blocks)
        except StopIteration:
            raise Refused("IncompleteBody", "the aws-chunked body ended early", 400) from None

    def __iter__(self) -> Iterator[bytes]:
        signed_chunks = self.signed.payload != UNSIGNED_TRAILER
        previous = self.signed.signature
        while True:
            size, digest, stated = self._chunk_head(signed_chunks)
            left = size
            while left:
                if not self.buffer:
                    self._fill()
                block = bytes(self.buffer[:left])
                del self.buffer[: len(block)]
                left -= len(block)
                digest.update(block)
                yield block
            if signed_chunks:
                expected = self.signed.chunk_signature("AWS4-HMAC-SHA256-PAYLOAD", previous, EMPTY, digest.hexdigest())
                if not hmac.compare_digest(expected, stated):
                    raise Refused("SignatureDoesNotMatch", f"signature of chunk {len(self.sizes)} of {size} bytes")
                previous = stated
            self.sizes.append(size)
            if not size:
                break
            if self._line():
                raise Refused("InvalidRequest", "no CRLF after a chunk's data", 400)
        self._read_trailer(previous)
        if self.buffer or any(self.blocks):
            raise Refused("InvalidRequest", "bytes behind the last chunk", 400)

    def _chunk_head(self, signed_chunks: bool) -> tuple[int, hashlib._Hash, str]:
        pattern = rb"([0-9A-Fa-f]{1,16});chunk-signature=([0-9a-f]{64})" if signed_chunks else rb"([0-9A-Fa-f]{1,16})()"
        line = self._line()
        found = re.fullmatch(pattern, line)
        if not found:
            raise Refused("InvalidRequest", f"chunk head {line[:120]!r}", 400)
        return int(found[1], 16), hashlib.sha256(), found[2].decode()

    def _read_trailer(self, previous: str) -> None:
        lines: list[str] = []
        if self.signed.payload == SIGNED_CHUNKS:
            if self._line():
                raise Refused("InvalidRequest", "a trailer that was not announced", 400)
            return
        while line := self._line():
            lines.append(line.decode("latin-1"))
        signature = ""
        if self.signed.payload == SIGNED_CHUNKS_TRAILER:
            if not lines or not lines[-1].startswith("x-amz-trailer-signature:"):
                raise Refused("InvalidRequest", "no x-amz-trailer-signature", 400)
            signature = lines.pop().partition(":")[2]
            # Names lower case, values trimmed, each line with its LF, the last one too.
            pairs = [line.partition(":") for line in lines]
            canonical = "".join(f"{name.lower().strip()}:{value.strip()}\n" for name, _, value in pairs)
            digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
            expected = self.signed.chunk_signature("AWS4-HMAC-SHA256-TRAILER", previous, digest)
            if not hmac.compare_digest(expected, signature):
                raise Refused("SignatureDoesNotMatch", "signature of the trailer")
        for line in lines:
            name, _, value = line.partition(":")
            self.trailer[name.lower().strip()] = value.strip()
