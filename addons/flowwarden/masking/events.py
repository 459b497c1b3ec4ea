"""Answers that are a series of events: Server-Sent Events and AWS event streams, masked within events and across them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from functools import partial

from . import frames, jsontree, kinds
from .budget import Budget
from .deltas import Joiner
from .frames import Frame
from .jsontree import Node
from .model import refuse
from .values import Run, Values

Mask = Callable[[bytes], bytes | None]
"""Masks one payload: JSON as JSON, else as text."""

_TEXT_NAMES = frozenset(
    {
        "text",
        "content",
        "partial_json",
        "completion",
        "outputText",
        "generation",
        "arguments",
        "thinking",
        "delta",
        "input",
    }
)  # where the models' APIs put the next piece of their words
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_OTHER_LINE = re.compile(rb"(?:(?<=[\r\n])|\A)(?!data:)[^\r\n]+")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_HOLE = b'"\\u0001flowwarden\\u0001"'  # stands for the running text while the rest is masked
_MOST = 4 << 20  # bytes of one event


def _leaf(node: Node) -> Node | None:
    """The string in which a model's next words stand."""
    for name, child in node.items:
        if child.kind == "string" and name in _TEXT_NAMES and child.text:
            return child
        found = _leaf(child) if child.items else None
        if found is not None:
            return found
    return None


class Payload:
    """One event's payload, and the piece of running text in it, which is masked by the joiner and by nobody else."""

    def __init__(self, data: bytes, mask: Mask, *, raw_text: bool = False) -> None:
        self.original = data
        self.text: bytes | None = None
        self._changed = False
        self._outer: bytes | None = None  # around JSON that is in base64 in JSON
        self._inner = data
        if data[:1] == b"{" and jsontree.is_json(data):
            self._json(data, mask)
        elif raw_text and kinds.looks_like_text(data[:4096]):
            self.text, self._inner = data, _HOLE
        else:
            self._inner = self._masked(data, mask)

    def _json(self, data: bytes, mask: Mask) -> None:
        tree = jsontree.parse(data, Budget())
        wrapped = tree.get("bytes")
        inner = _wrapped_json(wrapped)
        if wrapped is not None and inner is not None:
            self._outer = self._masked(_replaced(data, wrapped, _HOLE), mask)
            data, tree = inner, jsontree.parse(inner, Budget())
        leaf = _leaf(tree)
        if leaf is not None:
            self.text = leaf.text.encode("utf-8", "surrogatepass")
            data = _replaced(data, leaf, _HOLE)
        self._inner = self._masked(data, mask)

    def _masked(self, data: bytes, mask: Mask) -> bytes:
        made = mask(data)
        self._changed = self._changed or made is not None
        return data if made is None else made

    def with_text(self, new: bytes | None) -> bytes:
        """The payload with another text; None: with its own."""
        if new is None and not self._changed:
            return self.original
        text = (self.text or b"") if new is None else new
        made = self._inner.replace(_HOLE, jsontree.quoted(text) if self._inner != _HOLE else text)
        return made if self._outer is None else self._outer.replace(_HOLE, jsontree.quoted(base64.b64encode(made)))


def _wrapped_json(node: Node | None) -> bytes | None:
    """The JSON in a string of base64 (Bedrock wraps the model's own answer so)."""
    if node is None or node.kind != "string":
        return None
    try:
        inner = base64.b64decode(node.text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return inner if inner[:1] == b"{" and jsontree.is_json(inner) else None


def _replaced(data: bytes, node: Node, new: bytes) -> bytes:
    return data[: node.start] + new + data[node.end :]


class SseCore:
    """Server-Sent Events (WHATWG HTML section 9.2). Unchanged events pass byte for byte.

    Data that is no JSON is a text of its own in each event.
    """

    def __init__(self, values: Values, run: Run, mask: Mask) -> None:
        self._mask = mask
        self._values = values
        self._run = run
        self._joiner = Joiner(values.patterns, run)
        self._buffer = b""

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        out: list[bytes] = []
        at = 0
        for match in _EVENT_END.finditer(self._buffer):
            if match.group() == b"\r\r" and match.end() == len(self._buffer):
                break
            out.append(self._event(self._buffer[at : match.end()]))
            at = match.end()
        self._buffer = self._buffer[at:]
        if len(self._buffer) > _MOST:
            raise refuse("TooLarge", "an event of this stream is too large to be searched")
        return b"".join(out)

    def finish(self) -> bytes:
        last = self._event(self._buffer) if self._buffer else b""
        return last + self._joiner.finish()

    def _event(self, raw: bytes) -> bytes:
        raw = self._fields(raw)
        lines = _LINE_END.split(raw)
        data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        if not data:
            masked = self._values.mask(raw, self._run)
            return self._joiner.add(partial(_fixed, raw if masked is None else masked), None)
        payload = Payload(b"\n".join(data), self._mask)
        return self._joiner.add(partial(self._render, raw, lines, payload), payload.text)

    def _fields(self, raw: bytes) -> bytes:
        """An event whose id, name and comments are masked; its data is read as a whole later."""
        if not self._values.patterns.find(raw):
            return raw
        return _OTHER_LINE.sub(lambda line: self._values.mask(line.group(), self._run) or line.group(), raw)

    def _render(self, raw: bytes, lines: list[bytes], payload: Payload, new: bytes | None) -> bytes:
        made = payload.with_text(new)
        if made == payload.original:
            return raw
        out: list[bytes] = []
        written = False
        for line in lines:
            if not line.startswith(b"data:"):
                out.append(line)
            elif not written:
                out += [b"data: " + part for part in made.split(b"\n")]
                written = True
        return b"\n".join(out)


def _fixed(raw: bytes, _new: bytes | None) -> bytes:
    return raw


class FrameCore:
    """AWS event streams: payloads and string headers are masked, messages that changed get new CRCs."""

    def __init__(self, values: Values, run: Run, mask: Mask) -> None:
        self._values = values
        self._run = run
        self._mask = mask
        self._reader = frames.Reader()
        self._joiner = Joiner(values.patterns, run)

    def feed(self, data: bytes) -> bytes:
        return b"".join([self._frame(frame) for frame in self._reader.feed(data)])

    def finish(self) -> bytes:
        self._reader.finish()
        return self._joiner.finish()

    def _frame(self, frame: Frame) -> bytes:
        heads = [
            (name, kind, (self._values.mask(value, self._run) or value) if kind in {6, 7} else value)
            for name, kind, value in frame.heads
        ]
        if self._values.patterns.spans(b"\n".join([name for name, _, _ in heads])):
            raise refuse("UnreadableAnswer", "a message of the answer has a secret as the name of a header")
        payload = Payload(frame.payload, self._mask, raw_text=True)
        return self._joiner.add(partial(self._render, frame, heads, payload), payload.text)

    @staticmethod
    def _render(frame: Frame, heads: list[frames.Head], payload: Payload, new: bytes | None) -> bytes:
        made = payload.with_text(new)
        if made == frame.payload and heads == frame.heads:
            return frame.raw
        return frames.build(heads, made)
