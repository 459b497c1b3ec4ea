"""What an answer's body is: from its content type, the operation's protocol, and at last its first bytes."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from . import wide

Kind = Literal[
    "json", "xml", "cbor", "form", "text", "csv", "tsv", "sse", "events", "lines", "object", "opaque", "other"
]
"""`lines` is a JSON text a line; `object` an S3 object; `opaque` cannot be read; `other` is a carrier masks do not know."""

_JSON = frozenset({"application/json", "text/json", "application/javascript+json"})
_XML = frozenset({"application/xml", "text/xml"})
_CBOR = frozenset({"application/cbor", "application/x-amz-cbor-1.1", "application/x-amz-cbor-1.0"})
_LINES = frozenset({"application/x-ndjson", "application/jsonl", "application/json-seq", "application/x-jsonlines"})
_TEXT = frozenset(
    {
        "application/javascript",
        "application/x-javascript",
        "application/yaml",
        "application/x-yaml",
        "application/toml",
        "application/x-sh",
        "application/sql",
        "application/graphql",
        "application/x-pem-file",
        "application/pem-certificate-chain",
    }
)
_OPAQUE_PREFIX = ("image/", "audio/", "video/", "font/")
_PROTOCOL: dict[str, Kind] = {
    "json": "json",
    "rest-json": "json",
    "query": "xml",
    "ec2": "xml",
    "rest-xml": "xml",
    "smithy-rpc-v2-cbor": "cbor",
}
_ASCII = "".join(map(chr, range(32, 127)))
_MAGIC = (
    b"\x1f\x8b", b"PK\x03\x04", b"PAR1", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x89PNG", b"\xff\xd8\xff", b"GIF8",
    b"%PDF-", b"\x7fELF", b"Obj\x01", b"ORC", b"7z\xbc\xaf", b"OggS", b"\xcf\xfa\xed\xfe", b"wOF", b"SQLite format 3",
)  # fmt: skip


@lru_cache(maxsize=4096)
def of_type(content_type: str, protocol: str) -> Kind:
    """The kind that a content type names; without one, the protocol's."""
    main = content_type.partition(";")[0].strip().lower()
    if not main:
        return _PROTOCOL.get(protocol, "text")
    if main in _JSON or main.endswith("+json") or main.startswith("application/x-amz-json"):
        return "json"
    if main in _XML or (main.endswith("+xml") and not main.startswith("image/")):
        return "xml"
    if main in _CBOR or main.endswith("+cbor"):
        return "cbor"
    if main == "application/x-www-form-urlencoded":
        return "form"
    if main == "text/event-stream":
        return "sse"
    if main == "application/vnd.amazon.eventstream":
        return "events"
    if main == "text/csv":
        return "csv"
    if main == "text/tab-separated-values":
        return "tsv"
    if main in _LINES:
        return "lines"
    if main.startswith("multipart/"):
        return "other"
    if main.startswith("text/") or main in _TEXT or main == "image/svg+xml":
        return "text"
    return "opaque" if main.startswith(_OPAQUE_PREFIX) else "other" if main.startswith("message/") else "opaque"


def compressed(head: bytes) -> bool:
    """Whether the first bytes are those of a format whose content cannot be searched."""
    return head.startswith(_MAGIC)


def looks_like_text(head: bytes) -> bool:
    """Whether the first bytes of an unnamed body can be read as text."""
    if not head or compressed(head):
        return False
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3
    return True


def charset(content_type: str, head: bytes) -> str:
    """The charset of a text that does not hold ASCII as it is (UTF-16, EBCDIC, UTF-7…), empty for all others.

    A byte order mark and the look of the first bytes count before what is declared.
    """
    if head[:4] in {b"\xff\xfe\0\0", b"\0\0\xfe\xff"}:
        return "utf-32"
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16"
    if order := wide.order(head):
        return wide.CODECS[order]
    if "charset" not in content_type.lower():
        return ""
    name = content_type.lower().partition("charset=")[2].strip("\"' ;").partition(";")[0].strip("\"' ")
    return "" if _holds_ascii(name) else name


@lru_cache(maxsize=256)
def _holds_ascii(name: str) -> bool:
    """Whether ASCII text is itself in a charset. One that nobody knows here is no charset for us to read."""
    try:
        return _ASCII.encode(name) == _ASCII.encode()
    except (LookupError, UnicodeError, ValueError):
        return not name
