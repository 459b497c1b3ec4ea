"""Finds the operation of a REST protocol: method and path in a tree, then literals and required members of query and header."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Table = dict[str, Any]


class Route:
    """One operation's way: what its query has to hold, and where its labels are."""

    __slots__ = ("deprecated", "express", "labels", "literals", "name", "needs", "weight")

    def __init__(self, name: str, spec: Table, shapes: Table) -> None:
        path, _, query = spec["uri"].partition("?")
        self.name = name
        self.deprecated = bool(spec.get("deprecated"))
        self.express = bool(spec.get("express"))
        self.labels = [part[1:-1].rstrip("+") for part in path.split("/") if part.startswith("{")]
        self.literals = {key: value for key, _, value in (piece.partition("=") for piece in query.split("&") if piece)}
        members = shapes[spec["input"]]["members"] if "input" in spec else {}
        required = shapes[spec["input"]]["required"] if "input" in spec else ()
        located = {
            member: (details.get("location"), details.get("locationName", member))
            for member, details in members.items()
        }
        wanted = [located[member] for member in required if member in located]
        self.needs = (
            tuple(name for where, name in wanted if where == "querystring"),
            tuple(name.lower() for where, name in wanted if where == "header"),
        )

        self.weight = 10 * len(self.literals) + len(self.needs[0]) + len(self.needs[1])  # how specific it is

    def fits(self, query: Mapping[str, Any]) -> bool:
        """Whether the query has each literal of the operation's URI."""
        return all(key in query and (not value or query[key] == [value]) for key, value in self.literals.items())

    def missing(self, query: Mapping[str, Any], has_header: Callable[[str], bool]) -> int:
        """How many required members of query and header the request lacks."""
        absent = [name for name in self.needs[0] if name not in query]
        return len(absent) + sum(not has_header(name) for name in self.needs[1])


class Routes:
    """The operations of one path, those with query literals by their first one."""

    __slots__ = ("by_literal", "plain")

    def __init__(self) -> None:
        self.plain: list[Route] = []
        self.by_literal: dict[str, list[Route]] = {}

    def add(self, route: Route) -> None:
        """Puts an operation where `fitting` finds it."""
        if route.literals:
            self.by_literal.setdefault(next(iter(route.literals)), []).append(route)
        else:
            self.plain.append(route)

    def all(self) -> list[Route]:
        return [*self.plain, *(route for routes in self.by_literal.values() for route in routes)]

    def fitting(self, query: Mapping[str, Any]) -> list[Route]:
        """The operations whose query literals the request has."""
        if not self.by_literal or not query:
            return self.plain
        found = [
            route for key in query if key in self.by_literal for route in self.by_literal[key] if route.fits(query)
        ]
        return found + self.plain


class _Node:
    __slots__ = ("greedy", "literal", "routes", "variable")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.variable: _Node | None = None
        self.greedy: dict[tuple[str, ...], Routes] = {}
        self.routes: Routes | None = None


Match = tuple[tuple[int, ...], Routes, list[str]]


class Router:
    """All operations of one service."""

    def __init__(self, operations: Table, shapes: Table) -> None:
        self._trees: dict[str, _Node] = {}
        for name, spec in operations.items():
            self._add(spec["method"], spec["uri"].partition("?")[0], Route(name, spec, shapes))

    def _add(self, method: str, path: str, route: Route) -> None:
        node = self._trees.setdefault(method, _Node())
        parts = path.split("/")[1:]
        for place, part in enumerate(parts):
            if part.endswith("+}"):
                node.greedy.setdefault(tuple(parts[place + 1 :]), Routes()).add(route)
                return
            if part.startswith("{"):
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literal.setdefault(part, _Node())
        node.routes = node.routes or Routes()
        node.routes.add(route)

    def find(self, method: str, segments: list[str]) -> list[Match]:
        """All ways that the segments can be read, the most literal first: (rank, routes, values of the labels)."""
        tree = self._trees.get(method)
        found: list[Match] = []
        if tree is not None:
            _walk(tree, segments, (), [], found)
            if len(found) > 1:
                found.sort(key=lambda match: match[0])
        return found


def _walk(node: _Node, segments: list[str], way: tuple[int, ...], values: list[str], found: list[Match]) -> None:
    """Adds every reading of the segments below a node; `way` is how literal each part of the path was so far."""
    place = len(way)
    if place == len(segments):
        if node.routes is not None:
            found.append((way, node.routes, values))
        return
    part = segments[place]
    literal = node.literal.get(part)
    if literal is not None:
        _walk(literal, segments, (*way, 0), values, found)
    if node.variable is not None and part:
        _walk(node.variable, segments, (*way, 1), [*values, part], found)
    for tail, routes in node.greedy.items():
        end = len(segments) - len(tail)
        if end > place and tuple(segments[end:]) == tail:
            rest = "/".join(segments[place:end])
            if rest:
                found.append(((*way, 99 - len(tail)), routes, [*values, rest]))


def choose(
    matches: list[Match], query: Mapping[str, Any], has_header: Callable[[str], bool], strict: bool, express: bool
) -> tuple[Route, list[str], tuple[int, ...]] | None:
    """The one route that fits best, its labels' values, and how literal its path is (less is more); None where none fits.

    The more literal path wins, then the one whose query literals and required members the request has. `strict`: a path's
    only operation needs them too (S3, where they are what tells operations apart).
    """
    for rank, routes, values in matches:
        fitting = routes.fitting(query)
        if len(fitting) == 1 and not strict:
            return fitting[0], values, rank
        whole = [route for route in fitting if not route.missing(query, has_header)]
        if whole:
            best = max(whole, key=lambda route: (route.weight, route.express == express, not route.deprecated))
            return best, values, rank
    return None
