"""`sql`: kinds of statement, judged under every plausible dialect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .facts import UNKNOWN, Facts, Hit
from .statements import SQL, carries


@dataclass(frozen=True)
class Sql:
    patterns: tuple[str, ...]
    key: str = "sql"

    @classmethod
    def of(cls, texts: Iterable[str]) -> Sql:
        return cls(tuple(texts))

    def hits(self, facts: Facts) -> Iterable[Hit]:
        return UNKNOWN if carries(facts.call, SQL) else ()
