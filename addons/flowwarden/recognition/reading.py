"""Reads a recognised request's parameters, and from them its actions and resources. Nothing is read before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..types import Action, Call, Request
from . import bodies
from .detect import SIGNATURE_QUERY, Found
from .hosts import Host
from .params import cborbody, jsonbody, querybody, restparts
from .params.values import Malformed
from .refuse import refusal
from .resources import Context, fill
from .services import Op

Params = Mapping[str, Any]


class ReadRequest:
    """One recognised request. `head`: the body is not there yet."""

    __slots__ = ("_found", "_head", "_host", "_op", "_params", "_request")

    def __init__(self, request: Request, host: Host, found: Found, head: bool) -> None:
        assert found.op is not None
        self._request, self._host, self._found, self._head = request, host, found, head
        self._op: Op = found.op
        self._params: Params | None = None

    def params(self) -> Params | None:
        """The parameters, or None where the body that holds them was not read. A Refusal for what the model does not fit."""
        if self._params is None:
            try:
                self._params = self._parse()
            except Malformed as problem:
                raise refusal(_complaint(str(problem)), self._found.protocol, str(problem)) from None
        return self._params

    def _parse(self) -> Params | None:
        protocol, op, found = self._found.protocol, self._op, self._found
        if protocol in {"query", "ec2"}:
            if found.form is None:
                return None
            return querybody.read(found.form, op.input, op.service.shapes, protocol == "ec2")
        if found.rest:
            return self._rest()
        body = None if self._head else bodies.content(self._request, protocol)
        if body is None:
            return None
        if op.input is None:
            return {}
        if protocol == "json":
            return dict(jsonbody.read(jsonbody.parse(body or b"{}"), op.input, op.service.shapes))
        return dict(cborbody.read(cborbody.parse(body), op.input, op.service.shapes))

    def _rest(self) -> Params | None:
        op = self._op
        if op.input is None:
            return {}
        body: bytes | None = b""
        if self._head and self._found.needs_body:
            return None
        if op.body == "whole":
            body = None if self._head else bodies.content(self._request, self._found.protocol)
            if body is None:
                return None
        query = {name: values for name, values in self._found.query.items() if name.lower() not in SIGNATURE_QUERY}
        labels = {**self._found.labels, **self._host_params()}
        xml = self._found.protocol == "rest-xml"
        return restparts.read(op.input, op.service.shapes, labels, query, self._found.fields, body, xml, op.known_queries)

    def _host_params(self) -> dict[str, str]:
        return self._host.params

    def actions(self, call: Call) -> tuple[Action, ...]:
        """The IAM actions of this call: those of the operation, and those that its parameters add."""
        op = self._op
        if not op.when:
            return op.actions
        params = self.params()
        found = dict.fromkeys(op.actions)
        details = op.service.iam["details"]
        for rule in op.when:
            if params is None or _holds(rule, params):
                if rule.get("instead") and params is not None:
                    found = {action: None for action in found if action.name not in rule["instead"]}
                found.update(
                    dict.fromkeys(Action(name, frozenset(details[name]["levels"])) for name in rule["actions"])
                )
        return tuple(found)

    def resources(self, call: Call) -> tuple[str | None, ...]:
        """The ARNs of all actions of this call."""
        params = self.params()
        context = Context(call.partition, call.region, call.account)
        found: dict[str | None, None] = {}
        details = self._op.service.iam["details"]
        for action in call.actions:
            formats = [(arn, required) for arn, required in details[action.name]["arns"]]
            found.update(dict.fromkeys([None] if params is None and formats else fill(formats, params or {}, context)))
        return tuple(found)


def _holds(rule: Mapping[str, Any], params: Params) -> bool:
    """Whether a condition of actions.json holds: the member is there, and has one of the values if the rule names some."""
    value: Any = params
    for part in rule["member"].split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    if "values" in rule:
        return value in rule["values"]
    return value not in (None, "", [], {})


def _complaint(message: str) -> str:
    return "body" if message.startswith("The body") or message.startswith("The form") else "value"
