"""Facet: what one statement does to one table, the unit that `sql` patterns are held against."""

from __future__ import annotations

from dataclasses import dataclass

UNPARSABLE = "UNPARSABLE"


@dataclass(frozen=True)
class Facet:
    """A kind of statement, a table by its dotted parts in lower case (empty: none), and whether every row is meant."""

    kind: str
    table: tuple[str, ...] = ()
    bare: bool = False
