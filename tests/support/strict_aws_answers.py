"""The strict server's bodies: digests of what came, and its own answers in the protocol that a request shows."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from awscrt import checksums

from .sigv4_judge import Refused

if TYPE_CHECKING:
    from .strict_aws import Answer, Exchange, Seen

KEEP = 1 << 20  # bytes of a body that are kept for assertions
CHECKSUMS: dict[str, Callable[[bytes, int], int]] = {
    "crc32": zlib.crc32,
    "crc32c": checksums.crc32c,
    "crc64nvme": checksums.crc64nvme,
}
WIDTHS = {"crc32": 4, "crc32c": 4, "crc64nvme": 8}


class BodySums:
    """Running digests of a body, and the check against what head and trailer say of it."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.length = 0
        self.kept = bytearray()
        self.sha256 = hashlib.sha256()
        self.others: dict[str, Any] = {"md5": hashlib.md5(usedforsecurity=False)} if seen.header("content-md5") else {}
        named = [name.lower() for name, _ in seen.fields] + seen.header("x-amz-trailer").lower().split(",")
        self.crcs = {kind: 0 for kind in CHECKSUMS if f"x-amz-checksum-{kind}" in [name.strip() for name in named]}
        if "x-amz-checksum-sha1" in named:
            self.others["sha1"] = hashlib.sha1(usedforsecurity=False)

    def update(self, block: bytes) -> None:
        self.length += len(block)
        self.kept += block[: KEEP - len(self.kept)]
        self.sha256.update(block)
        for digest in self.others.values():
            digest.update(block)
        for kind, value in self.crcs.items():
            self.crcs[kind] = CHECKSUMS[kind](block, value)

    def value(self, kind: str) -> str:
        if kind in self.crcs:
            return base64.b64encode(self.crcs[kind].to_bytes(WIDTHS[kind], "big")).decode()
        digest = self.sha256 if kind == "sha256" else self.others.get(kind)
        return base64.b64encode(digest.digest()).decode() if digest else ""

    def check(self) -> None:
        stated = {name.lower(): value for name, value in self.seen.fields} | self.seen.trailer
        if "content-md5" in stated and stated["content-md5"] != self.value("md5"):
            raise Refused("BadDigest", "Content-MD5 is not the body's", 400)
        for kind in (*CHECKSUMS, "sha1", "sha256"):
            said = stated.get(f"x-amz-checksum-{kind}")
            if said is not None and said != self.value(kind):
                raise Refused("BadDigest", f"x-amz-checksum-{kind} is not the body's", 400)


def error_answer(seen: Seen, error: Refused) -> Answer:
    """An error in the form of the protocol that the request shows; the connection is closed behind it."""
    close = {"connection": "close"}
    kind = seen.header("content-type")
    if "x-amz-target" in (name.lower() for name, _ in seen.fields) or kind.startswith("application/json"):
        body = json.dumps({"__type": error.code, "message": error.message}).encode()
        return error.status, close | {"content-type": "application/x-amz-json-1.1"}, body
    text = error.message.replace("&", "&amp;").replace("<", "&lt;")
    inner = f"<Code>{error.code}</Code><Message>{text}</Message>"
    if kind.startswith("application/x-www-form-urlencoded"):
        xml = f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error><RequestId>strict</RequestId></ErrorResponse>"
    else:
        xml = f"<Error>{inner}<RequestId>strict</RequestId></Error>"
    return error.status, close | {"content-type": "text/xml"}, xml.encode()


def echo(exchange: Exchange) -> Answer:
    """An empty success in the protocol's form, for every service without a part of its own."""
    body = exchange.read()
    action = exchange.seen.action
    kind = exchange.header("content-type")
    if exchange.header("smithy-protocol"):
        return 200, {"content-type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}, b"\xa0"
    if kind.startswith("application/x-www-form-urlencoded") or (action and not exchange.header("x-amz-target")):
        return 200, {"content-type": "text/xml"}, f"<{action}Response><{action}Result/></{action}Response>".encode()
    version = kind if kind.startswith("application/x-amz-json") else "application/json"
    return 200, {"content-type": version, "x-strict-length": str(len(body))}, b"{}"
