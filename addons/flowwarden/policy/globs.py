"""Globs as IAM has them (`*` and `?`, nothing else), compiled for speed and safe against hostile values."""

from __future__ import annotations

import re
from collections.abc import Iterable

WILD = re.compile(r"[*?]")


def is_exact(text: str) -> bool:
    """Whether a pattern has no wildcard and so names one thing."""
    return WILD.search(text) is None


def literal_prefix(text: str) -> str:
    """What every match of a pattern starts with."""
    return WILD.split(text, maxsplit=1)[0]


def literal_suffix(text: str) -> str:
    """What every match of a pattern ends with."""
    return WILD.split(text)[-1]


def to_regex(text: str) -> str:
    """A pattern as a regular expression for `fullmatch` in linear time.

    Each star between two literals becomes an atomic group with the shortest run to the literal after it, so that nothing
    is ever tried twice; the standard library's fnmatch does the same. Character classes are not part of IAM's globs.
    """
    parts = re.split(r"\*+", text)
    literals = ["".join("." if char == "?" else re.escape(char) for char in part) for part in parts]
    if len(literals) == 1:
        return literals[0]
    middle = "".join(f"(?>.*?{literal})" for literal in literals[1:-1])
    return f"{literals[0]}{middle}.*{literals[-1]}"


class Globs:
    """A list of patterns. Calling it tells whether any of them matches a value; `fold` ignores case."""

    __slots__ = ("_exact", "_fold", "_prefixes", "_regex", "texts")

    def __init__(self, texts: Iterable[str], fold: bool = False) -> None:
        self.texts = tuple(texts)
        self._fold = fold
        patterns = [text.lower() for text in self.texts] if fold else self.texts
        self._exact = frozenset(text for text in patterns if is_exact(text))
        self._prefixes = tuple(text[:-1] for text in patterns if text.endswith("*") and is_exact(text[:-1]))
        other = [text for text in patterns if not is_exact(text) and not (text.endswith("*") and is_exact(text[:-1]))]
        self._regex = re.compile("|".join(f"(?:{to_regex(text)})" for text in other), re.DOTALL) if other else None

    def __call__(self, value: str) -> bool:
        if self._fold:
            value = value.lower()
        return (
            value in self._exact
            or value.startswith(self._prefixes)
            or (self._regex is not None and self._regex.fullmatch(value) is not None)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Globs) and set(other.texts) == set(self.texts) and other._fold == self._fold

    def __hash__(self) -> int:
        return hash(frozenset(self.texts))

    def covers(self, other: Globs) -> bool:
        """Whether each pattern of another list matches no more than one of these does, as far as can be told."""
        return all(self(text.replace("?", "*")) for text in other.texts)

    def __repr__(self) -> str:
        return f"Globs({list(self.texts)})"

    @property
    def exact(self) -> frozenset[str]:
        """The patterns without wildcards, folded if this list ignores case."""
        return self._exact
