"""A service as recognition uses it: its operations by target, name, and path, ready to be looked up."""

from __future__ import annotations

from typing import Any

from ..types import Action, BodyMode, Operation
from .rest import Router

Table = dict[str, Any]


class Op:
    """One operation, with what does not depend on the request worked out beforehand."""

    __slots__ = (
        "actions", "body", "express", "headers", "input", "known_queries", "literals", "method", "operation", "prefix", "service",
        "unsigned", "uri", "when",
    )  # fmt: skip

    def __init__(self, service: Service, name: str, spec: Table, iam: Table) -> None:
        self.service = service
        self.operation = Operation(service.name, name)
        self.method: str = spec["method"]
        self.uri: str = spec["uri"]
        self.body: BodyMode = spec["body"]
        self.input: str | None = spec.get("input")
        self.prefix: str = spec.get("prefix", "")
        self.unsigned: bool = spec.get("unsigned", False)
        self.express: bool = spec.get("express", False)
        self.actions = tuple(service.action(action) for action in iam["operations"][name])
        members = service.shapes[self.input]["members"] if self.input else {}
        self.known_queries = frozenset(
            spec.get("locationName", member)
            for member, spec in members.items()
            if spec.get("location") == "querystring"
        )
        self.headers = frozenset(
            spec.get("locationName", member).lower()
            for member, spec in members.items()
            if spec.get("location") == "header"
        )
        literals = (piece.partition("=") for piece in self.uri.partition("?")[2].split("&") if piece)
        self.literals = {key: value for key, _, value in literals}
        self.when: list[Table] = iam["when"].get(name, [])


class Service:
    """One service of botocore's, from its table."""

    def __init__(self, table: Table) -> None:
        self.name: str = table["service"]
        self.version: str = table["version"]
        self.protocols: tuple[str, ...] = tuple(table["protocols"])
        self.json_version: str = table["json_version"]
        self.target: str = table["target"]
        self.signing: str = table["signing"]
        self.shapes: Table = table["shapes"]
        self.iam: Table = table["iam"]
        self._specs: Table = table["operations"]
        self._actions: dict[str, Action] = {}
        self._ops: dict[str, Op] = {}
        self.rest = next((protocol for protocol in self.protocols if protocol.startswith("rest-")), "")
        self.form = next((protocol for protocol in self.protocols if protocol in {"query", "ec2"}), "")
        self.router = Router(self._specs, self.shapes) if self.rest else None

    def op(self, name: str) -> Op | None:
        """An operation by its exact name."""
        found = self._ops.get(name)
        if found is None and name in self._specs:
            found = self._ops[name] = Op(self, name, self._specs[name], self.iam)
        return found

    def action(self, name: str) -> Action:
        """An IAM action of this service's table, with its access levels."""
        found = self._actions.get(name)
        if found is None:
            levels = self.iam["details"].get(name, {}).get("levels", ())
            found = self._actions[name] = Action(name, frozenset(levels))
        return found

    def arns(self, action: str) -> list[tuple[str, bool]]:
        """ARN formats of an action, and whether each is required. One empty format stands for an action that nobody knows."""
        found = self.iam["details"].get(action)
        return [(arn, required) for arn, required in found["arns"]] if found else [("", True)]

    def by_target(self, target: str) -> Op | None:
        """The operation of an `X-Amz-Target`. Prefixes may hold dots, so it is compared whole."""
        prefix, _, name = target.rpartition(".")
        return self.op(name) if prefix == self.target and "json" in self.protocols else None

    @property
    def names(self) -> list[str]:
        return list(self._specs)
