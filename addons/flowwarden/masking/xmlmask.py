"""XML answers (query, EC2 and rest-xml protocols): elements by path, name/value pairs, patterns over text and attributes.

Only the text that changes is written again. List wrappers (`member`, `item`, `entry`) are no segments of a path. A document
with a DTD is refused: no AWS service sends one, and entities are a way to hide text.
"""

from __future__ import annotations

import base64
import html
import re
from xml.parsers import expat
from xml.sax.saxutils import escape

from ..errors import Refusal
from . import noecho
from .budget import deep
from .globs import Globs
from .jsonmask import Whole
from .jsontree import Edits
from .model import refuse
from .values import Run, Values

_TOKEN = re.compile(
    rb"<!--(?:[^-]++|-(?!->))*+-->|<!\[CDATA\[(?:[^\]]++|\](?!\]>))*+\]\]>|<\?(?:[^?]++|\?(?!>))*+\?>|"
    rb"<(?:[^<>\"']++|\"[^\"]*+\"|'[^']*+')*+>|[^<]++",
    re.S,
)
_TAG = re.compile(rb"</?(?:[^\s/>:]+:)?([^\s/>:]+)")
_ATTRIBUTE = re.compile(rb"=\s*(\"[^\"]*+\"|'[^']*+')")
_WRAPPERS = frozenset({"member", "item", "entry"})
_NAME_TAGS = frozenset({"name", "key", "parameterkey", "optionname"})
_VALUE_TAGS = frozenset({"value", "parametervalue", "optionvalue"})


def check(text: bytes) -> None:
    """Refusal unless the text is well-formed XML without a document type."""
    parser = expat.ParserCreate()
    seen: list[bool] = []
    parser.StartDoctypeDeclHandler = lambda *_: seen.append(True)
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, ValueError, LookupError):
        raise refuse("UnreadableAnswer", "the answer says it is XML and is not") from None
    if seen:
        raise refuse("UnreadableAnswer", "the answer's XML has a document type")


def is_xml(text: bytes) -> bool:
    """Whether `check` would pass a text."""
    try:
        check(text)
    except Refusal:
        return False
    return True


def unescaped(text: bytes) -> bytes:
    """Text with its entities and character references replaced."""
    if b"&" not in text:
        return text
    return html.unescape(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogatepass")


class _Element:
    __slots__ = ("default", "end", "name", "no_echo", "start", "text", "wrapper")

    def __init__(self, name: str) -> None:
        self.name = name
        self.wrapper = name in _WRAPPERS
        self.text: list[bytes] = []
        self.start = -1
        self.end = -1
        self.default: _Element | None = None  # of a CloudFormation parameter
        self.no_echo = False


class XmlMasker:
    """Masks XML texts that `check` has passed."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def careful(self, text: bytes, run: Run, fields: Globs[Whole]) -> bytes | None:
        """The text with its secrets masked, None if there are none."""
        edits = Edits(text)
        stack: list[_Element] = []
        hidden: list[tuple[int, Whole]] = []  # (depth, what) of elements that are hidden as a whole
        pair_name = ""
        for match in _TOKEN.finditer(text):
            run.budget.tick()
            token = match.group()
            if token[:1] != b"<" or token[:9] == b"<![CDATA[":
                self._collect(stack, token, match.start(), match.end())
            elif token[1:2] in b"!?":
                self._aside(token, match.start(), run, edits)
            elif token[1:2] == b"/":
                if not stack:
                    break
                element = stack.pop()
                if element.name.lower() in _NAME_TAGS:
                    pair_name = unescaped(b"".join(element.text)).decode("utf-8", "replace").strip()
                key = pair_name if pair_name and element.name.lower() in _VALUE_TAGS else element.name
                self._value(element, stack[-1].name if element.wrapper and stack else key, hidden, run, edits)
                self._no_echo(element, stack[-1] if stack else element, run, edits)
                if hidden and hidden[-1][0] == len(stack):
                    hidden.pop()
                pair_name = "" if element.wrapper else pair_name
            else:
                self._flush_mixed(stack, hidden, run, edits)
                self._attributes(token, match.start(), run, edits)
                if token[-2:-1] != b"/":
                    self._open(token, stack, hidden, fields)
        return edits.result() if edits else None

    def _open(self, token: bytes, stack: list[_Element], hidden: list[tuple[int, Whole]], fields: Globs[Whole]) -> None:
        found = _TAG.match(token)
        stack.append(_Element(found.group(1).decode("utf-8", "replace") if found else ""))
        deep(len(stack))
        path = tuple(element.name for element in stack if not element.wrapper)
        whole = fields.match(path) if fields and path else None
        if whole is not None:
            hidden.append((len(stack) - 1, whole))

    def _aside(self, token: bytes, start: int, run: Run, edits: Edits) -> None:
        """Comments and processing instructions."""
        masked = self.values.mask(token, run)
        if masked is not None:
            edits.replace(start, start + len(token), masked)

    @staticmethod
    def _collect(stack: list[_Element], token: bytes, start: int, end: int) -> None:
        if not stack:
            return
        element = stack[-1]
        element.text.append(
            escape(token[9:-3].decode("utf-8", "replace")).encode() if token[:9] == b"<![CDATA[" else token
        )
        element.start = start if element.start < 0 else element.start
        element.end = end

    def _flush_mixed(self, stack: list[_Element], hidden: list[tuple[int, Whole]], run: Run, edits: Edits) -> None:
        """Text before a child element is a value of its own."""
        if stack and stack[-1].text:
            self._value(stack[-1], "", hidden, run, edits)
            stack[-1].text, stack[-1].start = [], -1

    def _value(self, element: _Element, key: str, hidden: list[tuple[int, Whole]], run: Run, edits: Edits) -> None:
        plain = unescaped(b"".join(element.text))
        if not plain.strip():
            return
        if hidden:
            masked = run.mask(hidden[0][1].mask, plain)
            if masked is not None and hidden[0][1].blob:
                masked = base64.b64encode(masked)
        else:
            masked = self.values.mask(plain, run, key.encode())
        if masked is not None:
            edits.replace(element.start, element.end, escape(masked.decode("utf-8", "replace")).encode())

    def _no_echo(self, element: _Element, parent: _Element, run: Run, edits: Edits) -> None:
        """The default of a CloudFormation parameter with NoEcho, which may stand before it or behind it."""
        if element.name == "NoEcho":
            parent.no_echo = noecho.true(unescaped(b"".join(element.text)))
        elif element.name in {"DefaultValue", "Default"} and element.text:
            parent.default = element
        default, mask = element.default, self.values.no_echo
        if element.no_echo and default is not None and mask is not None:
            masked = run.mask(mask, unescaped(b"".join(default.text)))
            if masked is not None:
                edits.replace(default.start, default.end, masked)

    def _attributes(self, token: bytes, offset: int, run: Run, edits: Edits) -> None:
        if self.values.patterns.spans(_ATTRIBUTE.sub(b"", token)):
            raise refuse("UnreadableAnswer", "the answer's XML has a secret as the name of an element or attribute")
        if b"=" not in token:
            return
        for match in _ATTRIBUTE.finditer(token):
            value = match.group(1)[1:-1]
            masked = self.values.mask(unescaped(value), run)
            if masked is not None:
                coded = escape(masked.decode("utf-8", "replace"), {'"': "&quot;", "'": "&apos;"}).encode()
                edits.replace(offset + match.start(1) + 1, offset + match.end(1) - 1, coded)
