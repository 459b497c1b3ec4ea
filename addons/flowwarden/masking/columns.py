"""Columns of results: RDS Data API, Athena, Redshift Data and DynamoDB, by the names that the answer itself gives.

Where names are not given, or the statement computes from a masked column (`lineage.py`), every value is hidden.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import Refusal
from ..types import Call
from . import lineage
from .globs import Globs, name_matches
from .jsonmask import JsonMasker, Reading, Special, Whole, put
from .jsontree import Node
from .model import Mask
from .statements import Statements

_DYNAMO = frozenset({"dynamodb", "dynamodbstreams"})
_RESULTS = {
    ("athena", "GetQueryResults"): "QueryExecutionId",
    ("redshift-data", "GetStatementResult"): "Id",
    ("redshift-data", "GetStatementResultV2"): "Id",
}


def concerns(call: Call) -> bool:
    """Whether an operation's answers have columns."""
    operation = call.operation
    if operation is None:
        return False
    key = (operation.service, operation.name)
    return operation.service in _DYNAMO or operation.service == "rds-data" or key in _RESULTS


def by_name(call: Call) -> bool:
    """Whether columns can only occur where their names stand in the answer (DynamoDB)."""
    return call.operation is not None and call.operation.service in _DYNAMO


def special(call: Call, masks: Sequence[Mask], statements: Statements, reader: JsonMasker) -> Special | None:
    """The work on an answer's tree that hides its masked columns; None where there is nothing to do."""
    if not masks or not concerns(call):
        return None
    operation = call.operation
    assert operation is not None
    if operation.service in _DYNAMO:
        return _Dynamo(masks).hide
    work = _Result(masks, reader, _whole(call, masks, statements))
    return work.athena if operation.service == "athena" else work.records


def _whole(call: Call, masks: Sequence[Mask], statements: Statements) -> bool:
    operation, params = call.operation, call.params
    assert operation is not None
    sql: object = None
    if params is not None:
        key = _RESULTS.get((operation.service, operation.name))
        sql = statements.of(params.get(key)) if key else params.get("sql", params.get("sqlStatements"))
    if not isinstance(sql, str):
        return True
    return lineage.hides_whole(sql, operation.service, [glob for mask in masks for glob in mask.columns])


def _mask_for(masks: Sequence[Mask], *names: str | None) -> Mask | None:
    return next((mask for mask in masks for name in names if name and name_matches(mask.columns, name)), None)


class _Result:
    """Rows of cells, with metadata that names the columns."""

    def __init__(self, masks: Sequence[Mask], reader: JsonMasker, whole: bool) -> None:
        self.masks = masks
        self.reader = reader
        self.whole = whole

    def _columns(self, metadata: Node | None, width: int) -> list[Mask | None]:
        if self.whole or metadata is None:
            return [self.masks[0]] * width
        named = [_mask_for(self.masks, n.string("name", "Name"), n.string("label", "Label")) for n in metadata.nodes()]
        return named + [self.masks[0]] * max(0, width - len(named))

    def _hide(self, cell: Node, mask: Mask, reading: Reading) -> None:
        for name, value in cell.items:
            if name == "isNull" or value.kind == "word":
                continue
            self.reader.hide(value, Whole(mask, blob=name == "blobValue"), reading)

    def records(self, root: Node, reading: Reading) -> None:
        """RDS Data API and Redshift Data: `records` of typed cells, `formattedRecords` of JSON or CSV."""
        metadata = root.get("columnMetadata", "ColumnMetadata")
        for field in ("records", "Records"):
            rows = root.get(field)
            for row in rows.nodes() if rows is not None else ():
                for cell, mask in zip(row.nodes(), self._columns(metadata, len(row.items)), strict=False):
                    if mask is not None:
                        self._hide(cell, mask, reading)
        formatted = root.get("formattedRecords", "FormattedRecords")
        if formatted is not None:
            self._formatted(formatted, metadata, reading)

    def _formatted(self, node: Node, metadata: Node | None, reading: Reading) -> None:
        if node.kind != "string" or self.whole:
            if node.items or node.text:
                self.reader.hide(node, Whole(self.masks[0]), reading)
            return
        fields = Globs([(glob, Whole(mask)) for mask in self.masks for glob in mask.columns])
        text = node.text.encode("utf-8", "surrogatepass")
        try:
            masked = self.reader.careful(text, reading.run, fields, layer=1)
        except Refusal:
            self.reader.hide(node, Whole(self.masks[0]), reading)
            return
        if masked is not None:
            put(node, masked, reading)

    def athena(self, root: Node, reading: Reading) -> None:
        """Athena: ResultSet.Rows[].Data[].VarCharValue; the first row of a SELECT repeats the names."""
        result = root.get("ResultSet")
        if result is None:
            return
        about = result.get("ResultSetMetadata")
        metadata = about.get("ColumnInfo") if about is not None else None
        names = [n.string("Name") for n in metadata.nodes()] if metadata is not None else []
        rows = result.get("Rows")
        for number, row in enumerate(rows.nodes() if rows is not None else ()):
            data = row.get("Data")
            cells = list(data.nodes()) if data is not None else []
            if number == 0 and names and [cell.string("VarCharValue") for cell in cells] == names:
                continue
            for cell, mask in zip(cells, self._columns(metadata, len(cells)), strict=False):
                if mask is not None:
                    self._hide(cell, mask, reading)


class _Dynamo:
    """Attributes of items, at any depth, in the form `{"S": …}` of their types."""

    def __init__(self, masks: Sequence[Mask]) -> None:
        self.masks = masks

    def hide(self, node: Node, reading: Reading) -> None:
        reading.run.budget.tick()
        for name, child in node.items:
            mask = _mask_for(self.masks, name) if name and child.kind == "object" and _is_attribute(child) else None
            if mask is None:
                self.hide(child, reading)
            else:
                self._value(child, mask, reading)

    def _value(self, node: Node, mask: Mask, reading: Reading) -> None:
        for kind, value in node.items:
            leaves = list(value.nodes()) if kind in {"SS", "NS", "BS"} else [value]
            if kind in {"L", "M"}:
                for child in value.nodes():
                    self._value(child, mask, reading)
                continue
            for leaf in leaves:
                if leaf.kind == "string":
                    self._leaf(leaf, kind, mask, reading)

    @staticmethod
    def _leaf(leaf: Node, kind: str, mask: Mask, reading: Reading) -> None:
        if kind in {"N", "NS"}:
            reading.run.counts[mask.id] += 1
            put(leaf, b"0", reading)
            return
        JsonMasker.hide_string(leaf, Whole(mask, blob=kind in {"B", "BS"}), reading)


_TYPES = frozenset({"S", "N", "B", "SS", "NS", "BS", "M", "L", "BOOL", "NULL"})


def _is_attribute(node: Node) -> bool:
    return len(node.items) == 1 and node.items[0][0] in _TYPES


def with_metadata(call: Call, body: bytes) -> bytes | None:
    """A request of the RDS Data API that asks for column names too; None where it does so already or is another call.

    Who sends this has to take `columnMetadata` out of the answer again: `without_metadata`.
    """
    operation = call.operation
    if operation is None or (operation.service, operation.name) != ("rds-data", "ExecuteStatement"):
        return None
    try:
        read = json.loads(body)
    except ValueError:
        return None
    if not isinstance(read, dict) or read.get("includeResultMetadata") is True or "formatRecordsAs" in read:
        return None
    return json.dumps({**read, "includeResultMetadata": True}).encode()


def without_metadata(body: bytes) -> bytes:
    """The answer to a request that `with_metadata` changed, as the client expects it."""
    read: Any = json.loads(body)
    if not isinstance(read, Mapping) or "columnMetadata" not in read:
        return body
    return json.dumps({name: value for name, value in read.items() if name != "columnMetadata"}).encode()
