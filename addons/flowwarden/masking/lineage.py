"""What a SQL statement does with a masked column: shows it plainly, or computes something from it.

What is computed from a secret is the secret: `reverse(email)`, a condition on it, an alias, a join, a set operation, a row
as a whole. Then, and where a statement cannot be understood, the whole result is masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from .globs import name_matches

DIALECTS = {
    "rds-data": ("postgres", "mysql"),
    "athena": ("athena",),
    "redshift-data": ("redshift",),
    "dynamodb": ("postgres",),
}
_LONGEST = 100_000
_ABOUT = re.compile(r"\s*(?:(?:show|describe|desc|use)\b[^;]*|explain\s+(?!.*\banaly[sz]e\b)[^;]*);?\s*", re.I | re.S)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")


def hides_whole(sql: str, service: str, columns: Iterable[str]) -> bool:
    """Whether the whole result has to be masked. False: masking the columns by their names is enough."""
    return _hides_whole(sql, DIALECTS.get(service, ("postgres", "mysql")), tuple(columns))


@lru_cache(maxsize=1024)
def _hides_whole(sql: str, dialects: tuple[str, ...], columns: tuple[str, ...]) -> bool:
    if len(sql) > _LONGEST or "/*!" in sql:
        return True
    if _ABOUT.fullmatch(sql):
        return False  # tells of tables and plans, not of rows
    understood = False
    for dialect in dialects:
        try:
            trees = sqlglot.parse(sql, dialect=dialect)
        except (SqlglotError, RecursionError, ValueError):
            continue
        understood = True
        if not trees or any(tree is None or _taints(tree, columns) for tree in trees):
            return True
    return not understood


def _taints(tree: exp.Expr, columns: Sequence[str]) -> bool:
    if isinstance(tree, exp.Insert | exp.Update | exp.Delete | exp.Create | exp.Drop | exp.Transaction | exp.Commit):
        return tree.find(exp.Returning) is not None
    if not isinstance(tree, exp.Select | exp.SetOperation):
        return True  # commands, cursors: what comes out is not told by names
    if isinstance(tree, exp.SetOperation) and tree.find(exp.Star) is not None:
        return True  # columns come out under the names of the first branch
    if _renames(tree) or _whole_rows(tree):
        return True
    columns_shown = tree.expressions if isinstance(tree, exp.Select) else []
    plain = {id(column.this) for column in columns_shown if isinstance(column, exp.Column)}
    for node in tree.walk():
        if isinstance(node, exp.Identifier):
            if name_matches(columns, node.name) and id(node) not in plain:
                return True
        elif any(isinstance(text, str) and names_one(text, columns) for text in node.args.values()):
            return True  # a literal or a JSON path that names it
    return False


def names_one(text: str, columns: Sequence[str]) -> bool:
    """Whether one of the words of a text is the name of a masked column."""
    return any(name_matches(columns, word) for word in _WORD.findall(text))


def _renames(tree: exp.Expr) -> bool:
    """Whether columns may come out under other names: pivots, column lists of aliases, natural joins."""
    if tree.find(exp.Command, exp.Pivot) is not None:
        return True
    for alias in tree.find_all(exp.TableAlias):
        holder = alias.parent
        if alias.args.get("columns") and (isinstance(holder, exp.Table) or (holder and holder.find(exp.Star))):
            return True
    return any(join.args.get("method") == "NATURAL" for join in tree.find_all(exp.Join))


def _whole_rows(tree: exp.Expr) -> bool:
    """Whether a row is used as a value: `row_to_json(t)`, `concat(t.*)`, a table's name as a column."""
    tables = {table.alias_or_name.lower() for table in tree.find_all(exp.Table)}
    for column in tree.find_all(exp.Column):
        if not column.table and column.name.lower() in tables:
            return True
    for star in tree.find_all(exp.Star):
        holder = star.parent
        if isinstance(holder, exp.Column):
            holder = holder.parent
        if not isinstance(holder, exp.Select | exp.Count):
            return True
    return False
