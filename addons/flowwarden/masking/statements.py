"""The SQL of queries whose results are read later: by the query's id, from the file that Athena writes, from an UNLOAD."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Sequence

from ..types import Call
from . import lineage

_REMEMBERED = 10_000
_UNLOADS = 256
_LONGEST = 100_000
_STARTS = {
    ("athena", "StartQueryExecution"): ("QueryString", "QueryExecutionId"),
    ("redshift-data", "ExecuteStatement"): ("Sql", "Id"),
    ("redshift-data", "BatchExecuteStatement"): ("Sqls", "Id"),
}
_RESULT_FILE = re.compile(r"(?:.*/)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.csv", re.I | re.S)
_UNLOAD = re.compile(r"\bunload\s*\((.*?)\)\s*to\s*'s3://([^']*)'", re.I | re.S)


class Statements:
    """The SQL of queries whose results are fetched by id later, newest few thousand."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()
        self._unloads: OrderedDict[str, str] = OrderedDict()  # bucket/prefix → what was unloaded there

    def learn(self, call: Call, answer: bytes) -> None:
        """Remembers the statement of a call that started a query, by the id in its answer."""
        operation = call.operation
        names = _STARTS.get((operation.service, operation.name)) if operation else None
        if names is None or call.params is None:
            return
        try:
            found = json.loads(answer)
            identifier = found.get(names[1]) if isinstance(found, dict) else None
        except ValueError:
            return
        sql = call.params.get(names[0])
        if not isinstance(identifier, str) or sql is None:
            return
        text = ";".join(map(str, sql)) if isinstance(sql, list | tuple) else str(sql)
        _put(self._known, identifier, text, _REMEMBERED)
        for match in _UNLOAD.finditer(text[:_LONGEST]):
            _put(self._unloads, match.group(2), match.group(1), _UNLOADS)

    def of(self, identifier: object) -> str | None:
        """The statement of a query id; None if this gateway did not see it. Redshift's ids may end in `:n`."""
        return self._known.get(str(identifier).partition(":")[0])

    def hides_file(self, key: str, columns: Sequence[str]) -> bool | None:
        """Whether all of an object has to be hidden because it is the result of an Athena query that says so.

        None: it is named like one of a query that this gateway did not see.
        """
        named = _RESULT_FILE.fullmatch(key)
        if named is None:
            return False
        sql = self.of(named.group(1).lower())
        return None if sql is None else lineage.hides_whole(sql, "athena", columns)

    def unloaded(self, bucket: str, key: str, columns: Sequence[str]) -> bool:
        """Whether an object was written by an UNLOAD that may hold a masked column: its files do not name columns."""
        place = f"{bucket}/{key}"
        return any(
            place.startswith(prefix) and ("*" in sql or lineage.names_one(sql, columns))
            for prefix, sql in self._unloads.items()
        )


def _put(known: OrderedDict[str, str], name: str, text: str, most: int) -> None:
    known[name] = text
    while len(known) > most:
        known.popitem(last=False)
