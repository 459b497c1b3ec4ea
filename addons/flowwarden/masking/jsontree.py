"""A JSON text as a tree that knows where each value stands, so that masks go in without touching another byte.

Numbers keep their digits, members their order, even doubled ones. The text has to have been checked by `json` before.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Literal

from .budget import Budget, deep
from .model import refuse

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^\s{}\[\],:"]++', re.S)
_DECODER = json.JSONDecoder(parse_int=len, parse_float=len)

Kind = Literal["object", "array", "string", "number", "word"]


class Node:
    """A value. `items` are (name, value) pairs of an object, or ("", value) of an array; `text` a string's content.

    `named` is where the member's name stands, (0, 0) if it has none.
    """

    __slots__ = ("end", "items", "kind", "named", "start", "text")

    def __init__(self, kind: Kind, start: int, end: int = 0, text: str = "") -> None:
        self.kind = kind
        self.start = start
        self.end = end
        self.text = text
        self.items: list[tuple[str, Node]] = []
        self.named = (0, 0)

    def get(self, *names: str) -> Node | None:
        """The first member of one of the names."""
        for name, node in self.items:
            if name in names:
                return node
        return None

    def string(self, *names: str) -> str | None:
        """The text of the first string member of one of the names."""
        node = self.get(*names)
        return node.text if node is not None and node.kind == "string" else None

    def nodes(self) -> Iterator[Node]:
        """The values of an object or array."""
        for _name, node in self.items:
            yield node


def check(text: bytes) -> None:
    """Refusal unless the text is JSON (RFC 8259; the non-finite numbers that some servers send are let through)."""
    try:
        _DECODER.decode(text.removeprefix(BOM_UTF8).decode())
    except RecursionError:
        raise refuse("TooDeep", "the answer is nested too deeply to be searched") from None
    except (ValueError, UnicodeDecodeError):
        raise refuse("UnreadableAnswer", "the answer says it is JSON and is not") from None


def is_json(text: bytes) -> bool:
    """Whether a value is a JSON document of its own."""
    try:
        _DECODER.decode(text.decode("utf-8"))
    except (RecursionError, ValueError):
        return False
    return True


def _string(token: bytes) -> str:
    if b"\\" not in token:
        return token[1:-1].decode("utf-8", "surrogatepass")
    return str(json.loads(token.decode("utf-8", "surrogatepass"), strict=False))


def _node(token: bytes, first: int, start: int, end: int) -> Node:
    if first == 0x22:
        return Node("string", start, end, _string(token))
    if first in b"{[":
        return Node("object" if first == 0x7B else "array", start)
    return Node("number" if first in b"-0123456789" else "word", start, end)


def parse(text: bytes, budget: Budget) -> Node:
    """The tree of a text that `check` has passed."""
    root = Node("array", 0, len(text))
    stack: list[Node] = [root]
    name = ""
    named = (0, 0)
    for match in _TOKEN.finditer(text):
        budget.tick()
        token = match.group()
        first = token[0]
        if first == 0x3A:  # colon: the string before it was a name
            before = stack[-1].items.pop()[1]
            name, named = before.text, (before.start, before.end)
            continue
        if first == 0x2C:
            continue
        if first in b"}]":
            stack.pop().end = match.end()
            if not stack:
                raise refuse("UnreadableAnswer", "the answer's JSON cannot be read")
            continue
        node = _node(token, first, match.start(), match.end())
        node.named = named
        stack[-1].items.append((name, node))
        name, named = "", (0, 0)
        if first in b"{[":
            stack.append(node)
            deep(len(stack))
    if len(root.items) != 1:
        raise refuse("UnreadableAnswer", "the answer's JSON cannot be read")
    return root.items[0][1]


def quoted(value: bytes | str) -> bytes:
    """A value as a JSON string, in UTF-8."""
    text = value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value
    try:
        return json.dumps(text, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(text).encode("ascii")


class Edits:
    """Replacements in a text, applied all at once."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._made: list[tuple[int, int, bytes]] = []

    def __bool__(self) -> bool:
        return bool(self._made)

    def text(self, start: int, end: int) -> bytes:
        """A piece of the text as it was."""
        return self._text[start:end]

    def replace(self, start: int, end: int, new: bytes) -> None:
        self._made.append((start, end, new))

    def result(self) -> bytes:
        parts: list[bytes] = []
        at = 0
        for start, end, new in sorted(self._made, key=lambda edit: edit[0]):
            if start < at:
                continue  # inside something that was replaced as a whole
            parts += (self._text[at:start], new)
            at = end
        return b"".join(parts) + self._text[at:]
