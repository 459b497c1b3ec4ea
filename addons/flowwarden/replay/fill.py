"""Masks of a recorded request filled with what they stand for: in its target, its headers and its body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, unquote_plus
from xml.sax.saxutils import escape

from ..errors import Refusal
from ..masking import codings
from .masked import MASK, holds_mask
from .secrets import Secrets

Path = tuple[str, ...]
_TAG = re.compile(r"<(/?)([A-Za-z_][\w:.-]*)[^<>]*?(/?)>")
_CODED = re.compile(r"%5BMASKED(?:(?!%5D).)*%5D", re.IGNORECASE)
_NO_SEGMENT = re.compile(r"\d+|member|entry|Item")  # of a query protocol's list: `Tags.member.1.Value`


def _same(text: str) -> str:
    return text


class Filler:
    """Fills one call's masks. `missing` are those that nobody gave a value for, as lines `field: mask`."""

    def __init__(self, secrets: Secrets, flow: str, operation: str) -> None:
        self._secrets = secrets
        self._flow = flow
        self._operation = operation
        self.missing: list[str] = []

    def text(self, path: Path, text: str, write: Callable[[str], str] = _same) -> str:
        """A text of a field. `write` puts a value into the syntax around it."""

        def value(match: re.Match[str]) -> str:
            found = self._secrets.value(self._flow, self._operation, path, match[0])
            if found is None:
                self.missing.append(f"{'.'.join(path)}: {match[0]}")
                return match[0]
            return write(found)

        return MASK.sub(value, text) if "[MASKED" in text else text

    def target(self, target: str) -> str:
        """Path and query; a parameter's field is its name, the path's is `path`."""
        if "MASKED" not in target:
            return target
        path, mark, query = _plain_masks(target).partition("?")
        return self.text(("path",), path, _quoted) + mark + self._form(query)

    def header(self, name: str, value: str) -> str:
        """A header's value; its field is its name. ValueError for a value that no header can hold."""
        filled = self.text((name,), value)
        if filled is not value and re.search(r"[\r\n\0]", filled):
            raise ValueError(f"what was given for the header {name} holds a line's end")
        return filled.encode("utf-8").decode("latin-1") if filled is not value else value

    def body(self, body: bytes, content_type: str = "", coding: str = "") -> bytes:
        """A whole body in its Content-Encoding."""
        applied = codings.names(coding)
        try:
            plain = codings.decode(body, applied) if applied and body else body
        except (Refusal, ValueError):
            return body
        if b"MASKED" not in plain:
            return body
        filled = self._body(plain, content_type.lower())
        return codings.encode(filled, applied) if applied else filled

    def _body(self, body: bytes, content_type: str) -> bytes:
        if "cbor" in content_type:
            import cbor2

            return bytes(cbor2.dumps(self._tree((), cbor2.loads(body))))
        text = body.decode("utf-8", "surrogateescape")
        if text.lstrip()[:1] in ("{", "["):
            try:
                return self._json(text).encode("utf-8", "surrogatepass")
            except ValueError:
                pass
        if text.lstrip().startswith("<"):
            return self._xml(text).encode("utf-8", "surrogateescape")
        if "x-www-form-urlencoded" in content_type:
            return self._form(text).encode("utf-8", "surrogateescape")
        return self.text(("body",), text).encode("utf-8", "surrogateescape")

    def _json(self, text: str) -> str:
        return json.dumps(self._tree((), json.loads(text)), ensure_ascii=False, separators=(",", ":"))

    def _tree(self, path: Path, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._tree((*path, str(name)), item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._tree(path, item) for item in value]
        if not isinstance(value, str) or not holds_mask(value):
            return value
        if value.lstrip()[:1] == "{":
            try:
                return json.dumps(self._tree(path, json.loads(value)), ensure_ascii=False)  # JSON in JSON
            except ValueError:
                pass
        return self.text(path, value)

    def _xml(self, text: str) -> str:
        """Masks between tags; a value's field are the elements around it, the outermost left out."""
        made, at, stack = [], 0, list[str]()
        for tag in _TAG.finditer(text):
            made.append(self.text(tuple(stack[1:]), text[at : tag.start()], escape) + tag[0])
            at = tag.end()
            if tag[1]:
                del stack[-1:]
            elif not tag[3]:
                stack.append(tag[2].rpartition(":")[2])
        return "".join(made) + self.text(tuple(stack[1:]), text[at:], escape)

    def _form(self, text: str) -> str:
        """Parameters `name=value`; what is not masked stays as it is written."""
        parts = []
        for part in _plain_masks(text).split("&"):
            name, mark, value = part.partition("=")
            path = tuple(each for each in unquote_plus(name).split(".") if not _NO_SEGMENT.fullmatch(each)) or ("",)
            parts.append(name + mark + self.text(path, value, _quoted))
        return "&".join(parts)


def _plain_masks(text: str) -> str:
    """The same text with masks that are percent-encoded written as they are."""
    return _CODED.sub(lambda match: plain if MASK.fullmatch(plain := unquote(match[0])) else match[0], text)


def _quoted(value: str) -> str:
    return quote(value, safe="")
