"""Reads SQL into facets (kind, table, bare) with sqlglot, once for each plausible dialect; all readings count.

So the most severe reading wins: a deny needs one facet, an allow needs them all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from .partiql import read as read_partiql
from .sqlfacet import UNPARSABLE, Facet

__all__ = ["KINDS", "MAX_CHARS", "UNPARSABLE", "Facet", "facets"]

# sqlglot logs the statements that it cannot parse; statements hold data, and logs are not masked.
logging.getLogger("sqlglot").disabled = True

MAX_CHARS = 16 * 1024  # of all statements of a call: parsing takes the gateway's own time
MAX_TOKENS = 3000  # some 15 µs each and dialect

_NODES: dict[type[exp.Expr], str] = {
    exp.Select: "SELECT",
    exp.Insert: "INSERT",
    exp.Update: "UPDATE",
    exp.Delete: "DELETE",
    exp.Merge: "MERGE",
    exp.Drop: "DROP",
    exp.TruncateTable: "TRUNCATE",
    exp.Alter: "ALTER",
    exp.Create: "CREATE",
    exp.Grant: "GRANT",
    exp.Revoke: "REVOKE",
    exp.Copy: "COPY",
    exp.Set: "SET",
    exp.Use: "USE",
    exp.Kill: "KILL",
    exp.Transaction: "TRANSACTION",
    exp.Commit: "TRANSACTION",
    exp.Rollback: "TRANSACTION",
    exp.Describe: "DESCRIBE",
    exp.Show: "SHOW",
}
_ROOTS = (*_NODES, exp.SetOperation, exp.Subquery, exp.Values)
_DML = (exp.Insert, exp.Update, exp.Delete, exp.Merge)
KINDS = frozenset({*_NODES.values(), "CALL", UNPARSABLE})
"""The kinds of statement that a rule may name. CALL: a function that does more than compute is called."""

_CODE = frozenset({"FUNCTION", "PROCEDURE", "TRIGGER", "EVENT", "RULE", "MACRO"})  # their bodies are text to sqlglot
# Functions of MySQL, PostgreSQL, Redshift and Aurora that run SQL, reach files, other servers or AWS, or end sessions.
_ACTIVE = re.compile(
    r"(?i)dblink.*|lo_(import|export|unlink|put|from_bytea)|pg_(read|ls|stat|write|terminate|cancel|reload|rotate|switch|"
    r"promote|logical|create|drop|file|replication).*|(query|table|schema|database|cursor)_to_xml.*|set_config|setval|"
    r"nextval|load_file|sys_(exec|eval)|xp_.*|.*query_export_to_s3.*|.*table_import_from_s3.*|lambda_.*|.*aws_lambda.*|"
    r"invoke|ts_stat|currtid.*|txid_.*|adminpack.*|execute_external.*|sleep|benchmark|get_lock|pg_sleep.*"
)
# Words that begin or make a statement that changes something. A reading that fails to parse may still hold them.
_SEVERE = frozenset(
    re.findall(
        r"\w+",
        "INSERT UPDATE DELETE MERGE DROP TRUNCATE ALTER CREATE GRANT REVOKE COPY CALL DO EXECUTE PREPARE LOAD "
        "UNLOAD INTO REPLACE RENAME SET RESET VACUUM LOCK KILL HANDLER IMPORT EXPORT COMMENT REASSIGN "
        "SECURITY MSCK VALUES TABLE WITH BEGIN START COMMIT ROLLBACK DECLARE FETCH LISTEN NOTIFY REFRESH "
        "REINDEX CLUSTER ANALYZE EXPLAIN USE SHOW ",
    )
)
# What sqlglot leaves out or reads as something else than the server: MySQL's executable comments, templates, NUL.
_TREACHEROUS = re.compile(r"/\*!|/\*M!|\{[{%#]|\x00|\\\\\n")


@lru_cache(maxsize=512)
def facets(text: str, dialects: tuple[str, ...]) -> tuple[Facet, ...]:
    """Every facet of every statement under every dialect; the facet UNPARSABLE where a reading is not known."""
    unknown = Facet(UNPARSABLE)
    if len(text) > MAX_CHARS or _TREACHEROUS.search(text):
        return (unknown,)
    found: dict[Facet, None] = {}
    failed: list[str] = []
    for dialect in dialects:
        read = read_partiql(text) if dialect == "partiql" else _read(text, dialect)
        if read is None:
            failed.append(dialect)
        else:
            found.update(dict.fromkeys(read))
    parsed = [dialect for dialect in dialects if dialect not in failed and dialect != "partiql"]
    if not found or any(not _harmless(text, dialect, parsed) for dialect in failed):
        found[unknown] = None
    return tuple(found)


def _harmless(text: str, failed: str, parsed: list[str]) -> bool:
    """Whether a dialect that cannot parse a text adds nothing to one that can.

    A server of that dialect refuses the text too, or reads the same pieces: as many, beginning with the same words, and
    with no severe word that the other reading does not have. Else it is taken for a trick.
    """
    return any(_outline(text, failed) == outline for dialect in parsed if (outline := _outline(text, dialect)))


def _outline(text: str, dialect: str) -> tuple[tuple[str, tuple[str, ...]], ...] | None:
    """Each piece's first word and severe words in order; None if the text has no tokens in a dialect."""
    try:
        tokens = sqlglot.tokenize(text, read=dialect)
    except (SqlglotError, RecursionError, ValueError, IndexError):
        return None
    pieces: list[list[Token]] = [[]]
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            pieces.append([])
        elif token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER):
            pieces[-1].append(token)
    return tuple(
        (piece[0].text.upper(), tuple(word for token in piece if (word := token.text.upper()) in _SEVERE))
        for piece in pieces
        if piece
    )


def _read(text: str, dialect: str) -> list[Facet] | None:
    """The facets in one dialect; None if it does not parse."""
    if _comments_differ(text, dialect):
        return None
    try:
        if len(sqlglot.tokenize(text, read=dialect)) > MAX_TOKENS:
            return None
        statements = sqlglot.parse(text, read=dialect)
    except (SqlglotError, RecursionError, ValueError, IndexError, AttributeError, TypeError, KeyError):
        return None
    found: list[Facet] = []
    for statement in statements:
        if statement is None or isinstance(statement, exp.Semicolon):
            continue  # nothing but space and comments, of which the treacherous ones were sorted out above
        if not isinstance(statement, _ROOTS):
            return None  # sqlglot's Command, or a text that it takes for an expression
        found.extend(_facets(statement))
    return found or None


def _comments_differ(text: str, dialect: str) -> bool:
    """Whether a comment may end or begin elsewhere for the server than for sqlglot.

    MySQL wants a space behind `--`; PostgreSQL ends a line at a carriage return too.
    """
    if dialect == "mysql" and re.search(r"--(?![\s\x00-\x1f]|$)", text):
        return True
    return bool(re.search(r"\r(?!\n)", text)) and ("--" in text or "#" in text)


def _facets(statement: exp.Expr) -> Iterator[Facet]:
    """A facet for each node that is a kind of statement, with each of its tables."""
    ctes = {cte.alias_or_name.lower() for cte in statement.find_all(exp.CTE)}
    kinds = [node for node in statement.walk() if type(node) in _NODES]
    if isinstance(statement, exp.Values) or not kinds:
        yield Facet("SELECT")
    tables: dict[int, list[tuple[str, ...]]] = {}
    for table in statement.find_all(exp.Table):
        name = tuple(part.name.lower() for part in table.parts)
        owner = table.find_ancestor(*_NODES)
        if owner is not None and not (len(name) == 1 and name[0] in ctes) and any(name):
            tables.setdefault(id(owner), []).append(name)
    for node in kinds:
        kind, bare = (
            _NODES[type(node)],
            isinstance(node, exp.Delete | exp.Update) and not _narrows(node.args.get("where")),
        )
        for name in tables.get(id(node), []) or [()]:
            yield Facet(kind, name, bare)
        if isinstance(node, exp.Select) and node.args.get("into"):
            yield Facet("CREATE")
        if isinstance(node, exp.Insert) and (conflict := node.args.get("conflict")) and conflict.expressions:
            yield from (Facet("UPDATE", name) for name in tables.get(id(node), []) or [()])
        if isinstance(node, exp.Create) and str(node.args.get("kind")).upper() in _CODE:
            yield Facet(UNPARSABLE)
    if any(isinstance(node, exp.Command) for node in statement.walk()):
        yield Facet(UNPARSABLE)
    for call in statement.find_all(exp.Func):
        if _ACTIVE.fullmatch(call.name if isinstance(call, exp.Anonymous) else call.sql_name()):
            yield Facet("CALL")


def _narrows(where: exp.Expr | None) -> bool:
    """Whether a WHERE leaves rows out: not if it is true for every row (`1=1`, `id = id`, `… OR true`)."""
    if where is None:
        return False
    return not _always(where.this)


def _always(test: exp.Expr) -> bool:
    test = test.unnest()
    if isinstance(test, exp.Or):
        return _always(test.left) or _always(test.right)
    if isinstance(test, exp.And):
        return _always(test.left) and _always(test.right)
    if isinstance(test, exp.EQ | exp.GTE | exp.LTE | exp.Like | exp.Is) and test.this == test.expression:
        return True
    # What speaks of no column and asks no other table says the same of each row.
    return not any(test.find_all(exp.Column, exp.Select))
