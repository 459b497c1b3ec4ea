"""Paths and queries of a request target, read once and strictly."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from .refuse import refusal

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[^\x21-\x7e]|\\")
_DOTS = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\;]|$)")


def decode(text: str, protocol: str = "", plus: bool = False) -> str:
    """Percent-decoded UTF-8; a Refusal for a broken escape, bytes that are no UTF-8, or NUL."""
    if plus:
        text = text.replace("+", " ")
    if "%" not in text and text.isascii():
        return text
    if _BAD_ESCAPE.search(text):
        raise refusal("request", protocol, "The request target has a broken percent escape")
    try:
        found = unquote_to_bytes(text.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        raise refusal("request", protocol, "The request target is not UTF-8") from None
    if "\x00" in found:
        raise refusal("request", protocol, "The request target has a NUL")
    return found


def pairs(query: str, protocol: str = "", plus: bool = True) -> dict[str, list[str]]:
    """Decoded names and values of a query or form; values of a name in their order. `;` is no separator."""
    found: dict[str, list[str]] = {}
    if not query:
        return found
    for piece in query.split("&"):
        if piece:
            name, _, value = piece.partition("=")
            found.setdefault(decode(name, protocol, plus), []).append(decode(value, protocol, plus))
    return found


def check_target(target: str, protocol: str = "") -> None:
    """A Refusal for a target that is not origin-form, has control characters, or a fragment."""
    if not target.startswith("/"):
        raise refusal("request", protocol, "The request target has to start with a slash")
    if _CONTROL.search(target) or "#" in target:
        raise refusal("request", protocol, "The request target has characters that no AWS SDK sends unescaped")


def check_path(path: str, protocol: str, s3: bool, root: int = 1) -> None:
    """A Refusal for a path that decodes to another path: `..`, `.`, `//`, a backslash or NUL, however often encoded.

    S3 keys may hold empty and dot segments, and S3 takes them as they are; nowhere else does an SDK send them. None may
    lead out of the bucket, which in path style is the first segment (`root` 1, else 0).
    """
    if not s3 and "//" in path:
        raise refusal("request", protocol, "The path has an empty segment")
    if not s3 and ";" in path:
        raise refusal("request", protocol, "The path has a parameter after a semicolon, which some servers cut off")
    if _DOTS.search(path) and (not s3 or _leaves(path, root)):
        raise refusal("request", protocol, "The path has a dot segment")
    text = path
    for _ in range(4):
        if "%" not in text:
            return
        further = _loosely_decoded(text)
        if further == text:
            return  # a literal percent sign
        text = further
        if (_DOTS.search(text) and (not s3 or _leaves(text, root))) or "\x00" in text or "\\" in text:
            raise refusal("request", protocol, "The path decodes to another path")
    if not s3:
        raise refusal("request", protocol, "The path is encoded too often")


def _leaves(path: str, root: int) -> bool:
    """Whether dot segments, if somebody took them for what they are in a file system, would lead above the root."""
    depth = 0
    for segment in path.split("/")[1:]:
        if segment == "..":
            depth -= 1
            if depth < root:
                return True
        elif segment not in ("", "."):
            depth += 1
    return False


def _loosely_decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1")).decode("latin-1")
