"""What S3's calls and answers say about copies of parts: sources, ranges, ETags, sizes, and the parts that a Complete lists."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus, unquote_to_bytes

from ..types import Call, Headers, Request


class Name(NamedTuple):
    """An object as a copy names it; `version` is empty for the newest."""

    bucket: str
    key: str
    version: str = ""


class Told(NamedTuple):
    """What an answer told of an object: while its ETag is this, it has so many bytes."""

    etag: str
    size: int


SMALLEST = 5 << 20  # bytes: S3 copies ranges of no smaller object
_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{1,19})", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/(\d+)", re.ASCII)
# An access point of one region leads to one bucket; those of several regions, of Object Lambda and Outposts do not.
_ARN = re.compile(r"/?(arn:[^:/]+:s3:[^:/]+:\d{12}:accesspoint/[^/]+)/object/(.+)", re.DOTALL)
_PLAIN = re.compile(r"/?([^/]+)/(.+)", re.DOTALL)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TAG = re.compile(rb"<[^>]*>")
_KNOWN_TAG = re.compile(
    rb"<\?xml[^<>]*\?>|</?(?:CompleteMultipartUpload|Part|PartNumber|ETag|Checksum[A-Z0-9]+)>"
    rb"""|<CompleteMultipartUpload xmlns=["']http://s3\.amazonaws\.com/doc/2006-03-01/["']>"""
)
_UPLOAD_ID = re.compile(rb"<UploadId>([^<>]+)</UploadId>")
_ETAG = re.compile(rb"<ETag>([^<>]+)</ETag>")
_ETAG_TEXT = re.compile(r"[!#-~]+")  # it becomes a header's value
_BETWEEN = rb"\s*(?:<\w+>[^<>]*</\w+>\s*)*?"
_LARGE_SIZE = re.compile(rb"<Size>\d{7,19}</Size>")  # most listings have none, and are gone through once
_LARGE = re.compile(  # an entry of a listing with seven digits of size or more; no part of it spans two entries
    rb"<Contents>\s*<Key>([^<>]*)</Key>%b<ETag>([^<>]*)</ETag>%b<Size>(\d{7,19})</Size>" % (_BETWEEN, _BETWEEN)
)


def source(text: str) -> Name | None:
    """The object of an x-amz-copy-source; None for what S3 might read as another one than is read here.

    `bucket/key`, URL-encoded, a slash before it or not, `?versionId=` behind it; or the ARN of an access point. A plus sign
    as it is may stand for a blank, and so may be refused; SDKs write %2B.
    """
    name, marked, version = text.partition("?versionId=")
    if "+" in name or "?" in name or _BAD_PERCENT.search(text) or bool(marked) is not bool(version):
        return None
    try:
        path, version = unquote_to_bytes(name).decode("utf-8"), unquote_to_bytes(version).decode("ascii")
    except UnicodeDecodeError:
        return None
    if "?versionId=" in path or not re.fullmatch(r"[\w.~-]*", version, re.ASCII):
        return None
    found = (_ARN if path.lstrip("/").startswith("arn:") else _PLAIN).fullmatch(path)
    return Name(found[1], found[2], version) if found else None


def span(text: str) -> tuple[int, int] | None:
    """First and last byte of an x-amz-copy-source-range; None for anything but `bytes=first-last`."""
    found = _RANGE.fullmatch(text)
    if found is None or int(found[2]) < int(found[1]):
        return None
    return int(found[1]), int(found[2])


def bare(etag: str) -> str:
    """An ETag without its quotes, which clients write or leave out."""
    return etag.strip().strip('"')


def of_head(call: Call, status: int, headers: Headers) -> Told | None:
    """Size and ETag of the whole object, from the head of an answer to HeadObject or GetObject; None where it is not told."""
    fields: dict[str, str] = {}
    for name, value in headers:
        low = name.decode("latin-1").lower()
        if low in fields and low in {"etag", "content-length", "content-range"}:
            return None
        fields[low] = value.decode("latin-1").strip()
    if status == 206:
        found = _CONTENT_RANGE.fullmatch(fields.get("content-range", ""))
        size = found[1] if found else ""
    else:  # with a part's number the length may be that of the part
        whole = status == 200 and "content-range" not in fields and (call.params or {}).get("PartNumber") is None
        size = fields.get("content-length", "") if whole else ""
    return _told(fields.get("etag", ""), size)


def _told(etag: str, size: str) -> Told | None:
    etag = bare(etag)
    return Told(etag, int(size)) if _ETAG_TEXT.fullmatch(etag) and size.isascii() and size.isdigit() else None


def of_listing(body: bytes) -> Iterator[tuple[str, Told]]:
    """Keys, ETags and sizes of a listing's objects that are large enough for copies of ranges: `aws s3 sync` asks no more."""
    if not _LARGE_SIZE.search(body):
        return
    encoded = b"<EncodingType>url</EncodingType>" in body
    for entry in _LARGE.findall(body):
        key, etag, size = (html.unescape(text.decode("utf-8", "replace")) for text in entry)
        if (told := _told(etag, size)) is not None and told.size >= SMALLEST:
            yield unquote_plus(key) if encoded else key, told


def upload_id(body: bytes) -> str:
    """The id in an answer to CreateMultipartUpload; empty where there is not exactly one."""
    return _only(_UPLOAD_ID, body) if b"<InitiateMultipartUploadResult" in body else ""


def part_etag(body: bytes) -> str:
    """The ETag of a part that has been copied; empty for an error, which S3 may send with status 200."""
    return bare(_only(_ETAG, body)) if b"<CopyPartResult" in body else ""


def _only(pattern: re.Pattern[bytes], body: bytes) -> str:
    found = pattern.findall(body)
    return html.unescape(found[0].decode("utf-8", "replace")) if len(found) == 1 else ""


def listed(params: Mapping[str, Any] | None, request: Request) -> list[tuple[int, str]] | None:
    """Number and ETag of each part that a CompleteMultipartUpload lists; None where S3 might read another list.

    The body has to be in the one form that all SDKs write, without comments, prefixes and attributes: an element that S3
    leaves out and the gateway counts would be a gap.
    """
    body, upload = request.body, (params or {}).get("MultipartUpload")
    parts = upload.get("Parts") if isinstance(upload, Mapping) else None
    if not body or not parts or not all(_KNOWN_TAG.fullmatch(tag) for tag in _TAG.findall(body)):
        return None
    if body.count(b"<Part>") != len(parts) or body.count(b"<CompleteMultipartUpload") != 1:
        return None
    made = [(part.get("PartNumber"), bare(str(part.get("ETag") or ""))) for part in parts]
    return made if all(isinstance(number, int) and etag for number, etag in made) else None
