"""Questions to the index, as SQL that uses its indexes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Filter:
    """What flows are asked for; empty fields do not matter."""

    session: str = ""
    action: str = ""
    decision: str = ""
    since: str = ""
    until: str = ""
    search: str = ""
    request_id: str = ""
    outcome: str = ""


def query(asked: Filter, limit: int) -> tuple[str, list[Any]]:
    """SQL and values. Newest first by seq, so that a clock set back does not change the order."""
    where: list[str] = []
    values: list[Any] = []
    source = "flows"
    words = _WORD.findall(asked.search)
    if words:
        source = "flows_fts JOIN flows ON flows.seq = flows_fts.rowid"
        where.append("flows_fts MATCH ?")
        values.append(" ".join(f'"{word}"*' for word in words))
    for column in ("session", "decision", "request_id", "outcome"):
        value = getattr(asked, column)
        if value:
            where.append(f"flows.{column} = ?")
            values.append(value)
    if asked.action:
        where.append("flows.action GLOB ?" if "*" in asked.action else "flows.action = ?")
        values.append(asked.action)
    if asked.since:
        where.append("flows.time >= ?")
        values.append(asked.since)
    if asked.until:
        where.append("flows.time < ?")
        values.append(asked.until)
    order = "flows_fts.rowid" if words else "flows.seq"
    clause = f" WHERE {' AND '.join(where)}" if where else ""
    return f"SELECT flows.* FROM {source}{clause} ORDER BY {order} DESC LIMIT ?", [*values, limit]  # noqa: S608
