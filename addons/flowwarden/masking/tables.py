"""CSV and TSV (RFC 4180) as they pass: the cells of masked columns are hidden, then the text is searched like any other.

The first record names the columns. Quotes are kept where they stand, so that a mask of the same length fits in a cell.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from .globs import name_matches
from .model import Core, Mask, refuse
from .values import Run

_LONGEST = 1 << 20  # bytes of one record


class TableCore:
    """Records, cell by cell, on their way into the windows of the text."""

    def __init__(
        self, inner: Core, run: Run, masks: Sequence[Mask], separator: bytes, whole: bool | None = False
    ) -> None:
        """`whole`: hide every column, whatever it is called; None: where the names are all in quotes, as Athena writes them."""
        self._inner = inner
        self._run = run
        self._masks = masks
        self._separator = separator
        self._whole = whole
        self._buffer = b""
        self._columns: list[Mask | None] | None = None

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        records: list[bytes] = []
        at = 0
        while (end := self._end(at)) >= 0:
            records.append(self._record(self._buffer[at:end]))
            at = end
        self._buffer = self._buffer[at:]
        if len(self._buffer) > _LONGEST:
            raise refuse("TooLarge", "a record of this table is too long to be searched")
        return self._inner.feed(b"".join(records)) if records else b""

    def finish(self) -> bytes:
        last = self._record(self._buffer) if self._buffer else b""
        self._buffer = b""
        return self._inner.feed(last) + self._inner.finish()

    def _end(self, at: int) -> int:
        """Where the record that starts here ends, behind its line end; -1 if it is not whole yet."""
        end = self._buffer.find(b"\n", at)
        while end >= 0 and self._buffer.count(b'"', at, end) % 2:
            if end - at > _LONGEST:
                raise refuse("TooLarge", "a record of this table is too long to be searched")
            end = self._buffer.find(b"\n", end + 1)
        return end + 1 if end >= 0 else -1

    def _record(self, record: bytes) -> bytes:
        if self._columns is None:
            self._columns = self._named(record)
            return record
        if not any(self._columns):
            return record
        body = record.rstrip(b"\r\n")
        cells = self._cells(body)
        made = [self._cell(cell, n) for n, cell in enumerate(cells)]
        return self._separator.join(made) + record[len(body) :]

    def _named(self, record: bytes) -> list[Mask | None]:
        cells = self._cells(record.removeprefix(codecs.BOM_UTF8).strip(b"\r\n"))
        if self._whole or (self._whole is None and all(cell[:1] == cell[-1:] == b'"' for cell in cells)):
            return [self._masks[0]] * len(cells)
        names = [cell.decode("utf-8", "replace").strip().strip('"').strip() for cell in cells]
        return [next((m for m in self._masks if name_matches(m.columns, name)), None) for name in names]

    def _cells(self, body: bytes) -> list[bytes]:
        """The record's cells with their quotes."""
        if b'"' not in body:
            return body.split(self._separator)
        cells: list[bytes] = []
        for piece in body.split(self._separator):
            if cells and cells[-1].count(b'"') % 2:
                cells[-1] += self._separator + piece
            else:
                cells.append(piece)
        return cells

    def _cell(self, cell: bytes, number: int) -> bytes:
        assert self._columns is not None
        mask = self._columns[number] if number < len(self._columns) else None
        if mask is None or not cell or mask.id in self._run.off:
            return cell
        quoted = len(cell) > 1 and cell[:1] == b'"' and cell[-1:] == b'"'
        value = cell[1:-1] if quoted else cell
        new = self._run.mask(mask, value) if value else None
        if new is None:
            return cell
        return b'"' + new + b'"' if quoted else new


def separator(content_type: str, key: str) -> bytes:
    """The separator of a table that a content type or an object's key names; empty for what is no table."""
    main = content_type.partition(";")[0].strip().lower()
    name = key.lower()
    if main == "text/csv" or name.endswith(".csv"):
        return b","
    if main == "text/tab-separated-values" or name.endswith((".tsv", ".tab")):
        return b"\t"
    return b""
