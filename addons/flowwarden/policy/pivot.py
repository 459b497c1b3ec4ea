"""Finds among many candidates the few whose patterns can match a request at all, by what their patterns start or end with."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import count

from .conditions import Hosts, Principals, Regions, Resources
from .facts import Condition, Facts
from .globs import Globs, literal_prefix, literal_suffix
from .params import Param, select, text_of

Texts = Callable[[Facts], Sequence[str] | None]
"""The values of a request that a pivot looks up; None: not all are known, so every candidate counts."""

_FEW = 12  # a group so small is tried one by one


def _resources(facts: Facts) -> Sequence[str] | None:
    found = facts.call.resources
    return None if None in found or not found else found  # type: ignore[return-value]


def _host(facts: Facts) -> Sequence[str] | None:
    return (facts.request.host,) if facts.request.host else None


def _region(facts: Facts) -> Sequence[str] | None:
    return (facts.call.region,) if facts.call.region else None


def _subject(facts: Facts) -> Sequence[str] | None:
    return (facts.principal.subject,) if facts.principal else None


def _param(path: tuple[str, ...]) -> Texts:
    def texts(facts: Facts) -> Sequence[str] | None:
        if facts.call.params is None:
            return None
        found = []
        for value in select(facts.call.params, path):
            text = text_of(value)
            if text is None and value is not None:
                return None
            if text is not None:
                found.append(text)
        return found

    return texts


def _look(condition: Condition) -> tuple[Hashable, Globs, Texts] | None:
    """What a condition can be found by: a name for the values, its patterns, and where the values are."""
    if isinstance(condition, Resources):
        return "resources", condition.resources, _resources
    if isinstance(condition, Param) and not (condition.numbers or condition.absent or condition.off):
        return condition.path, condition.globs, _param(condition.path)
    if isinstance(condition, Hosts):
        return "hosts", condition.hosts, _host
    if isinstance(condition, Principals) and not condition.qualified:
        return "principals", condition.subjects, _subject
    if isinstance(condition, Regions):
        return "regions", condition.regions, _region
    return None


class _Ends:
    """Candidates by the literal start or end of their patterns, whichever is longer."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        self.members: list[int] = []
        self._starts: dict[int, dict[str, list[int]]] = {}
        self._ends: dict[int, dict[str, list[int]]] = {}

    def add(self, number: int, keys: Sequence[tuple[str, bool]]) -> None:
        self.members.append(number)
        for text, start in keys:
            table = self._starts if start else self._ends
            table.setdefault(len(text), {}).setdefault(text, []).append(number)

    def find(self, facts: Facts) -> Sequence[int]:
        values = self.texts(facts)
        if values is None:
            return self.members
        found: list[int] = []
        for value in values:
            for length, known in self._starts.items():
                if hit := known.get(value[:length]):
                    found.extend(hit)
            for length, known in self._ends.items():
                if hit := known.get(value[-length:]):
                    found.extend(hit)
        return found


def _key(pattern: str) -> tuple[str, bool]:
    """The longer of a pattern's literal start and end, and whether it is the start."""
    start, end = literal_prefix(pattern), literal_suffix(pattern)
    return (start, True) if len(start) >= len(end) else (end, False)


class Pivot:
    """Which of a row of candidates to try for a request: never leaves one out that could match."""

    def __init__(self, rows: Sequence[Sequence[Condition]]) -> None:
        groups: dict[Hashable, _Ends] = {}
        always: list[int] = []
        for number, conditions in zip(count(), rows, strict=False):
            best: tuple[int, Hashable, list[tuple[str, bool]], Texts] | None = None
            for condition in conditions:
                look = _look(condition)
                if look is None:
                    continue
                keys = [_key(text) for text in look[1].texts]
                shortest = min((len(text) for text, _ in keys), default=0)
                if shortest and (best is None or shortest > best[0]):
                    best = (shortest, look[0], keys, look[2])
            if best is None:
                always.append(number)
            else:
                groups.setdefault(best[1], _Ends(best[3])).add(number, best[2])
        for group in [group for group in groups.values() if len(group.members) < _FEW]:
            always.extend(group.members)
        self._groups = [group for group in groups.values() if len(group.members) >= _FEW]
        self._always = sorted(always)

    def worthwhile(self) -> bool:
        return bool(self._groups)

    def find(self, facts: Facts) -> Sequence[int]:
        """The numbers of the candidates to try, in order."""
        found: set[int] = set()
        for group in self._groups:
            found.update(group.find(facts))
        if not found:
            return self._always
        found.update(self._always)
        return sorted(found)
