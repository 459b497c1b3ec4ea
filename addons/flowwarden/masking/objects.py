"""S3 objects as they pass: which reader an object gets, by its key, its type, its first bytes and which part of it this is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..types import Headers
from . import codings, heads, jsonfields, packed, ranges, tables
from .globs import Globs
from .jsonfields import JsonFields, LatePart
from .jsonmask import Whole
from .model import Core, Mask, refuse
from .opaque import OpaqueCore, not_compressed
from .values import Run, Values
from .windows import BLOCK, Windows


def search(
    values: Values,
    columns: Sequence[Mask],
    run: Run,
    headers: Headers,
    *,
    fields: Globs[Whole] | None = None,
    block: int = BLOCK,
    whole: bool | None = False,
) -> Core:
    """What masks an object's content at its length, once no compression is around it.

    `fields` are those that are hidden in JSON, `block` the bytes that are searched at once, `whole` as in `TableCore`.
    Refusal for the later part of a table with masked columns, whose names stand at its beginning, and of JSON with masked
    fields, of which the same is true.
    """
    run.same_length = True
    windows = Windows(values, run, block)
    key, is_late = packed.unpacked(run.key), ranges.starts_at(headers) > 0
    separator = tables.separator(run.content_type, key) if columns else b""
    if separator and is_late:
        why = (
            "this part of a table does not name its columns, and some are masked: ask for the table from its beginning"
        )
        raise refuse("UnreadablePart", why)
    if separator:
        return tables.TableCore(windows, run, columns, separator, whole)
    if not fields:
        return windows
    named = jsonfields.named(run.content_type, key)
    if is_late and named:
        raise jsonfields.late()
    return LatePart(windows) if is_late else JsonFields(windows, run, fields, named=named)


def reader(
    inner: Core,
    run: Run,
    headers: Headers,
    unreadable: Callable[[], None],
    *,
    plain: Callable[[], Core],
    encoding: str = "",
    most: int | None = None,
) -> Core:
    """`inner` for an object as it is stored: it is cut where a secret is inside a compression.

    `plain` makes another reader like it, of nothing but patterns; `encoding` is a content coding that has to stay as it is,
    `most` the decoded bytes of a packed object at most.
    """
    if ranges.starts_at(headers) and packed.named(run.key, run.content_type, encoding):
        unreadable()  # nobody can decode it from here
        return inner

    unpack = packed.opener(inner, run, unreadable, most)
    if encoding:
        return unpack(encoding)
    return OpaqueCore(inner, run, not_compressed, unreadable, skip=False, plain=plain, unpack=unpack)


def keeps_bytes(status: int, headers: Headers) -> str:
    """The content coding that an answer's body has to keep, because it is a part of an object; else empty."""
    applied = codings.names(heads.first(headers, b"content-encoding"))
    return applied[0] if status == 206 and len(applied) == 1 else ""
