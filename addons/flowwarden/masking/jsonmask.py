"""JSON answers: fields by path, AWS members, name/value pairs, and patterns over every string."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field

from . import jsontree, noecho
from .globs import Globs
from .jsontree import Edits, Node
from .model import Mask
from .values import Run, Values

Path = tuple[str, ...]
_NAMES = ("name", "Name", "key", "Key", "ParameterKey", "OptionName", "parameterKey")
_VALUES = ("value", "Value", "ParameterValue", "OptionValue", "stringValue", "StringValue", "parameterValue")


@dataclass(slots=True)
class Whole:
    """A field whose value is hidden as a whole. `blob`: the value is base64 and has to stay it."""

    mask: Mask
    blob: bool = False


@dataclass(slots=True)
class Reading:
    """One JSON text under way. `fields` gives what to do with a path; `post` runs over the tree before the patterns."""

    run: Run
    fields: Globs[Whole]
    edits: Edits
    layer: int = 0
    done: set[int] = field(default_factory=set)  # starts of values that were replaced as a whole
    changed_texts: dict[int, str] = field(default_factory=dict)  # new content of strings, by their start


Special = Callable[[Node, Reading], None]
"""Work on the tree of one operation's answer (columns, SecureString…), done before the patterns."""


class JsonMasker:
    """Masks JSON texts. `fields` are the rules that hold for every operation."""

    def __init__(self, values: Values, fields: Globs[Whole]) -> None:
        self.values = values
        self.fields = fields

    def nested(self, text: bytes, run: Run, layer: int) -> bytes | None:
        """JSON inside a value: masked, or None if it is no JSON or has nothing to hide."""
        if not jsontree.is_json(text):
            return None
        return self.careful(text, run, self.fields, layer=layer)

    def careful(
        self,
        text: bytes,
        run: Run,
        fields: Globs[Whole],
        *,
        special: Special | None = None,
        layer: int = 0,
        after: Special | None = None,
    ) -> bytes | None:
        """A checked JSON text with its secrets masked, None if there are none."""
        root = jsontree.parse(text, run.budget)
        reading = Reading(run, fields, Edits(text), layer)
        if special is not None:
            special(root, reading)
        self._walk(root, (), reading, "")
        if not reading.edits:
            return None
        if after is not None:
            after(root, reading)
        return reading.edits.result()

    def _walk(self, node: Node, path: Path, reading: Reading, key: str) -> None:
        if node.start in reading.done:
            return
        reading.run.budget.tick()
        if path and reading.fields:
            whole = reading.fields.match(path)
            if whole is not None:
                self.hide(node, whole, reading)
                return
        if node.kind == "string":
            self._string(node, key, reading)
        elif node.kind == "object":
            self._no_echo(node, reading)
            pair = _pair(node)
            for name, child in node.items:
                context = pair[0] if pair is not None and child is pair[1] else name
                self._walk(child, (*path, name), reading, context)
                self._name(name, child, reading)
        elif node.kind == "array":
            for _, child in node.items:
                self._walk(child, path, reading, key)
        elif node.kind == "number":
            self._number(node, reading)

    def _no_echo(self, node: Node, reading: Reading) -> None:
        """The default of a CloudFormation parameter with NoEcho."""
        echo, mask = node.get(noecho.NAME.decode()), self.values.no_echo
        if (
            echo is None
            or mask is None
            or not noecho.true(echo.text.encode() or reading.edits.text(echo.start, echo.end))
        ):
            return
        value = node.get("Default", "DefaultValue")
        if value is not None:
            self.hide(value, Whole(mask), reading)

    def _string(self, node: Node, key: str, reading: Reading) -> None:
        text = node.text
        if not text:
            return
        masked = self.values.mask(
            text.encode("utf-8", "surrogatepass"), reading.run, key.encode("utf-8", "surrogatepass"), reading.layer
        )
        if masked is not None:
            put(node, masked, reading)

    def _name(self, name: str, child: Node, reading: Reading) -> None:
        """A secret may be the name of a member: a map of tokens to their owners."""
        if len(name) < 12:
            return
        masked = self.values.mask(name.encode("utf-8", "surrogatepass"), reading.run, b"", reading.layer)
        if masked is not None:
            reading.edits.replace(*child.named, jsontree.quoted(masked))

    def _number(self, node: Node, reading: Reading) -> None:
        if node.end - node.start < 12:
            return
        text = reading.edits.text(node.start, node.end)
        spans = self.values.patterns.spans(text)
        if spans:
            reading.run.counts[spans[0].mask.id] += 1
            reading.edits.replace(node.start, node.end, b"0")

    def hide(self, node: Node, whole: Whole, reading: Reading) -> None:
        """Hides a value and everything below it. Numbers become 0, so that what reads a number still can."""
        if node.start in reading.done:
            return
        reading.done.add(node.start)
        if node.kind == "string":
            self.hide_string(node, whole, reading)
        elif node.kind == "number":
            reading.run.counts[whole.mask.id] += 1
            reading.edits.replace(node.start, node.end, b"0")
        else:
            for _, child in node.items:
                self.hide(child, whole, reading)

    @staticmethod
    def hide_string(node: Node, whole: Whole, reading: Reading) -> None:
        """Hides a string that is not empty and not to be kept."""
        reading.done.add(node.start)
        if not node.text:
            return
        masked = reading.run.mask(whole.mask, node.text.encode("utf-8", "surrogatepass"))
        if masked is not None:
            put(node, base64.b64encode(masked) if whole.blob else masked, reading)


def put(node: Node, masked: bytes, reading: Reading) -> None:
    """Writes the new content of a string."""
    new = masked.decode("utf-8", "replace")
    reading.done.add(node.start)
    reading.changed_texts[node.start] = new
    reading.edits.replace(node.start, node.end, jsontree.quoted(new))


def _pair(node: Node) -> tuple[str, Node] | None:
    """A {name: x, value: y} pair as (x, node of y)."""
    if len(node.items) < 2:
        return None
    value = node.get(*_VALUES)
    if value is None:
        return None
    name = node.string(*_NAMES)
    return (name, value) if name else None
