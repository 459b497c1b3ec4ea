"""`sql`: kinds of statement, their tables and `without WHERE`, under every dialect that a call may be read in."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .facts import UNKNOWN, Facts, Hit
from .globs import Globs
from .sqlread import KINDS, MAX_CHARS, UNPARSABLE, Facet, facets
from .statements import SQL, texts

_PATTERN = re.compile(r"(?i)([A-Z_*]+)(?:\s+on\s+(\S+))?(\s+without\s+where)?")


@dataclass(frozen=True)
class Pattern:
    """`DELETE`, `DELETE without WHERE`, `SELECT on payments.*`, `* on users`."""

    kind: str
    table: tuple[Globs, ...] = ()
    bare: bool = False

    @classmethod
    def of(cls, text: str) -> Pattern:
        """ValueError for what is no pattern."""
        match = _PATTERN.fullmatch(text.strip())
        kind = match[1].upper() if match else ""
        if match is None or (kind != "*" and kind not in KINDS):
            close = difflib.get_close_matches(kind or text.upper(), KINDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(KINDS))}"
            raise ValueError(f"{text!r} is not a kind of statement{hint}")
        bare = match[3] is not None
        if bare and kind not in ("DELETE", "UPDATE"):
            raise ValueError(f"{text!r}: only DELETE and UPDATE have a WHERE that matters here")
        table = tuple(Globs([part], fold=True) for part in match[2].split(".")) if match[2] else ()
        return cls(kind, table, bare)

    def hit(self, facet: Facet) -> Hit:
        if self.kind not in ("*", facet.kind) or (self.bare and not facet.bare):
            return False
        return self._table(facet.table) if self.table else True

    def _table(self, table: tuple[str, ...]) -> Hit:
        """Tables are compared from the right. Where one side names a schema and the other none, that is not known."""
        if not table:
            return None
        if not all(glob(part) for glob, part in zip(reversed(self.table), reversed(table), strict=False)):
            return False
        return True if len(self.table) == len(table) else None


@dataclass(frozen=True)
class Sql:
    """Patterns over the statements of a call that carries SQL. What cannot be parsed is unknown."""

    patterns: tuple[Pattern, ...]
    key: str = "sql"

    @classmethod
    def of(cls, texts: Iterable[str]) -> Sql:
        """ValueError for a text that is no pattern."""
        return cls(tuple(Pattern.of(text) for text in texts))

    def hit(self, facet: Facet) -> Hit:
        if facet.kind == UNPARSABLE:
            return None
        found = {pattern.hit(facet) for pattern in self.patterns}
        return True if True in found else None if None in found else False

    def hits(self, facts: Facts) -> Iterable[Hit]:
        carrier = SQL.get(str(facts.call.operation)) if facts.call.operation else None
        if carrier is None:
            return ()
        found = texts(facts.call, carrier)
        if found is None or sum(map(len, found)) > MAX_CHARS:
            return UNKNOWN
        return [self.hit(facet) for text in found for facet in facets(text, carrier.dialects)]
