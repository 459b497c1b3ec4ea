"""The strict server's S3: objects, listings and multipart uploads; large bodies are hashed and not kept."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import escape

from .sigv4_judge import S3_SERVICES, Refused, percent_decode
from .strict_aws_sts import Lease, pinned_out

if TYPE_CHECKING:
    from .strict_aws import Answer, Exchange, StrictAws

KEPT = 32 << 20
BLOCK = bytes(range(256)) * 256  # 64 KiB, what a synthetic object consists of
TIME = "2026-01-01T00:00:00.000Z"
VIRTUAL_HOST = re.compile(r"(.+)\.s3[.-][a-z0-9.-]*amazonaws\.com|(.+)\.s3\.amazonaws\.com")
XML = {"content-type": "application/xml"}


@dataclass
class Stored:
    """An object. `data` is None where it was larger than what is kept; synthetic ones are made of BLOCK."""

    size: int
    etag: str
    sha256: str
    data: bytes | None = None
    kind: str = "binary/octet-stream"
    synthetic: bool = False

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        stop = self.size if stop is None else stop
        if self.data is not None:
            yield self.data[start:stop]
            return
        if not self.synthetic:
            raise Refused("InternalError", "the object was hashed and not kept", 500)
        while start < stop:
            offset = start % len(BLOCK)
            piece = BLOCK[offset : offset + stop - start]
            start += len(piece)
            yield piece


@dataclass
class Bucket:
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, dict[int, Stored]] = field(default_factory=dict)
    owner: str = "123456789012"


class StrictS3:
    """Buckets by name; a bucket comes into being with its first object unless `strict_buckets` is set."""

    def __init__(self, server: StrictAws) -> None:
        self.server = server
        self.buckets: dict[str, Bucket] = {}

    def synthetic(self, bucket: str, key: str, size: int) -> Stored:
        """An object of any size that costs no memory."""
        digest = hashlib.sha256()
        left = size
        while left > 0:
            digest.update(BLOCK[:left])
            left -= len(BLOCK)
        stored = Stored(size, "synthetic", digest.hexdigest(), synthetic=True)
        self.buckets.setdefault(bucket, Bucket()).objects[key] = stored
        return stored

    def handle(self, exchange: Exchange) -> Answer | None:
        if exchange.service not in S3_SERVICES or "s3-control" in exchange.host:
            return None
        path = percent_decode(exchange.path).decode("utf-8", "surrogateescape")[1:]
        found = VIRTUAL_HOST.fullmatch(exchange.host)
        name, key = (found[1] or found[2], path) if found else path.partition("/")[::2]
        if not name:
            return self._buckets()
        bucket = self.buckets.setdefault(name, Bucket())
        self._check_owner(exchange, bucket)
        query = exchange.query
        if not key:
            return self._on_bucket(exchange, name, bucket, query)
        if "uploads" in query or "uploadId" in query:
            return self._multipart(exchange, name, bucket, key, query)
        return self._on_object(exchange, bucket, key)

    def _check_owner(self, exchange: Exchange, bucket: Bucket) -> None:
        expected = exchange.header("x-amz-expected-bucket-owner")
        if expected and expected != bucket.owner:
            raise Refused("AccessDenied", "the bucket has another owner")
        session = exchange.signed.secret.session if exchange.signed else None
        if isinstance(session, Lease) and pinned_out(session.policy, bucket.owner):
            raise Refused("AccessDenied", "with an explicit deny in a session policy")

    def _buckets(self) -> Answer:
        names = "".join(
            f"<Bucket><Name>{name}</Name><CreationDate>{TIME}</CreationDate></Bucket>" for name in sorted(self.buckets)
        )
        return 200, XML, f"<ListAllMyBucketsResult><Buckets>{names}</Buckets></ListAllMyBucketsResult>".encode()

    def _on_bucket(self, exchange: Exchange, name: str, bucket: Bucket, query: dict[str, str]) -> Answer:
        exchange.read()
        if exchange.method == "DELETE":
            del self.buckets[name]
            return 204, {}, b""
        if exchange.method in {"PUT", "HEAD"}:
            return 200, {"x-amz-bucket-region": exchange.region}, b""
        if "location" in query:
            return 200, XML, b"<LocationConstraint>eu-central-1</LocationConstraint>"
        prefix = query.get("prefix", "")
        encode = quote if query.get("encoding-type") == "url" else escape
        rows = [
            f"<Contents><Key>{encode(key)}</Key><LastModified>{TIME}</LastModified><ETag>&quot;{stored.etag}&quot;</ETag>"
            f"<Size>{stored.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key, stored in sorted(bucket.objects.items())
            if key.startswith(prefix)
        ]
        kind = f"<EncodingType>{query['encoding-type']}</EncodingType>" if "encoding-type" in query else ""
        body = (
            f"<ListBucketResult><Name>{name}</Name><Prefix>{encode(prefix)}</Prefix><KeyCount>{len(rows)}</KeyCount>"
            f"<MaxKeys>1000</MaxKeys>{kind}<IsTruncated>false</IsTruncated>{''.join(rows)}</ListBucketResult>"
        )
        return 200, XML, body.encode()

    def _store(self, exchange: Exchange) -> Stored:
        """Reads a body to its verified end; nothing is stored if its reading raises."""
        kept: bytearray | None = bytearray()
        md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        for block in exchange.chunks():
            size += len(block)
            md5.update(block)
            sha256.update(block)
            if kept is not None:
                kept += block
                if size > KEPT:
                    kept = None
        data = bytes(kept) if kept is not None else None
        kind = exchange.header("content-type", "binary/octet-stream")
        return Stored(size, md5.hexdigest(), sha256.hexdigest(), data, kind)

    def _on_object(self, exchange: Exchange, bucket: Bucket, key: str) -> Answer:
        if exchange.method == "PUT":
            source = exchange.header("x-amz-copy-source")
            stored = self._store(exchange)
            if source:
                name, _, other = percent_decode(source.lstrip("/")).decode().partition("/")
                stored = self.buckets.get(name, Bucket()).objects.get(other) or self._missing()
            bucket.objects[key] = stored
            if source:
                xml = f"<CopyObjectResult><ETag>&quot;{stored.etag}&quot;</ETag></CopyObjectResult>"
                return 200, XML, xml.encode()
            return 200, {"ETag": f'"{stored.etag}"'}, b""
        exchange.read()
        if exchange.method == "DELETE":
            bucket.objects.pop(key, None)
            return 204, {}, b""
        if exchange.method not in {"GET", "HEAD"}:
            raise Refused("MethodNotAllowed", exchange.method, 405)
        return self._get(exchange, bucket.objects.get(key) or self._missing())

    @staticmethod
    def _missing() -> Stored:
        raise Refused("NoSuchKey", "The specified key does not exist.", 404)

    @staticmethod
    def _get(exchange: Exchange, stored: Stored) -> Answer:
        start, stop, status = 0, stored.size, 200
        headers = {"ETag": f'"{stored.etag}"', "Content-Type": stored.kind, "Accept-Ranges": "bytes"}
        headers["Last-Modified"] = "Thu, 01 Jan 2026 00:00:00 GMT"
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", exchange.header("range"))
        if found:
            start, stop, status = int(found[1]), min(stored.size, int(found[2] or stored.size) + 1), 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        headers["Content-Length"] = str(stop - start)
        return status, headers, stored.blocks(start, stop)

    def _copied(self, exchange: Exchange, source: str) -> Stored:
        """UploadPartCopy's part: of a range or of all, if the source is what the request says that it is."""
        name, _, key = percent_decode(source.lstrip("/")).decode().partition("/")
        stored = self.buckets.get(name, Bucket()).objects.get(key) or self._missing()
        wanted = exchange.header("x-amz-copy-source-if-match")
        if wanted and wanted.strip('"') != stored.etag:
            raise Refused("PreconditionFailed", "the source has another ETag", 412)
        first, stop = 0, stored.size
        if span := exchange.header("x-amz-copy-source-range"):
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", span)
            if not found or not int(found[1]) <= int(found[2]) < stored.size:
                raise Refused("InvalidRange", span, 416)
            first, stop = int(found[1]), int(found[2]) + 1
        data = b"".join(stored.blocks(first, stop))
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return Stored(len(data), etag, hashlib.sha256(data).hexdigest(), data)

    @staticmethod
    def _listed(body: bytes, parts: dict[int, Stored]) -> list[Stored]:
        """The parts that a CompleteMultipartUpload lists, by number and ETag."""
        text = body.decode().replace("&quot;", "").replace("&#34;", "").replace('"', "")
        listed = [
            (int(re.search(r"<PartNumber>(\d+)<", part)[1]), re.search(r"<ETag>([^<]*)<", part)[1])  # type: ignore[index]
            for part in re.findall(r"<Part>(.*?)</Part>", text, re.DOTALL)
        ]
        numbers = [number for number, _ in listed]
        if not listed or numbers != sorted(set(numbers)):
            raise Refused("InvalidPartOrder", "the parts are not in ascending order", 400)
        for number, etag in listed:
            if number not in parts or parts[number].etag != etag:
                raise Refused("InvalidPart", f"part {number} is not there, or has another ETag", 400)
        return [parts[number] for number in numbers]

    def _multipart(self, exchange: Exchange, name: str, bucket: Bucket, key: str, query: dict[str, str]) -> Answer:
        if "uploads" in query:
            exchange.read()
            upload = secrets.token_hex(8)
            bucket.uploads[upload] = {}
            xml = f"<Bucket>{name}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
            return 200, XML, f"<InitiateMultipartUploadResult>{xml}</InitiateMultipartUploadResult>".encode()
        parts = bucket.uploads.get(query["uploadId"])
        if parts is None:
            raise Refused("NoSuchUpload", "The specified upload does not exist.", 404)
        if exchange.method == "PUT":
            part = self._store(exchange)
            if source := exchange.header("x-amz-copy-source"):
                part = parts[int(query["partNumber"])] = self._copied(exchange, source)
                return 200, XML, f"<CopyPartResult><ETag>&quot;{part.etag}&quot;</ETag></CopyPartResult>".encode()
            parts[int(query["partNumber"])] = part
            return 200, {"ETag": f'"{part.etag}"'}, b""
        body = exchange.read()
        if exchange.method == "DELETE":
            del bucket.uploads[query["uploadId"]]
            return 204, {}, b""
        ordered = self._listed(body, parts)
        del bucket.uploads[query["uploadId"]]
        data = b"".join(part.data or b"" for part in ordered) if all(p.data is not None for p in ordered) else None
        size = sum(part.size for part in ordered)
        digest = hashlib.sha256(data).hexdigest() if data is not None else ""
        bucket.objects[key] = Stored(size, f"multipart-{len(ordered)}", digest, data)
        xml = f"<Bucket>{name}</Bucket><Key>{escape(key)}</Key><ETag>&quot;multipart-{len(ordered)}&quot;</ETag>"
        return 200, XML, f"<CompleteMultipartUploadResult>{xml}</CompleteMultipartUploadResult>".encode()
