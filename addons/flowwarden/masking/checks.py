"""Checks beyond a pattern: checksums of cards, IBANs and the like, and whether a value looks like a secret at all."""

from __future__ import annotations

import re
from collections.abc import Callable

from .replacing import MARK, MARKED, entropy

Check = Callable[[bytes, bytes], bool]
"""(text before the value, value) -> whether it is what the pattern meant."""

_PLACEHOLDER = re.compile(
    rb"(?i)^(?:[x*.#_-]+|<.*|\$[{(].*|%\(.*|\{\{.*|\[.*|your[-_ ].*|(?:my|the|some)[-_].*|.*example.*|changeme.*|"
    rb"placeholder.*|redacted|none|null|true|false|undefined|arn:.*|(?:AKIA|ASIA)[A-Z0-9]{16}(?:[/%,].*)?|(?:https?|s3)://[^@]*)$"
)
_UUID = re.compile(rb"^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_TIME = re.compile(rb"^\d{4}-\d\d-\d\d(?:[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?$")
_CODE = re.compile(
    rb"^[A-Za-z_$][\w$]*(?:(?:\.|::|->)[A-Za-z_$][\w$]*)+\.?$|^[\w./$-]*\($|^(?:[A-Z]?[a-z]+)+$|^[A-Z_]+$"
)
_EXPRESSION = re.compile(rb"^[A-Za-z_$][\w$]*(?:(?:\.|::|->)[A-Za-z_$][\w$]*)+(?:$|[\s(\[;,)])|^[A-Za-z_$][\w.$]*[(\[]")
_PATHLIKE = re.compile(rb"^[~.]?(?:/[\w.@+-]+)+/?$")
_TOKENS_OF_PAGES = tuple(
    (kind + between + word).encode()
    for kind in (
        *("next", "continuation", "page", "nextpage", "next_page", "pagination", "paging", "client", "request"),
        *(
            "clientrequest",
            "client_request",
            "idempotency",
            "sync",
            "nextsync",
            "cancellation",
            "marker",
            "upload",
            "start",
        ),
    )
    for between in ("", "_", "-")
    for word in ("token", "key")
)
_NOT_SECRET_KEY = (
    *(
        b"arn",
        b"id",
        b"ids",
        b"name",
        b"names",
        b"type",
        b"length",
        b"policy",
        b"count",
        b"size",
        b"hash",
        b"url",
        b"uri",
    ),
    *(
        b"path",
        b"file",
        b"age",
        b"version",
        b"stage",
        b"status",
        b"state",
        b"lastused",
        b"date",
        b"time",
        b"_at",
        b"expiry",
    ),
    *(b"expires", b"required", b"enabled", b"algorithm", b"format", b"field", b"label", b"hint", b"usage", b"tokens"),
    *(
        b"publickey",
        b"public_key",
        b"public-key",
        b"endpoint",
        b"issuer",
        b"created",
        b"modified",
        b"updated",
        b"rotation",
    ),
    *_TOKENS_OF_PAGES,
)  # ends of names, in small letters, of values that are no secret
_LOOKED_AT = 4096  # bytes of a long match that its check looks at
_NOT_IN_ARN = b" \t\r\n\"'"
_AFTER_KEY = b"'\"\\ \t\r\n:=>,`"


def luhn(_before: bytes, value: bytes) -> bool:
    """ISO/IEC 7812-1 annex B check digit over 12 to 19 digits."""
    digits = [c - 48 for c in value if 48 <= c <= 57]
    if not 12 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    total = sum(d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits)))
    return total % 10 == 0


def iban(_before: bytes, value: bytes) -> bool:
    """ISO 13616: the rearranged number modulo 97 is 1."""
    text = re.sub(rb"[ -]", b"", value).decode("ascii", "replace").upper()
    if not 15 <= len(text) <= 34 or not text.isalnum():
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def ssn(_before: bytes, value: bytes) -> bool:
    """A US social security number that may have been assigned (SSA: no 000, 666, 9xx area, 00 group, 0000 serial)."""
    area, _, rest = value.decode("ascii", "replace").partition("-")
    group, _, serial = rest.partition("-")
    return area not in {"000", "666"} and area < "900" and group != "00" and serial != "0000"


def secret(before: bytes, value: bytes) -> bool:
    """Whether what stands after `password=` and its like is a secret, and no placeholder, id, code or date."""
    key = before[-128:].rstrip(_AFTER_KEY)
    if (
        key.lower().endswith(_NOT_SECRET_KEY)
        or _within_arn(key)
        or _PLACEHOLDER.match(value)
        or _UUID.match(value)
        or _TIME.match(value)
    ):
        return False
    if value.isdigit() or _CODE.match(value) or _PATHLIKE.match(value):
        return False
    kinds = sum(
        (
            any(48 <= c <= 57 for c in value),
            any(65 <= c <= 90 for c in value),
            any(97 <= c <= 122 for c in value),
            any(c < 48 or 57 < c < 65 or 90 < c < 97 or c > 122 for c in value),
        )
    )
    return kinds >= 2 and entropy(value) >= (2.5 if len(value) < 12 else 2.9)


def _within_arn(key: bytes) -> bool:
    at = key.rfind(b"arn:aws")
    return at >= 0 and not any(c in _NOT_IN_ARN for c in key[at:])


def mixed(_before: bytes, value: bytes) -> bool:
    """A random token: digits and letters of both cases, no hexadecimal hash, no words with separators."""
    return (
        any(48 <= c <= 57 for c in value)
        and any(65 <= c <= 90 for c in value)
        and any(97 <= c <= 122 for c in value)
        and entropy(value) >= 3.5
    )


def mixed_lower(_before: bytes, value: bytes) -> bool:
    """A random token of small letters and digits."""
    return any(48 <= c <= 57 for c in value) and any(97 <= c <= 122 for c in value) and entropy(value) >= 3.3


def mixed_upper(_before: bytes, value: bytes) -> bool:
    """A random token of capital letters and digits."""
    return any(48 <= c <= 57 for c in value) and any(65 <= c <= 90 for c in value) and entropy(value) >= 3.3


def url_password(_before: bytes, value: bytes) -> bool:
    """The password of a URL, and no variable that stands for one."""
    return not _PLACEHOLDER.match(value) and not value.startswith((b"$", b"{", b"%7B", b"*")) and b"//" not in value


def line(_before: bytes, value: bytes) -> bool:
    """The value of a line `NAME=value`, and no reference to another variable, no expression of a program."""
    text = value.strip()
    return bool(text) and not text.startswith((b"$", b"<", b"{{")) and not _EXPRESSION.match(text)


def phone(_before: bytes, value: bytes) -> bool:
    """An international number of 8 to 15 digits (ITU-T E.164)."""
    return 8 <= sum(48 <= c <= 57 for c in value) <= 15


CHECKS: dict[str, Check] = {
    "luhn": luhn,
    "iban": iban,
    "ssn": ssn,
    "secret": secret,
    "mixed": mixed,
    "mixed_lower": mixed_lower,
    "mixed_upper": mixed_upper,
    "url_password": url_password,
    "phone": phone,
    "line": line,
}


def passes(check: str, minimum: float, before: bytes, value: bytes) -> bool:
    """Whether a match stands the mask's check and its least entropy (bits a byte). A mask already there never does."""
    value = value[:_LOOKED_AT]
    if MARK in value and len(MARKED.sub(b"", value)) < 6:
        return False
    if minimum and entropy(value) < minimum:
        return False
    return not check or CHECKS[check](before, value)
