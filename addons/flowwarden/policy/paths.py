"""URL paths and methods in every form in which a server may read them, so that no spelling slips past a rule."""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from ..types import Request

_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
_ROUNDS = 4  # a path that is still encoded after so many rounds of decoding is not read
_ODD = re.compile(r"[\x00-\x1f\x7f\udc80-\udcff]")  # control characters, and bytes that are not UTF-8


def methods(request: Request) -> set[str]:
    """The request's method and every one that an override header names.

    Methods are case-sensitive (RFC 9110, 9.1), but not every server knows: `delete` counts as `DELETE` too.
    """
    named = {request.method, request.method.upper()}
    for field in _OVERRIDES:
        for value in request.fields.get(field, ()):
            named.add(value.strip().upper())
    return named


def _decoded(path: str) -> list[str | None]:
    found: list[str | None] = [path]
    for _ in range(_ROUNDS):
        if "%" not in path:
            return found
        once = unquote_to_bytes(path.encode("latin-1", "replace")).decode("utf-8", "surrogateescape")
        if once == path:  # a stray percent sign
            return [*found, None]
        path = once
        found.append(path)
    return [*found, None] if "%" in path else found


def _normal(path: str) -> str:
    """Dot segments and empty segments removed (RFC 3986, 5.2.4); a trailing slash stays."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith(("/", "/.", "/..")) and clean != "/" else clean


@lru_cache(maxsize=4096)
def forms(path: str) -> tuple[str | None, ...]:
    """Every reading of a path: as sent, decoded (repeatedly), without dot segments, `;` parameters and backslashes.

    None among them says that one reading is not known: control characters, or encoding without end.
    """
    if path.startswith("/") and not re.search(r"%|;|\\|//|/\.|[^\x21-\x7e]", path):
        return (path,)
    found: dict[str | None, None] = {}
    for form in _decoded(path):
        found[form] = None
        if form is None:
            continue
        if _ODD.search(form):
            found[None] = None
        slashed = form.replace("\\", "/")
        found[_normal(slashed)] = None
        found[_normal(re.sub(r";[^/]*", "", slashed))] = None
    if not path.startswith("/"):
        found[None] = None  # `*`, or an absolute form: not a path
    return tuple(found)
