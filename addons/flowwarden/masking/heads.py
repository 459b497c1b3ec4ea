"""Header fields of an answer: what they say about the body, and what has to change when the body has changed.

The rules are those of AWS's clients: a checksum that no longer fits makes them fail (x-amz-checksum-*, Content-MD5) or send
a request again in silence (x-amz-crc32), so checksums go; Content-Length is counted again; the ETag stays.
"""

from __future__ import annotations

from ..types import Headers

_DROP = frozenset(
    {b"content-md5", b"x-amz-crc32", b"digest", b"repr-digest", b"content-digest", b"x-amz-checksum-type"}
)
_ADDRESSED = frozenset({b"docker-content-digest", b"x-amz-sha256-tree-hash", b"x-amz-archive-description-digest"})


def first(headers: Headers, name: bytes) -> str:
    """The first value of a field by lower-case name, empty if there is none."""
    for field, value in headers:
        if len(field) == len(name) and field.lower() == name:
            return value.decode("latin-1")
    return ""


def content_addressed(headers: Headers) -> bool:
    """Whether clients check the body against a digest that stands elsewhere too: such a body is passed or refused."""
    return any(field.lower() in _ADDRESSED for field, _ in headers)


def is_checksum(name: bytes) -> bool:
    """Whether a field (lower case) is a checksum of the body."""
    return name in _DROP or name.startswith(b"x-amz-checksum-")


def for_changed(headers: Headers, length: int | None) -> Headers:
    """The fields for a changed body of `length` bytes; None: not known yet, so Content-Length goes."""
    made: list[tuple[bytes, bytes]] = []
    for field, value in headers:
        name = field.lower()
        if is_checksum(name) or (name == b"content-length" and length is None):
            continue
        if name == b"x-amz-trailer" or (name == b"trailer" and b"checksum" in value.lower()):
            continue
        made.append((field, b"%d" % length) if name == b"content-length" and length is not None else (field, value))
    return tuple(made)
