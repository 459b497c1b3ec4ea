"""A client for chunk-signed uploads, after the text of the S3 API reference; the seed and the HMACs are botocore's."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .clients import Keys
from .http1 import Fields
from .sigv4_judge import EMPTY, SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_TRAILER


class _Seed(S3SigV4Auth):  # type: ignore[misc]
    """Signs the head of a chunked upload: its canonical payload is the kind of upload."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["kind"])


def checksum_line(data: bytes) -> str:
    return f"x-amz-checksum-crc32:{base64.b64encode(zlib.crc32(data).to_bytes(4, 'big')).decode()}"


def chunked_upload(
    keys: Keys, url: str, data: bytes, size: int, *, region: str, trailer: bool, signed: bool = True
) -> tuple[Fields, bytes]:
    """Fields (Host first) and body of a PUT in chunks of `size` bytes; `trailer` adds a CRC32."""
    kind = (SIGNED_CHUNKS_TRAILER if trailer else SIGNED_CHUNKS) if signed else UNSIGNED_TRAILER
    fields = {"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": str(len(data))}
    if trailer:
        fields["X-Amz-Trailer"] = "x-amz-checksum-crc32"
    asked = AWSRequest("PUT", url, headers=fields)
    asked.context["kind"] = kind
    signer = _Seed(Credentials(keys.key_id, keys.secret, keys.token or None), "s3", region)
    asked.headers["X-Amz-Content-SHA256"] = kind
    signer.add_auth(asked)
    asked.headers.replace_header("X-Amz-Content-SHA256", kind)
    body = (
        _body(signer, asked, data, size=size, region=region, trailer=trailer)
        if signed
        else _plain_body(data, size, trailer)
    )
    head = [("Host", urlsplit(url).netloc), ("Content-Length", str(len(body))), *asked.headers.items()]
    return head, body


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)] + [b""]


def _plain_body(data: bytes, size: int, trailer: bool) -> bytes:
    body = b"".join(
        f"{len(piece):x}\r\n".encode() + piece + (b"\r\n" if piece else b"") for piece in _pieces(data, size)
    )
    return body + (checksum_line(data).encode() + b"\r\n" if trailer else b"") + b"\r\n"


def _body(signer: S3SigV4Auth, asked: AWSRequest, data: bytes, *, size: int, region: str, trailer: bool) -> bytes:
    found = re.search("Signature=([0-9a-f]+)", asked.headers["Authorization"])
    assert found
    previous = found[1]
    stamp = asked.context["timestamp"] = asked.headers["X-Amz-Date"]
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"

    def chain(label: str, *digests: str) -> str:
        text = "\n".join([label, stamp, scope, previous, *digests])
        return str(signer.signature(text, asked))

    body = b""
    for piece in _pieces(data, size):
        previous = chain("AWS4-HMAC-SHA256-PAYLOAD", EMPTY, hashlib.sha256(piece).hexdigest())
        body += f"{len(piece):x};chunk-signature={previous}\r\n".encode() + piece + (b"\r\n" if piece else b"")
    if trailer:
        line = checksum_line(data).encode()
        # The signature covers the trailer with its final LF.
        previous = chain("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(line + b"\n").hexdigest())
        body += line + f"\r\nx-amz-trailer-signature:{previous}\r\n".encode()
    return body + b"\r\n"
