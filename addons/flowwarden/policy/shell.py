"""`shell`: programs and arguments in remote commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .facts import UNKNOWN, Facts, Hit
from .statements import SHELL, carries


@dataclass(frozen=True)
class Shell:
    patterns: tuple[str, ...]
    key: str = "shell"

    @classmethod
    def of(cls, texts: Iterable[str]) -> Shell:
        return cls(tuple(texts))

    def hits(self, facts: Facts) -> Iterable[Hit]:
        return UNKNOWN if carries(facts.call, SHELL) else ()
