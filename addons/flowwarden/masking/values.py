"""One value at a time: patterns over it, and over what is inside it (JSON, base64, URL-encoding), to any sane depth."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import re2

from ..types import Call
from . import inner, noecho
from .budget import LAYERS, Budget
from .model import Keep, Mask, keep_nothing
from .patterns import Patterns, first, locate
from .replacing import mask_for, mask_of_length
from .searcher import options

# Triggers of the first pass: what has to be unwrapped before it can be searched.
ESCAPES = rb"\\"
BASE64 = rb"[A-Za-z0-9+/]{24}|[A-Za-z0-9_-]{24}"
PERCENT = rb"%[0-9A-Fa-f]{2}"
ENTITY = rb"&#[0-9xX]"
TRIGGERS = (ESCAPES, BASE64, PERCENT, ENTITY)

RUNS = re2.compile(rb"[A-Za-z0-9+/]{20,}={0,2}|[A-Za-z0-9_-]{20,}={0,2}", options(16 << 20, False))
_UNBROKEN = re.compile(rb"[^\s\"'<>]++")
_BREAKS = tuple(bytes([c]) for c in b" \t\r\n\x0b\x0c\"'<>")
ESCAPE_CODE = re.compile(rb"\\(?:u00[0-7][0-9a-fA-F]|/)")
ENTITY_CODE = re.compile(rb"&#(?:0{0,4}[0-9]{1,3}|[xX]0{0,4}[0-9a-fA-F]{1,2});")
PERCENT_CODE = re.compile(rb"%[0-9A-Fa-f]{2}")
_QUICK = {
    form: re2.compile(form.pattern, options(1 << 20, False)) for form in (ESCAPE_CODE, ENTITY_CODE, PERCENT_CODE)
}  # to find the next one: ten times as fast where they are rare
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_LOWER_HEX, _UPPER_HEX = b"0123456789abcdef-", b"0123456789ABCDEF-"


@dataclass(slots=True)
class Run:
    """What one answer carries through all readers: what to keep, the key of hashes, counts, and its budget."""

    keep: Keep = keep_nothing
    session_key: bytes = b""
    counts: Counter[str] = field(default_factory=Counter)
    budget: Budget = field(default_factory=Budget)
    same_length: bool = False
    terse: bool = False  # masks of the same length name no rule: they take less room under a compression
    call: Call | None = None
    content_type: str = ""  # of an S3 object, and its key
    key: str = ""
    off: frozenset[str] = frozenset()  # ids of masks that do not hold for this call
    clean: bytes | None = None  # a text in which no pattern has anything to hide

    def mask(self, mask: Mask, value: bytes) -> bytes | None:
        """The mask of a value, counted; None where the value is one to keep."""
        if mask.id in self.off or (self.keep is not keep_nothing and self.keep(value.decode("utf-8", "replace"))):
            return None
        self.counts[mask.id] += 1
        if self.same_length:
            return mask_of_length(mask, len(value), terse=self.terse)
        return mask_for(mask, value, self.session_key)


def coded_runs(
    code_form: re.Pattern[bytes], text: bytes, end: int = 0, find: Callable[[Any, int], int] | None = None
) -> Iterator[tuple[int, int]]:
    """Where stretches without space or quotes stand, from `end` on, in which characters are written as codes of a form.

    `find` says where an re2 pattern next occurs from a place on, where that is known better than by going through the text.
    """
    find = find or (lambda pattern, start: first(pattern, text, start))
    while (at := find(_QUICK[code_form], end)) >= 0:
        unbroken = _UNBROKEN.match(text, at)
        assert unbroken is not None
        start = max(text.rfind(c, end, at) for c in _BREAKS) + 1 or end
        end = unbroken.end()
        yield start, end


def base64_runs(text: bytes) -> list[bytes]:
    """What looks like base64 in a text, decoded where it decodes. Hashes and UUIDs are left out."""
    runs = [text[start:end] for ((start, end),) in locate(RUNS, text)]
    return [decoded for run in runs if (decoded := unbase64(run)) is not None]


def unbase64(run: bytes) -> bytes | None:
    """The text in a base64 or base64url run, padding optional; None if there is none. See `open_base64`."""
    found = open_base64(run)
    return None if found is None else found[0]


def open_base64(run: bytes) -> tuple[bytes, inner.Pack] | None:
    """The text in a base64 or base64url run, and the way back to the bytes that it stands in."""
    if not run.strip(_LOWER_HEX) or not run.strip(_UPPER_HEX):
        return None
    bare = run.rstrip(b"=").translate(_URLSAFE)
    if len(bare) % 4 == 1:
        bare = bare[:-1]
    try:
        return inner.opened(binascii.a2b_base64(bare + b"=" * (-len(bare) % 4)))
    except (binascii.Error, ValueError):
        return None


class Values:
    """Masks single values. `nested` is the JSON reader, given later because it needs this class."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self.no_echo: Mask | None = None  # hides what CloudFormation does not echo
        self.nested: Callable[[bytes, Run, int], bytes | None] = lambda _text, _run, _depth: None
        self.escape_trigger, self.base64_trigger, self.percent_trigger, self.entity_trigger = patterns.triggers[:4]

    def mask(self, text: bytes, run: Run, key: bytes = b"", layer: int = 0) -> bytes | None:
        """The value with its secrets masked, None if there are none. `key` is the name the value goes by."""
        context = key + b'="' if key else b""
        found = self.patterns.find(context + text + b'"' if key else text)
        if not found:
            return None
        run.budget.check()
        if run.keep is not keep_nothing and run.keep(text.decode("utf-8", "replace")):
            return None
        changed: bytes | None = None
        if layer < LAYERS:
            changed = self._unwrap(text, found, run, layer)
        current = text if changed is None else changed
        if changed is not None:
            found = self.patterns.find(context + current + b'"' if key else current)
        edited = self._apply(current, found, context, run)
        return edited if edited is not None else changed

    def _apply(self, text: bytes, found: list[int], context: bytes, run: Run) -> bytes | None:
        subject = context + text + b'"' if context else text
        spans = self.patterns.spans(subject, found, run.budget.tick)
        if not spans:
            return None
        shift, size = len(context), len(text)
        parts: list[bytes] = []
        at = 0
        for span in spans:
            start, end = max(0, span.start - shift), min(size, span.end - shift)
            if end <= start:
                continue
            run.budget.tick()
            replaced = run.mask(span.mask, text[start:end])
            if replaced is not None:
                parts += (text[at:start], replaced)
                at = end
        return b"".join(parts) + text[at:] if parts else None

    def _unwrap(self, text: bytes, found: list[int], run: Run, layer: int) -> bytes | None:
        changed: bytes | None = None
        stripped = text.lstrip()[:1]
        if stripped in b'{["' and stripped:
            changed = self.nested(text, run, layer + 1)
            if changed is not None:
                return changed
        if self.no_echo is not None and noecho.NAME in text:
            changed = self._not_echoed(text, run, self.no_echo)
            text = text if changed is None else changed
        if self.base64_trigger in found:
            coded = self._in_base64(text, run, layer)
            changed = changed if coded is None else coded
        if self.percent_trigger in found:
            again = self._in_percent(changed or text, run, layer)
            changed = changed if again is None else again
        if self.entity_trigger in found:
            again = self._in_entities(changed or text, run, layer)
            changed = changed if again is None else again
        if self.escape_trigger in found:
            again = self._in_escapes(changed or text, run, layer)
            changed = changed if again is None else again
        return changed

    @staticmethod
    def _not_echoed(text: bytes, run: Run, mask: Mask) -> bytes | None:
        parts: list[bytes] = []
        at = 0
        for start, end in noecho.spans(text):
            run.budget.tick()
            if start >= at and start < end and (new := run.mask(mask, text[start:end])) is not None:
                parts += (text[at:start], b'"', new, b'"')
                at = end
        return b"".join(parts) + text[at:] if parts else None

    def _in_base64(self, text: bytes, run: Run, layer: int) -> bytes | None:
        parts: list[bytes] = []
        at = 0
        for match in RUNS.finditer(text):
            run.budget.tick()
            coded = match.group()
            opened = open_base64(coded)
            if opened is None or (run.keep is not keep_nothing and run.keep(coded.decode("ascii"))):
                continue
            masked = self.mask(opened[0], run, b"", layer + 1)
            if masked is not None:
                start, end = match.span()
                parts += (text[at:start], _rebase64(coded, opened[1](masked)))
                at = end
        return b"".join(parts) + text[at:] if parts else None

    def _in_percent(self, text: bytes, run: Run, layer: int) -> bytes | None:
        parts: list[bytes] = []
        at = 0
        for start, end in coded_runs(PERCENT_CODE, text):
            run.budget.tick()
            masked = self.mask(unquote_to_bytes(text[start:end]), run, b"", layer + 1)
            if masked is not None:
                coded = quote(masked, safe="[]:*").encode()
                if run.same_length and len(coded) != end - start:
                    coded = b"*" * (end - start)
                parts += (text[at:start], coded)
                at = end
        return b"".join(parts) + text[at:] if parts else None

    def _in_entities(self, text: bytes, run: Run, layer: int) -> bytes | None:
        parts: list[bytes] = []
        at = 0
        for start, end in coded_runs(ENTITY_CODE, text):
            run.budget.tick()
            masked = self.mask(unreferenced(text[start:end]), run, b"", layer + 1)
            if masked is not None:
                fits = not run.same_length or len(masked) == end - start
                parts += (text[at:start], masked if fits else b"*" * (end - start))
                at = end
        return b"".join(parts) + text[at:] if parts else None

    def _in_escapes(self, text: bytes, run: Run, layer: int) -> bytes | None:
        parts: list[bytes] = []
        at = 0
        for start, end in coded_runs(ESCAPE_CODE, text):
            run.budget.tick()
            masked = self.mask(unescaped(text[start:end]), run, b"", layer + 1)
            if masked is not None:
                coded = json.dumps(masked.decode("utf-8", "replace"))[1:-1].encode()
                if run.same_length and len(coded) != end - start:
                    coded = b"*" * (end - start)
                parts += (text[at:start], coded)
                at = end
        return b"".join(parts) + text[at:] if parts else None

    def suspicious(self, text: bytes, found: list[int], layer: int = 0) -> bool:
        """Whether something may be in the text that a careful reader would mask. Never false where it would.

        Looks through the encodings, but at all their contents joined in one text: quick, and now and then wrongly true.
        """
        for index in self.patterns.alarms.intersection(found):
            finder = self.patterns.finder(index)
            if finder is None or next(iter(finder.spans(text)), None) is not None:
                return True
        if layer >= LAYERS:
            return True
        views: list[bytes] = []
        if self.escape_trigger in found:
            views.append(unescaped(text))
        if self.base64_trigger in found:
            views += base64_runs(text)
        if self.percent_trigger in found:
            views.append(unquote_to_bytes(text))
        if self.entity_trigger in found:
            views.append(unreferenced(text))
        joined = b"\n".join(views)
        if not joined:
            return False
        inner = self.patterns.find(joined)
        return bool(inner) and self.suspicious(joined, inner, layer + 1)


def _rebase64(coded: bytes, masked: bytes) -> bytes:
    made = base64.urlsafe_b64encode(masked) if b"-" in coded or b"_" in coded else base64.b64encode(masked)
    return made if coded.endswith(b"=") or len(coded) % 4 == 0 else made.rstrip(b"=")


def unreferenced(text: bytes) -> bytes:
    """A text with its numeric character references to single bytes replaced, as in HTML."""
    return ENTITY_CODE.sub(_character, text)


def _character(match: re.Match[bytes]) -> bytes:
    digits = match.group()[2:-1]
    number = int(digits[1:], 16) if digits[:1] in b"xX" else int(digits)
    return bytes([number]) if number < 128 else match.group()


_ESCAPED = re.compile(rb"\\(u[0-9a-fA-F]{4}|.)", re.S)
_SIMPLE = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f"}


def _unescape_one(match: re.Match[bytes]) -> bytes:
    code = match.group(1)
    if code[:1] == b"u" and len(code) == 5:
        return chr(int(code[1:], 16)).encode("utf-8", "surrogatepass")
    return _SIMPLE.get(code, code)


def unescaped(text: bytes) -> bytes:
    """A text with one layer of JSON's backslash escapes undone."""
    if b"\\u" not in text and b"\\\\" not in text and b"\\/" not in text:
        for code, plain in ((b'\\"', b'"'), (b"\\n", b"\n"), (b"\\t", b"\t"), (b"\\r", b"\r")):
            text = text.replace(code, plain)
        if b"\\" not in text:
            return text
    return _ESCAPED.sub(_unescape_one, text)
