"""DynamoDB's PartiQL: one statement a text, of four kinds, which sqlglot has no dialect for.

Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.html
"""

from __future__ import annotations

import re

from .sqlfacet import Facet

_TOKEN = re.compile(
    r"""\s+|(?P<string>'(?:[^']|'')*')|(?P<name>"(?:[^"]|"")+")|(?P<word>[A-Za-z_][A-Za-z0-9_$-]*)"""
    r"""|(?P<number>\d[\w.+-]*)|(?P<sign>[-+*/=<>!,.()\[\]{}:?%|;])"""
)


def _tokens(text: str) -> list[tuple[str, str]] | None:
    """(kind, text) of each token; None for a comment or a character that PartiQL has no use for."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or text.startswith(("--", "/*"), at):
            return None
        if match.lastgroup:
            found.append((match.lastgroup, match[0]))
        at = match.end()
    while found and found[-1] == ("sign", ";"):
        found.pop()
    return None if any(token == ("sign", ";") for token in found) else found


def read(text: str) -> list[Facet] | None:
    """The facets of a statement; None if it is not one of SELECT, INSERT, UPDATE, DELETE, EXISTS(SELECT …)."""
    tokens = _tokens(text)
    if not tokens:
        return None
    words = [token.upper() if kind == "word" else "" for kind, token in tokens]
    where = "WHERE" in words
    if words[0] == "EXISTS" and "SELECT" in words[1:3]:
        words[0] = "SELECT"
    if words[0] == "SELECT" and "FROM" in words:
        table = _table(tokens, words.index("FROM") + 1)
        return [Facet("SELECT", table)] if table else None
    starts = {("INSERT", "INTO"): 2, ("DELETE", "FROM"): 2}
    skip = 1 if words[0] == "UPDATE" else starts.get((words[0], words[1] if len(words) > 1 else ""), 0)
    table = _table(tokens, skip) if skip else None
    if table is None:
        return None
    return [Facet(words[0], table, words[0] in ("UPDATE", "DELETE") and not where)]


def _table(tokens: list[tuple[str, str]], at: int) -> tuple[str, ...] | None:
    """The table's name at a token, without an index behind it: both are one table."""
    if at >= len(tokens) or tokens[at][0] not in ("name", "word"):
        return None
    kind, text = tokens[at]
    return ((text[1:-1].replace('""', '"') if kind == "name" else text).lower(),)
