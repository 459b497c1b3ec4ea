"""The canonical request of SigV4: the one canonicaliser, for checking as for signing.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. Where published signers
differ (dot segments, `+` in a query, characters that one encodes and another does not), each difference is a
`Spelling`: `verify` finds the one that the client used, `sign` uses the same. The first is that of the AWS SDKs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from .shapes import refuse

S3_FAMILY = frozenset({"s3", "s3-outposts", "s3-object-lambda"})
_SAFE_PATH = re.compile(r"/(?:(?!\.{1,2}(?:/|$))[A-Za-z0-9_.~-]+/?)*")
_SPACES = re.compile(r"[ \t\r\n]+")
_WHITE = " \t\r\n"
_SIGNATURE = "x-amz-signature"


class Spelling(NamedTuple):
    """One way to spell a canonical request.

    path: `usual` (S3: as sent; else normalised and encoded again) or `other` (S3: decoded and encoded once; else
    encoded again without being normalised). query: `sent`, or decoded and encoded again with `+` as a space (`form`)
    or as itself (`plus`). text: the encoding of header values beyond ASCII, bytes as sent or taken for ISO 8859-1.
    """

    path: Literal["usual", "other"] = "usual"
    query: Literal["sent", "form", "plus"] = "sent"
    text: Literal["latin-1", "utf-8"] = "latin-1"


PLAIN = Spelling()


def published(s3: bool) -> Spelling:
    """The spelling of AWS's own text, for a client whose signature cannot be checked: S3 decodes and encodes once."""
    return Spelling("other" if s3 else "usual", "form")


def canonical_request(
    method: str,
    target: str,
    fields: Mapping[str, Sequence[str]],
    signed_headers: Sequence[str],
    payload: str,
    *,
    s3: bool,
    presigned: bool = False,
    spelling: Spelling = PLAIN,
) -> bytes:
    """The canonical request as bytes.

    `target` is path and query as sent, `fields` the header values by lower-case name (latin-1), `payload` the value of
    the last line. A presigned request's X-Amz-Signature is left out. Raises Refusal if a signed header is missing.
    """
    raw_path, _, raw_query = target.partition("?")
    text = "\n".join(
        (
            method,
            canonical_path(raw_path, s3, spelling),
            canonical_query(raw_query, presigned, spelling) if raw_query else "",
            canonical_headers(fields, signed_headers),
            "",
            ";".join(signed_headers),
            payload,
        )
    )
    return text.encode(spelling.text)


def canonical_headers(fields: Mapping[str, Sequence[str]], signed_headers: Sequence[str]) -> str:
    """`name:value` lines: values trimmed, inner white space a single space, repeated headers joined by commas."""
    lines = []
    for name in signed_headers:
        values = fields.get(name)
        if not values:
            raise refuse(f"SignedHeaders names {name!r}, which the request does not have", "SignatureDoesNotMatch")
        value = trim(values[0]) if len(values) == 1 else ",".join([trim(value) for value in values])
        lines.append(f"{name}:{value}")
    return "\n".join(lines)


def trim(value: str) -> str:
    value = value.strip(_WHITE)
    if "  " in value or "\t" in value or "\n" in value:
        return _SPACES.sub(" ", value)
    return value


def canonical_path(path: str, s3: bool, spelling: Spelling = PLAIN) -> str:
    """S3 signs the path encoded once, every other service encodes what was sent again. An empty path is `/`."""
    if path in {"", "/"}:
        return "/"
    if s3:
        return path if spelling.path == "usual" else quote(unquote_to_bytes(path.encode("latin-1")), safe="/~")
    if _SAFE_PATH.fullmatch(path):
        return path
    return quote((normalised(path) if spelling.path == "usual" else path).encode("latin-1"), safe="/~")


def normalised(path: str) -> str:
    """RFC 3986, section 5.2.4, and consecutive slashes as one."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment and segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if path.endswith("/") and kept else "")


def canonical_query(query: str, presigned: bool, spelling: Spelling = PLAIN) -> str:
    """Parameters sorted by encoded name, then value; `name` alone is `name=`."""
    pairs = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if presigned and name.lower() == _SIGNATURE:
            continue
        if spelling.query != "sent":
            if not pair:
                continue
            name, value = _encoded(name, spelling), _encoded(value, spelling)
        pairs.append((name, value))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def _encoded(text: str, spelling: Spelling) -> str:
    if spelling.query == "form":
        text = text.replace("+", " ")
    return quote(unquote_to_bytes(text.encode("latin-1")), safe="-_.~")


def spellings(target: str, s3: bool, *, ascii_only: bool) -> Iterator[Spelling]:
    """The spellings beyond the plain one that differ from it for this target, most likely first."""
    path, _, query = target.partition("?")
    plain = canonical_path(path, s3)
    other: Spelling = PLAIN._replace(path="other")
    paths: list[Literal["usual", "other"]] = ["usual"]
    if canonical_path(path, s3, other) != plain:
        paths.append("other")
    queries: list[Literal["sent", "form", "plus"]] = ["sent"]
    seen = {canonical_query(query, False)} if query else {""}
    choices: tuple[Literal["form", "plus"], ...] = ("form", "plus")
    for choice in choices:
        text = canonical_query(query, False, PLAIN._replace(query=choice)) if query else ""
        if text not in seen:
            seen.add(text)
            queries.append(choice)
    texts: list[Literal["latin-1", "utf-8"]] = ["latin-1"] if ascii_only else ["latin-1", "utf-8"]
    for encoding in texts:
        for path_choice in paths:
            for query_choice in queries:
                spelling = Spelling(path_choice, query_choice, encoding)
                if spelling != PLAIN:
                    yield spelling
