"""Questions to the index, as SQL that uses its indexes.

SQLite has no statistics here and would guess, so one condition is chosen to drive and the others are kept from it by a
unary plus (https://www.sqlite.org/optoverview.html#manual_control_of_query_plans_using_cross_join_and_unary_plus_operators).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_WORD = re.compile(r"[^\W_]+")
_FEW = 2000  # flows of the actions that a glob means, below which they are looked up one by one
_ACTIONS = """WITH RECURSIVE each (one) AS (SELECT min(action) FROM flows UNION ALL
    SELECT (SELECT min(flows.action) FROM flows WHERE flows.action > each.one) FROM each WHERE each.one IS NOT NULL)
    SELECT each.one FROM each WHERE each.one GLOB ? LIMIT 500"""
_MATCHES = "SELECT count(*) FROM (SELECT 1 FROM flows_fts WHERE flows_fts MATCH ? LIMIT ?)"
_RARE = 5000  # flows with the words asked for, below which the full-text index drives


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


def find(db: sqlite3.Connection, asked: Filter, limit: int) -> Iterator[Any]:
    """Rows that fit, newest first. The connection needs `holds` (see `prepare`). sqlite3.Error.

    Words that many flows hold are looked for in each flow that the other conditions give: that ends soon. Rare ones come
    from the full-text index. Where no flow holds a word, words are taken for beginnings.
    """
    actions = _actions(db, asked.action) if "*" in asked.action else []
    if actions is not None and "*" in asked.action and not actions:
        return iter(())
    where, values = _conditions(asked, actions)
    source = "flows"
    parts = _parts(asked.search)
    if parts:
        match, beginnings = _match(db, parts)
        if match:
            source = "flows_fts CROSS JOIN flows ON flows.seq = flows_fts.rowid"
            where, values = ["flows_fts MATCH ?", *where], [match, *values]
        else:
            where.append("holds(?, flows.actions, flows.resource, flows.host, flows.path)")
            values.append(("*" if beginnings else "=") + "\0".join(parts))
    clause = f" WHERE {' AND '.join(where)}" if where else ""
    order = "ORDER BY flows.time DESC, flows.seq DESC"
    found = f"SELECT flows.seq FROM {source}{clause} {order} LIMIT ?"  # noqa: S608 - often from an index alone
    return db.execute(f"SELECT * FROM flows WHERE seq IN ({found}) {order}", [*values, limit])  # noqa: S608


def _match(db: sqlite3.Connection, parts: list[str]) -> tuple[str, bool]:
    """The full-text query where it should drive, else nothing; and whether words are beginnings."""
    for ending in ("", "*"):
        query = " ".join(f'"{part}"{ending}' for part in parts)
        (count,) = db.execute(_MATCHES, [query, _RARE]).fetchone()
        if count:
            return (query if count < _RARE else ""), bool(ending)
    return query, True


def prepare(db: sqlite3.Connection) -> None:
    """Gives a connection the function that looks for words in a row."""
    db.create_function("holds", -1, _holds, deterministic=True)


def _holds(asked: str, *texts: str) -> bool:
    patterns = _patterns(asked)
    return all(any(pattern.search(text) for text in texts if text) for pattern in patterns)


@lru_cache(64)
def _patterns(asked: str) -> list[re.Pattern[str]]:
    """One pattern for each phrase, with the full-text index's notion of a word: letters and digits."""
    end = "" if asked[0] == "*" else r"(?![^\W_])"
    return [
        re.compile(r"(?<![^\W_])" + r"[\W_]+".join(map(re.escape, _WORD.findall(part))) + end, re.IGNORECASE)
        for part in asked[1:].split("\0")
    ]


def _conditions(asked: Filter, actions: list[str] | None) -> tuple[list[str], list[Any]]:
    """All conditions but the words; the first that is there may use its index, the others may not."""
    where: list[str] = []
    values: list[Any] = []

    def add(condition: str, *more: Any) -> None:
        where.append(f"+{condition}" if where else condition)
        values.extend(more)

    if asked.request_id:
        add("flows.request_id = ?", asked.request_id)
        where.append("flows.request_id != ''")  # the index is a partial one
    if asked.session:
        add("flows.session = ?", asked.session)
    if actions:
        add(f"flows.action IN ({', '.join('?' * len(actions))})", *actions)
    elif asked.action and "*" not in asked.action:
        add("flows.action = ?", asked.action)
    if asked.outcome:
        add("flows.outcome = ?", asked.outcome)
    if asked.decision:
        add("flows.decision = ?", asked.decision)
    if asked.action and actions is None:
        where.append("+flows.action GLOB ?")
        values.append(asked.action)
    for sign, moment in ((">=", asked.since), ("<", asked.until)):
        if moment:
            where.append(f"flows.time {sign} ?")  # every index ends with the time
            values.append(moment)
    return where, values


def _actions(db: sqlite3.Connection, glob: str) -> list[str] | None:
    """The actions that a glob means, if they are few and seldom; None: better to look at each flow's."""
    found = [name for (name,) in db.execute(_ACTIONS, [glob]).fetchall()]
    if len(found) >= 500:
        return None
    marks = ", ".join("?" * len(found))
    (count,) = db.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM flows WHERE action IN ({marks}) LIMIT {_FEW})",  # noqa: S608
        found,
    ).fetchone()
    return found if count < _FEW else None


def _parts(search: str) -> list[str]:
    """What is searched: each part between spaces is a phrase of words."""
    return [part for part in re.sub(r'["\0]', " ", search).split() if _WORD.search(part)]
