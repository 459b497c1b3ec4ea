"""Answers that pass in pieces: which of them can be masked so, and which reader each of them gets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..types import Call, Headers
from . import coders, codings, heads, jsonfields, kinds, objects, packed, ranges, tables
from .budget import Budget
from .events import FrameCore, SseCore
from .jsonfields import JsonFields
from .kinds import Kind
from .model import Core, Keep, refuse
from .opaque import OpaqueCore
from .profiles import Plan
from .stream import StreamMasker
from .values import Run
from .windows import Windows

if TYPE_CHECKING:
    from .masker import Masker


class Streams:
    """The masker's side that looks at answers as they pass."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker

    def may_stream(self, call: Call, headers: Headers) -> bool:
        """Whether an answer with these headers can be masked as it passes (else it has to be whole)."""
        kind = self._stream_kind(self._masker.profiles.plan(call, "output"), call, headers)
        return kind in {"object", "text", "csv", "tsv", "sse", "events", "opaque"}

    @staticmethod
    def _stream_kind(plan: Plan, call: Call, headers: Headers) -> Kind | None:
        applied = codings.names(heads.first(headers, b"content-encoding"))
        if len(applied) > 1 or not coders.STREAMABLE.issuperset(applied):
            return None
        content_type = heads.first(headers, b"content-type")
        if plan.is_object:
            return "object"
        kind = kinds.of_type(content_type, call.protocol)
        return None if kind == "text" and kinds.charset(content_type, b"") else kind

    def widened(self, part: ranges.Part, call: Call) -> str:
        """The Range header that asks for a part of an object and as much around it as masks need: see `ranges.py`."""
        plan, key = self._masker.profiles.plan(call, "output"), str((call.params or {}).get("Key", ""))
        table = any(mask.objects for mask in plan.columns) and tables.separator("", packed.unpacked(key))
        json = bool(plan.object_fields) and jsonfields.named("", packed.unpacked(key))
        margin = 2 * Windows(self._masker.object_values, Run(same_length=True)).hold
        return ranges.widened(part, margin, needs_start=bool(table) or json or packed.named(key))

    def stream(self, call: Call, status: int, headers: Headers, keep: Keep, session_key: bytes) -> StreamMasker | None:
        """A masker for an answer that passes in pieces; None where `may_stream` says no, or for an object's error."""
        plan = self._masker.profiles.plan(call, "output")
        kind = self._stream_kind(plan, call, headers)
        if kind == "object" and status not in {200, 206}:
            return None
        run = self._masker.run(call, headers, plan, keep, session_key)
        run.budget = Budget(float("inf"))
        applied = codings.names(heads.first(headers, b"content-encoding"))
        encoding = objects.keeps_bytes(status, headers) if kind == "object" else ""
        made = StreamMasker(
            run,
            self._masker.mask_headers(headers, run),
            applied[0] if applied and not encoding else "",
            kind in {"object", "opaque"},
        )

        def unreadable() -> None:
            if self._masker.denies_opaque:
                raise refuse("OpaqueAnswer", "the answer cannot be searched, and a rule denies that")
            made.inspected = False

        if kind == "object":
            made.core = self._masker.object_core(run, plan, headers, unreadable, encoding, None)
            return made
        core = self.core(kind, run, plan)
        if core is None:
            return None
        plain = partial(Windows, self._masker.values, run)
        if kind == "opaque":
            made.core = OpaqueCore(core, run, kinds.looks_like_text, unreadable, skip=True, plain=plain)
        elif kind in {"text", "csv", "tsv"}:
            unpack = packed.opener(core, run, unreadable)
            made.core = OpaqueCore(core, run, bool, unreadable, skip=False, plain=plain, unpack=unpack)
        else:
            made.core = core
        return made

    def core(self, kind: Kind | None, run: Run, plan: Plan, fresh: bool = True) -> Core | None:
        """The reader of a stream; `fresh` gives each event a budget of its own."""
        if kind in {"text", "csv", "tsv", "opaque"}:
            return self._windows(run, plan, kind)
        if kind in {"sse", "events"}:
            made = SseCore if kind == "sse" else FrameCore
            return made(self._masker.values, run, lambda payload: self._payload(payload, run, plan, fresh))
        return None

    def _payload(self, payload: bytes, run: Run, plan: Plan, fresh: bool) -> bytes | None:
        if fresh:
            run.budget = Budget()
        run.budget.check()
        return self._masker.read_text(payload, run, plan) if payload else None

    def _windows(self, run: Run, plan: Plan, kind: Kind) -> Core:
        run.same_length = kind == "opaque"  # so that Content-Length can be told before a byte is known
        windows = Windows(self._masker.values, run)
        separator = {"csv": b",", "tsv": b"\t"}.get(kind, b"")
        if separator and plan.columns:
            return tables.TableCore(windows, run, plan.columns, separator)
        if kind == "text" and plan.fields:
            return JsonFields(windows, run, plan.fields, named=False, strict=False)
        return windows
