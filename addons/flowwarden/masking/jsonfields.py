"""JSON as it passes: the values of masked fields are hidden in their place, then the text is searched like any other.

One document, or one after the other as in JSON Lines. Memory: the token under way and the path to it. Apart from masked
values no byte is touched, and where lengths have to stay (S3 objects) the text is JSON of the same length afterwards.
"""

from __future__ import annotations

import base64
import json
import re

from . import jsondull, jsontree, kinds, wide
from .budget import LAYERS, deep
from .globs import Globs
from .jsonmask import Whole
from .model import Core, refuse
from .values import Run

LONGEST = 1 << 20  # bytes of one value that is hidden, or has to be looked into
_LONGEST_NAME = 64 << 10
_CACHED_NAME = 256  # characters of a name whose path is worth remembering
# With the separator of JSON text sequences (RFC 7464), and a byte order mark in UTF-8 or as `wide.py` gives it.
_SPACE = b" \t\r\n\x1e\xef\xbb\xbf\0"
_TOKEN = re.compile(
    rb'[ \t\r\n\x1e\xef\xbb\xbf\0]*+(?:("(?:[^"\\]++|\\.)*+")|([{}\[\],:])|'
    rb"(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+|true|false|null|NaN|-?Infinity)(?![A-Za-z0-9.+_-]))",
    re.S,
)
_SCALAR = re.compile(rb"-?[0-9][0-9.eE+-]*+|-?(?:I[a-z]{0,7})?|[tfn][a-z]{0,4}|Na?N?")  # as it may begin
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.S)
# Lines of a text none of which is JSON: empty ones, and what begins neither as an object nor as an array may.
_DULL_LINES = re.compile(
    rb'(?:(?:[^\s{\[\x1e\xef\0][^\n]*+|\[(?:[^\s\[{"\]0-9tfnNI\x1e\xef\0-]|I(?!nf)|N(?!aN))[^\n]*+)?\n)++'
)
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_PEEK = 4096  # bytes of a string that tell whether it holds JSON
_SUFFIXES = (".json", ".jsonl", ".ndjson")
_HEAD = 512
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\r\f\x1b\x1e"})

_TOP, _VALUE, _ITEM, _NAME, _MEMBER, _COLON, _NEXT = range(7)  # what may come next
_VALUES = frozenset({_TOP, _VALUE, _ITEM})  # a value; as _ITEM also the end of an empty array
_NAMES = frozenset({_NAME, _MEMBER})  # a member's name; as _MEMBER also the end of an empty object


def named(content_type: str, key: str) -> bool:
    """Whether a content type or an object's key (without the suffix of a compression) says that it is JSON."""
    return key.lower().endswith(_SUFFIXES) or kinds.of_type(content_type or "text/plain", "") in {"json", "lines"}


class _Broken(Exception):
    """This is not JSON from here on."""


class JsonFields:
    """Hides `fields` on the way to `inner`.

    `named`: it says that it is JSON, and is refused where it is not; else such a line is text, and the next one is tried.
    `strict`: a long string that looks as if it held JSON itself is refused; else its fields are not looked for.
    """

    def __init__(
        self, inner: Core | None, run: Run, fields: Globs[Whole], *, named: bool, strict: bool = True, layer: int = 0
    ) -> None:
        self._inner = inner
        self._run = run
        self._fields = fields
        self._dull = jsondull.without(fields.globs)
        self._named = named
        self._strict = strict
        self._layer = layer
        self._buffer = b""
        self._at = 0  # what of it is done
        self._out: list[bytes] = []
        self._begun = False
        self._through = False  # nothing here is JSON
        self._in_text = False  # until the end of the line
        self._line_began = False  # in the blanks that were given since the last token
        self._in_string = False  # one that passes, until its end
        self._waiting = False  # for the end of a string
        self._expect = _TOP
        self._path: tuple[str, ...] = ()  # of the value that comes next,
        self._whole: Whole | None = None  # and what hides it
        self._stack: list[tuple[bool, tuple[str, ...], Whole | None]] = []  # of each container, and whether an object
        self.last: Whole | None = None  # what hid something

    def feed(self, data: bytes) -> bytes:
        if self._waiting and b'"' not in data and len(self._buffer) + len(data) <= LONGEST:
            self._buffer += data
            return b""
        return self._passed(self._taken(data, final=False))

    def finish(self) -> bytes:
        """The rest: a text that stops in the middle (a part of an object) is masked as far as it goes."""
        made = self._passed(self._taken(b"", final=True))
        return made + self._inner.finish() if self._inner is not None else made

    def _passed(self, made: bytes) -> bytes:
        return self._inner.feed(made) if made and self._inner is not None else made

    def _taken(self, data: bytes, *, final: bool) -> bytes:
        self._buffer += data
        self._at, self._out, self._waiting = 0, [], False
        if not self._begun and (first := self._buffer.lstrip(_SPACE)[:1]):
            self._begun = True
            self._through = not self._named and first not in b"{["
        if self._through or not self._begun:
            made, self._buffer = self._buffer, b""
            return made
        while self._at < len(self._buffer) and self._step(final):
            self._run.budget.tick()
        self._buffer = self._buffer[self._at :]
        return b"".join(self._out)

    def _step(self, final: bool) -> bool:
        """The next token or stretch; False if it is not whole yet."""
        if self._in_text:
            end = self._buffer.find(b"\n", self._at) + 1
            self._in_text = not end
            more = _DULL_LINES.match(self._buffer, end) if end else None
            return self._emit(more.end() if more is not None else end or len(self._buffer))
        if self._in_string:
            return self._string_goes_on(final)
        try:
            return self._token(final)
        except _Broken:
            if self._named:
                raise refuse("UnreadableAnswer", "the answer says it is JSON and is not") from None
            self._expect, self._path, self._whole = _TOP, (), None
            self._stack.clear()
            self._in_text, self._line_began = not self._line_began, False
            return True

    def _emit(self, end: int, new: bytes | None = None) -> bool:
        """Gives the buffer up to `end`, or `new` in its place."""
        self._out.append(self._buffer[self._at : end] if new is None else new)
        self._at = end
        self._line_began = False
        return True

    def _token(self, final: bool) -> bool:
        if self._dull is not None and self._whole is None and (end := self._dull_until(self._dull)):
            return self._emit(end)
        match = _TOKEN.match(self._buffer, self._at)
        if match is None:
            return self._unfinished(final)
        kind = match.lastindex
        assert kind is not None
        start, end = match.span(kind)
        if kind == 1:
            if self._expect in _NAMES:
                self._named_by(self._buffer[start + 1 : end - 1])
                return self._emit(end)
            new = self._string(self._buffer[start + 1 : end - 1])
        elif kind == 2:
            self._structure(self._buffer[start])
            return self._emit(end)
        else:
            self._bounded(end - start, LONGEST)
            if end == len(self._buffer) and not final:
                return False  # it may go on
            new = self._scalar(self._buffer[start:end])
        if new is not None:
            self._emit(start)
        self._value_ends()
        return self._emit(end, new)

    def _dull_until(self, dull: jsondull.Dull) -> int:
        """Where a stretch ends that begins here and holds nothing to hide, 0 if there is none."""
        then = self._expect
        if then in _NAMES:
            form, then = dull.members, _NAME
        elif then == _TOP:
            form = dull.documents
        elif then not in {_COLON, _NEXT} and not self._stack[-1][0]:
            form, then = dull.items, _VALUE
        else:
            return 0
        match = form.match(self._buffer, self._at)
        if match is None:
            return 0
        self._expect = then
        return match.end()

    def _structure(self, mark: int) -> None:
        expect = self._expect
        if mark in b"{[":
            if expect not in _VALUES:
                raise _Broken
            self._stack.append((mark == 0x7B, self._path, self._whole))
            deep(len(self._stack))
            self._expect = _MEMBER if mark == 0x7B else _ITEM
        elif mark in b"}]":
            if expect not in ((_NEXT, _MEMBER) if mark == 0x7D else (_NEXT, _ITEM)):
                raise _Broken
            if not self._stack or self._stack.pop()[0] != (mark == 0x7D):
                raise _Broken
            self._value_ends()
        elif mark == 0x3A and expect == _COLON:
            self._expect = _VALUE
        elif mark == 0x2C and expect == _NEXT and self._stack:
            self._expect = _NAME if self._stack[-1][0] else _VALUE
        else:
            raise _Broken

    def _value_ends(self) -> None:
        self._expect = _NEXT if self._stack else _TOP
        if self._stack:
            _, self._path, self._whole = self._stack[-1]
        else:
            self._path, self._whole = (), None

    def _named_by(self, raw: bytes) -> None:
        _, path, whole = self._stack[-1]
        if len(raw) > _LONGEST_NAME:
            raise refuse("MaskLimit", f"a name in this JSON text is longer than {_LONGEST_NAME} bytes")
        name = _decoded(raw)
        self._path = (*path, name)
        if whole is None:
            whole = (self._fields.match if len(name) <= _CACHED_NAME else self._fields.look_up)(self._path)
        self._whole = whole
        self._expect = _COLON

    def _string(self, raw: bytes) -> bytes | None:
        """A value's string as it has to be instead, None if it stays."""
        self._check_value()
        if self._whole is not None:
            self._bounded(len(raw), LONGEST)
            return self._hidden(self._whole, raw)
        if not raw or not _may_nest(raw):
            return None
        if len(raw) > LONGEST and not self._strict:
            return None
        self._bounded(len(raw), LONGEST)
        return self._inside(raw)

    def _check_value(self) -> None:
        if self._expect not in _VALUES or (self._expect == _TOP and not self._named):
            raise _Broken  # what does not say so is JSON only as an object or array

    def _hidden(self, whole: Whole, raw: bytes) -> bytes | None:
        """The string with the mask instead: in same-length mode of as many bytes as were between the quotes."""
        if not raw:
            return None
        same = self._run.same_length
        masked = self._run.mask(whole.mask, raw if same else _decoded(raw).encode("utf-8", "surrogatepass"))
        if masked is None:
            return None
        self.last = whole
        return jsontree.quoted(base64.b64encode(masked) if whole.blob and not same else masked)

    def _inside(self, raw: bytes) -> bytes | None:
        """JSON within a string. Where what is hidden there does not fit in, the string is hidden as a whole."""
        text = _decoded(raw)
        if text.lstrip()[:1] not in {"{", "["}:
            return None
        if self._layer >= LAYERS:
            raise refuse("TooDeep", "JSON within strings of JSON is nested too deeply to be searched")
        nested = JsonFields(None, self._run, self._fields, named=False, strict=self._strict, layer=self._layer + 1)
        made = (nested.feed(text.encode("utf-8", "surrogatepass")) + nested.finish()).decode("utf-8", "surrogatepass")
        if nested.last is None:
            return None
        self.last = nested.last
        if not self._run.same_length:
            return jsontree.quoted(made)
        for ascii_only in (True, False):
            quoted = json.dumps(made, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
            if len(quoted) == len(raw) + 2:
                return quoted
        return self._hidden(nested.last, raw)

    def _scalar(self, raw: bytes) -> bytes | None:
        """A number, true, false or null, or the beginning of one: blanks keep the length of what gets shorter."""
        self._check_value()
        whole = self._whole
        if whole is None or whole.mask.id in self._run.off or raw[:1] == b"n":
            return None
        is_word = raw[:1] in {b"t", b"f"}
        if is_word and not self._run.same_length:
            return None
        self._run.counts[whole.mask.id] += 1
        self.last = whole
        new = b"null"[: len(raw)] if is_word else b"0"
        return new.ljust(len(raw)) if self._run.same_length else new

    def _unfinished(self, final: bool) -> bool:
        """What stands at the end of the buffer and is no token yet, or never will be."""
        rest = self._buffer[self._at :].lstrip(_SPACE)
        if not rest:
            began = self._line_began or self._buffer.find(b"\n", self._at) >= 0
            self._emit(len(self._buffer))
            self._line_began = began
            return True
        if rest[:1] == b'"':
            return self._open_string(rest[1:], final)
        if _SCALAR.fullmatch(rest) is None:
            raise _Broken
        self._check_value()
        self._bounded(len(rest), LONGEST)
        if not final:
            return False
        new = self._scalar(rest)
        self._emit(len(self._buffer) - len(rest))
        return self._emit(len(self._buffer), new)

    def _open_string(self, raw: bytes, final: bool) -> bool:
        if self._expect in _NAMES:
            self._bounded(len(raw), _LONGEST_NAME)
            return self._emit(len(self._buffer)) if final else self._wait()
        self._check_value()
        nests = _may_nest(raw)
        if self._whole is None and (not nests or (len(raw) > LONGEST and not self._strict)):
            self._value_ends()
            self._in_string = True
            return self._emit(len(self._buffer) - len(raw))
        self._bounded(len(raw), LONGEST)
        if not final:
            return self._wait()
        self._emit(len(self._buffer) - len(raw) - 1)
        escape = _cut_escape(raw)
        new = self._string(raw[: len(raw) - escape])
        return self._emit(len(self._buffer), None if new is None else new[:-1] + b"*" * escape)

    def _wait(self) -> bool:
        self._waiting = True
        return False

    def _string_goes_on(self, final: bool) -> bool:
        match = _IN_STRING.match(self._buffer, self._at)
        assert match is not None
        end = match.end()
        if end < len(self._buffer) and self._buffer[end] == 0x22:
            self._in_string = False
            return self._emit(end + 1)
        return self._emit(len(self._buffer) if final else end) and (final or end == len(self._buffer))

    @staticmethod
    def _bounded(size: int, most: int) -> None:
        if size > most:
            raise refuse("MaskLimit", f"a name or value in this JSON text is longer than {most} bytes")


def _may_nest(raw: bytes) -> bool:
    """Whether a string, or the beginning of one, may hold JSON of its own: an object or array."""
    first = raw.lstrip()[:1]
    if first != b"\\":
        return first in {b"", b"{", b"["}
    head = raw[:_PEEK]
    text = _decoded(head[: len(head) - _cut_escape(head)]).lstrip()
    return not text or text[0] in "{["


def _cut_escape(raw: bytes) -> int:
    """How many bytes at the end are the beginning of an escape."""
    match = _CUT_ESCAPE.search(raw)
    if match is None:
        return 0
    slashes = len(raw[: match.start() + 1]) - len(raw[: match.start() + 1].rstrip(b"\\"))
    return len(match.group()) if slashes % 2 else 0


def _decoded(raw: bytes) -> str:
    """The content of a JSON string."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # names and structure are ASCII all the same
    if "\\" not in text:
        return text
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        raise _Broken from None


class LatePart:
    """A part of an object that is not its beginning, where fields are masked: refused if it may be JSON."""

    def __init__(self, inner: Core) -> None:
        self._inner = inner
        self._head: bytes | None = b""

    def feed(self, data: bytes) -> bytes:
        if self._head is None:
            return self._inner.feed(data)
        self._head += data
        return b"" if len(self._head) < _HEAD else self._inner.feed(self._judged())

    def finish(self) -> bytes:
        return self._inner.feed(self._judged() if self._head is not None else b"") + self._inner.finish()

    def _judged(self) -> bytes:
        head, self._head = self._head or b"", None
        sample = head[:_HEAD]
        if wide.order(sample) or (len(sample) - len(sample.translate(None, _CONTROLS))) * 25 < len(sample):
            raise late()
        return head


def late() -> Exception:
    """The refusal of a part of JSON that does not begin at the beginning."""
    why = "this part of an object may be JSON with masked fields, which are told from its beginning: ask from there"
    return refuse("UnreadablePart", why)
