"""The masker of one set of rules: what it makes of answers, of requests for the recording, and of single texts.

An answer takes the quick way first: its content is checked to be what it says it is, and one pass over it and over what its
encodings hide says that there is nothing to mask. Only else a careful reader takes it apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial

from ..errors import Refusal
from ..types import Call, Headers
from . import (
    codings,
    columns,
    digests,
    dotenv,
    formmask,
    globs,
    heads,
    jsontree,
    kinds,
    noecho,
    objects,
    packed,
    ranges,
    repack,
    services,
    wide,
    xmlmask,
)
from .cbormask import CborMasker
from .jsonmask import JsonMasker, Special
from .kinds import Kind
from .model import Core, Keep, Mask, Masked, keep_nothing, refuse
from .patterns import Patterns
from .profiles import Plan, Profiles
from .sent import UNREADABLE, Sent
from .statements import Statements
from .stream import StreamMasker
from .streams import Streams
from .uploads import Kept
from .values import TRIGGERS, Run, Values
from .windows import Windows
from .xmlmask import XmlMasker

_PAIR = rb'(?i)"(?:name|key|parameterkey|optionname)"\s*:\s*"[^"]*(?:passw|pwd|secret|token|api_?key|access_?key|credential)'
_XML_PAIR = (
    rb"(?i)<(?:name|key|parameterkey|optionname)>[^<]*(?:passw|pwd|secret|token|api_?key|access_?key|credential)"
)
_ESCAPED_NAME = rb'\\u[0-9a-fA-F]{4}[^"\\]*"\s*:'
_TOGETHER = 64 << 10  # bytes of a body
_WRITTEN = {b"", b"{", b"[", b"<"}  # what JSON and XML, or no body at all, begin with
_SHORT, _REMEMBERED = 256, 4096
Reader = Callable[[bytes, Run, Plan], bytes | None]


class Masker:
    """Made by `MaskRules.for_groups`. Safe to share between flows: all state of an answer is in its `Run`."""

    def __init__(
        self, masks: Sequence[Mask], *, opaque_deny: bool = False, statements: Statements | None = None
    ) -> None:
        self.masks = tuple(masks)
        self.hides_columns = any(mask.columns for mask in masks)
        self.statements = statements or Statements()
        self.denies_opaque = opaque_deny or any(mask.opaque == "deny" for mask in masks)
        self.profiles = Profiles(masks)
        everywhere = [glob for mask in masks if not mask.actions for glob in mask.fields]
        found = [mask for mask in masks if mask.pattern] + dotenv.lines(masks)
        self.patterns = Patterns(
            found, TRIGGERS, [globs.trigger(everywhere), _PAIR, _XML_PAIR, _ESCAPED_NAME, noecho.NAME]
        )
        self.values = Values(self.patterns)
        self._pattern_masks = found
        self._object_masks = [mask for mask in found if mask.objects]
        self._json = JsonMasker(self.values, self.profiles.everywhere)
        self.values.nested = self._json.nested
        self.values.no_echo = next((mask for mask in masks if mask.members == "secret"), None)
        self._xml = XmlMasker(self.values)
        self._cbor = CborMasker(self.values)
        self.readers: dict[Kind, Reader] = {
            "json": self._read_json,
            "xml": self._read_xml,
            "text": self.read_text,
            "form": lambda text, run, plan: formmask.careful(text, run, plan.fields, self.values),
            "lines": self._read_lines,
            "csv": partial(self._read_series, kind="csv"),
            "tsv": partial(self._read_series, kind="tsv"),
            "cbor": self._read_cbor,
            "sse": partial(self._read_series, kind="sse"),
            "events": partial(self._read_series, kind="events"),
        }
        self._sent = Sent(self)
        self._streams = Streams(self)
        self._clean_texts: set[str] = set()  # short ones that hold nothing: paths come again and again

    @cached_property
    def object_values(self) -> Values:
        """For S3 objects: the masks that hold there."""
        if self._object_masks == self._pattern_masks:
            return self.values
        return Values(Patterns(self._object_masks, TRIGGERS))

    def mask_answer(
        self,
        call: Call,
        status: int,
        headers: Headers,
        body: bytes,
        *,
        keep: Keep = keep_nothing,
        session_key: bytes = b"",
    ) -> Masked:
        """An answer with its secrets masked; `body` are the bytes on the wire, without transfer coding.

        The same bytes object comes back where nothing is masked. Refusal (502, station `mask`) for what has to be read
        and cannot be.
        """
        try:
            plan = self.profiles.plan(call, "output")
            run = self.run(call, headers, plan, keep, session_key)
            masked = self.beginning(headers, body, run, plan)
            if body:
                self._body(call, status, masked, plan, run)
        except Refusal:
            raise
        except Exception as error:  # whatever went wrong, the answer was not looked at
            raise refuse("MaskFailed", f"masking this answer failed: {type(error).__name__}") from error
        return masked

    def beginning(self, headers: Headers, body: bytes, run: Run, plan: Plan) -> Masked:
        """The message with its head masked. A small body of JSON or XML is searched along: each search has its price."""
        together = body[:1] in _WRITTEN and len(body) <= _TOGETHER and not plan.is_object
        if together and self._nothing_in(b"\n".join((body, *[value for _, value in headers]))):
            run.clean = body
            return Masked(headers, body, run.counts)
        return Masked(self.mask_headers(headers, run), body, run.counts)

    @staticmethod
    def run(call: Call, headers: Headers, plan: Plan, keep: Keep, session_key: bytes) -> Run:
        """What one answer carries through all readers."""
        run = Run(keep=keep, session_key=session_key, off=plan.off, call=call)
        if plan.is_object:
            run.content_type = heads.first(headers, b"content-type")
            run.key = str((call.params or {}).get("Key", ""))
        return run

    def _body(self, call: Call, status: int, masked: Masked, plan: Plan, run: Run) -> None:
        content_type = heads.first(masked.headers, b"content-type")
        applied = codings.names(heads.first(masked.headers, b"content-encoding"))
        body = masked.body
        is_object = plan.is_object and status in {200, 206}
        encoding = objects.keeps_bytes(status, masked.headers) if is_object else ""
        if encoding:
            applied = []
        plain = codings.decode(body, applied) if applied else body
        kind: Kind = "object" if is_object else self._kind(content_type, call.protocol, plain)
        if kind == "opaque":
            self._uninspected(masked, content_type or "unnamed")
            return
        if kind == "object" or (kind in {"text", "csv", "tsv"} and packed.coding(plain)):
            changed = self._read_object(plain, masked, run, plan, encoding, remade=status == 200)
        else:
            changed = self._read(kind, plain, run, plan, content_type)
        if changed is None:
            return
        if heads.content_addressed(masked.headers):
            raise refuse("ContentAddressed", "the answer holds a secret, and clients check it against its digest")
        masked.body = changed if not applied else self._encoded(changed, applied, body, run, is_object)
        masked.headers = heads.for_changed(masked.headers, len(masked.body))

    @staticmethod
    def _encoded(changed: bytes, applied: list[str], was: bytes, run: Run, is_object: bool) -> bytes:
        """The body with its codings again: an object as long as it was, where that can be."""
        inner = codings.encode(changed, applied[:-1])
        fitted = None
        if is_object:
            with suppress(Refusal):  # it takes too long: then it is made as any other answer
                fitted = repack.fitted(applied[-1], inner, len(was), run.budget.check, like=was)
        return codings.encode(inner, applied[-1:]) if fitted is None else fitted

    @staticmethod
    def _kind(content_type: str, protocol: str, plain: bytes) -> Kind:
        kind = kinds.of_type(content_type, protocol)
        if kind == "opaque" and kinds.looks_like_text(plain[:4096]):
            return "text"
        if kind == "other":
            raise refuse("UnknownCarrier", f"answers of type {content_type.partition(';')[0]!r} cannot be searched")
        return kind

    def _uninspected(self, masked: Masked, what: str) -> None:
        if self.denies_opaque:
            raise refuse("OpaqueAnswer", f"the answer cannot be searched ({what}), and a rule denies that")
        masked.inspected = False
        masked.notes.append(f"not inspected: {what}")

    def _read(self, kind: Kind, plain: bytes, run: Run, plan: Plan, content_type: str) -> bytes | None:
        reader = self.readers.get(kind)
        if reader is None:
            raise refuse("UnknownCarrier", f"answers of the kind {kind!r} cannot be searched")
        charset = kinds.charset(content_type, plain[:512])
        if not charset or kind in {"cbor", "events"}:
            return reader(plain, run, plan)
        try:
            text = plain.decode(charset).encode("utf-8")
            made = reader(text, run, plan)
            changed = None if made is None else made.decode("utf-8").encode(charset)
            return self._as_it_is(plain, changed, run)
        except (UnicodeError, LookupError):
            raise refuse("UnreadableAnswer", f"the answer says it is {charset} and is not") from None

    def _read_object(
        self, body: bytes, masked: Masked, run: Run, plan: Plan, encoding: str, *, remade: bool
    ) -> bytes | None:
        """`remade`: whether it is all there is, so that it can be compressed again if a secret is inside."""
        before = run.counts.copy()
        core = self.object_core(
            run, plan, masked.headers, lambda: self._uninspected(masked, "an object"), encoding, codings.MOST
        )
        try:
            made = core.feed(body) + core.finish()
        except Refusal as refusal:
            if refusal.code != "CompressedSecret" or not remade:
                raise
            with suppress(Refusal):  # it is broken behind the secret, or takes too long
                for run.terse in (False, True):
                    run.counts.clear()
                    run.counts.update(before)
                    made_again = packed.masked(body, self._search(run, plan, masked.headers), run, codings.MOST)
                    if made_again is not None:
                        return made_again
            raise refusal from None
        return made if run.counts.total() > before.total() else None

    def object_core(
        self, run: Run, plan: Plan, headers: Headers, unreadable: Callable[[], None], encoding: str, most: int | None
    ) -> Core:
        """The reader of an S3 object; `unreadable` is called for one that cannot be read, `most` as in `objects.reader`."""
        inner = self._search(run, plan, headers)
        plain = partial(Windows, self.object_values, run)
        return objects.reader(inner, run, headers, unreadable, plain=plain, encoding=encoding, most=most)

    def _search(self, run: Run, plan: Plan, headers: Headers) -> Core:
        """What masks an object's content."""
        columns = [mask for mask in plan.columns if mask.objects]
        names = [glob for mask in columns for glob in mask.columns]
        bucket = str((run.call.params or {}).get("Bucket", "")) if run.call is not None else ""
        if names and self.statements.unloaded(bucket, run.key, names):
            why = "this file was unloaded from a query that may hold masked columns, and does not name its columns"
            raise refuse("UnreadableColumns", why)
        whole = self.statements.hides_file(run.key, names) if names else False
        return objects.search(self.object_values, columns, run, headers, fields=plan.object_fields, whole=whole)

    def _clean(self, text: bytes, run: Run, plan: Plan) -> bool:
        if plan.names is not None and plan.names.search(text) is not None:
            return False
        return text is run.clean or self._nothing_in(text)

    def _nothing_in(self, text: bytes) -> bool:
        found = self.patterns.find(text)
        return not found or not self.values.suspicious(text, found)

    def _read_json(self, text: bytes, run: Run, plan: Plan) -> bytes | None:
        jsontree.check(text)
        special = self._special(text, run, plan)
        if special is None and self._clean(text, run, plan):
            return None
        after = digests.in_json if digests.concerns(run.call) else None
        return self._json.careful(text, run, plan.fields, special=special, after=after)

    def _special(self, text: bytes, run: Run, plan: Plan) -> Special | None:
        call = run.call
        if call is None or call.operation is None:
            return None
        if plan.columns:
            self.statements.learn(call, text)
            if not columns.by_name(call) or plan.column_names.search(text) is not None:
                found = columns.special(call, plan.columns, self.statements, self._json)
                if found is not None:
                    return found
        return services.special(call, text, plan.members)

    def _read_xml(self, text: bytes, run: Run, plan: Plan) -> bytes | None:
        if not text.strip():
            return None
        xmlmask.check(text)
        plain = b"<!" not in text and self._clean(text, run, plan)
        if plain and (b"&" not in text or self._clean(xmlmask.unescaped(text), run, plan)):
            return None
        made = self._xml.careful(text, run, plan.fields)
        return digests.in_xml(made) if made is not None and digests.concerns(run.call) else made

    def read_text(self, text: bytes, run: Run, plan: Plan) -> bytes | None:
        """A text masked, as JSON if it is some; None where nothing is masked."""
        if order := wide.order(text):
            codec = wide.CODECS[order]
            made = self.read_text(text.decode(codec, "surrogatepass").encode("utf-8", "surrogatepass"), run, plan)
            changed = None if made is None else made.decode("utf-8", "surrogatepass").encode(codec, "surrogatepass")
            return self._as_it_is(text, changed, run)
        if text[:1] in b"{[" and jsontree.is_json(text):
            return self._read_json(text, run, plan)
        return self.values.mask(text, run)

    def _as_it_is(self, text: bytes, changed: bytes | None, run: Run) -> bytes | None:
        """What was read in a charset, searched as the bytes that it is too: perhaps only its beginning is in that charset."""
        again = self.values.mask(text if changed is None else changed, run)
        return changed if again is None else again

    def _read_series(self, text: bytes, run: Run, plan: Plan, kind: Kind) -> bytes | None:
        core = self._streams.core(kind, run, plan, fresh=False)
        assert core is not None
        made = core.feed(text) + core.finish()
        return made if run.counts else None

    def _read_cbor(self, data: bytes, run: Run, plan: Plan) -> bytes | None:
        return self._cbor.careful(data, run, plan.fields)

    def _read_lines(self, text: bytes, run: Run, plan: Plan) -> bytes | None:
        if self._clean(text, run, plan):
            return None
        lines = text.splitlines(keepends=True)
        made = [self.read_text(line, run, plan) or line for line in lines]
        return b"".join(made) if made != lines else None

    def widened(self, part: ranges.Part, call: Call) -> str:
        """The Range header that asks for a part of an object and as much around it as masks need: see `ranges.py`."""
        return self._streams.widened(part, call)

    def may_stream(self, call: Call, headers: Headers) -> bool:
        """Whether an answer with these headers can be masked as it passes (else it has to be whole)."""
        return self._streams.may_stream(call, headers)

    def stream(
        self, call: Call, status: int, headers: Headers, *, keep: Keep = keep_nothing, session_key: bytes = b""
    ) -> StreamMasker | None:
        """A masker for an answer that passes in pieces; None where `may_stream` says no, or for an object's error."""
        return self._streams.stream(call, status, headers, keep, session_key)

    def mask_headers(self, headers: Headers, run: Run) -> Headers:
        """Header fields with their secrets masked; the same object where there are none."""
        if self._nothing_in(b"\n".join([value for _, value in headers])):
            return headers
        made = []
        for name, value in headers:
            masked = None if heads.is_checksum(name.lower()) else self.values.mask(value, run)
            made.append((name, value if masked is None else masked))
        return tuple(made)

    def mask_request_for_recording(self, call: Call, headers: Headers, body: bytes) -> Masked:
        """A request as the recording keeps it: see `sent.py`. Never raises a Refusal."""
        return self._sent.mask_request(call, headers, body)

    def upload(self, call: Call, headers: Headers) -> Kept:
        """What the recording keeps of a request whose body streams: see `uploads.py`."""
        return self._sent.upload(call, headers)

    def mask_text(self, text: str) -> str:
        """A text for logs, notifications and recordings (a URL too) with its secrets masked."""
        if text in self._clean_texts:
            return text
        try:
            masked = self.values.mask(text.encode("utf-8", "surrogatepass"), Run())
        except Exception:
            return UNREADABLE.decode()
        if masked is None and len(text) <= _SHORT:
            if len(self._clean_texts) >= _REMEMBERED:
                self._clean_texts.clear()
            self._clean_texts.add(text)
        return text if masked is None else masked.decode("utf-8", "replace")
