"""Principals in the words that STS allows, and back: role session names, source identities, session tags.

A character outside the allowed set becomes `=XX` for each byte of its UTF-8, as in quoted-printable; `=` itself too. What
gets too long is cut and ends with `=-` and a digest, by which it can still be told to be a given principal's.
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Iterable
from hashlib import sha256

NAME_LENGTH = 64
TAG_LENGTH = 256
_NAME_UNSAFE = re.compile(r"[^A-Za-z0-9_+,.@-]")
_TAG_ESCAPED = re.compile(r"=[0-9A-F]{2}")
_TAG_UNSAFE = re.compile(r"[^\w .:/+\-@]")
_GROUP_UNSAFE = re.compile(r"[^\w ./+\-@]")
_CUT = "=-"
_DIGEST = 20  # base-32 digits: 100 bits


def session_name(text: str) -> str:
    """A text as a RoleSessionName or SourceIdentity: `[A-Za-z0-9_+=,.@-]{2,64}`."""
    encoded = _NAME_UNSAFE.sub(_escape, text)
    if len(encoded) < 2:
        encoded = "".join(f"={byte:02X}" for byte in text.encode("utf-8", "surrogatepass")) or "=="
    if len(encoded) <= NAME_LENGTH:
        return encoded
    kept = text[:NAME_LENGTH]
    while len(head := _NAME_UNSAFE.sub(_escape, kept)) > NAME_LENGTH - len(_CUT) - _DIGEST:
        kept = kept[:-1]  # whole characters, so that what is left can be decoded
    return head + _CUT + _digest(text)


def decode(name: str) -> tuple[str, bool]:
    """The text of a name or tag, and whether it is all of it (else its start; `matches` tells whose it is).

    ValueError if neither `session_name` nor `tag` made it.
    """
    head, cut, digest = name.partition(_CUT)
    text = "" if head == "==" else _unescape(head)
    if cut and not re.fullmatch(f"[A-Z2-7]{{{_DIGEST}}}", digest):
        raise ValueError(f"{name!r} is not a name that the gateway gave")
    return text, not cut


def matches(name: str, text: str) -> bool:
    """Whether a name was given for this text."""
    return session_name(text) == name


def tag(text: str) -> str:
    """A text as the value of a session tag: letters and numbers of any script, space and `_.:/=+-@`. Not cut."""
    return _TAG_UNSAFE.sub(_escape, text)


def tag_list(texts: Iterable[str]) -> str:
    """Several texts as one tag, `:a:b:`, so that a policy can ask for `*:a:*`."""
    encoded = [_GROUP_UNSAFE.sub(_escape, text) for text in sorted(texts)]
    return f":{':'.join(encoded)}:" if encoded else ""


def _escape(found: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))


def _unescape(text: str) -> str:
    if "=" in _TAG_ESCAPED.sub("", text):
        raise ValueError(f"{text!r} is not a name that the gateway gave")
    data = re.sub(rb"=([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    return data.decode("utf-8", "surrogatepass")


def _digest(text: str) -> str:
    return b32encode(sha256(text.encode("utf-8", "surrogatepass")).digest())[:_DIGEST].decode()
