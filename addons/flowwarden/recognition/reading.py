"""Reads a recognised request's parameters, and from them its actions and resources. Nothing is read before it is asked for."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from ..types import Action, Call, Request
from . import bodies, conditions, s3arns
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
        parsed = jsonbody.parse(body or b"{}") if protocol == "json" else cborbody.parse(body)
        if op.input is None:
            if parsed not in ({}, None):
                raise Malformed("The body of this operation has to be empty")
            return {}
        read = jsonbody.read if protocol == "json" else cborbody.read
        return dict(read(parsed, op.input, op.service.shapes))

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
        labels = {**self._found.labels, **self._host.params}
        xml = self._found.protocol == "rest-xml"
        parts = restparts.Parts(labels, query, self._found.fields, body, op.known_queries)
        found = restparts.read(op.input, op.service.shapes, parts, xml)
        for name, value in self._host.params.items():
            if name in op.service.shapes[op.input]["members"]:
                found.setdefault(name, value)
        return found

    def actions(self, call: Call) -> tuple[Action, ...]:
        """The IAM actions of this call: those of the operation, and those that its parameters and its endpoint add."""
        op = self._op
        names: list[str] = [action.name for action in op.actions]
        if op.when:
            params = self.params()
            if params is None:
                names += [name for rule in op.when if "each" not in rule for name in rule["actions"]]
            else:
                more, instead = conditions.added(op.when, params)
                names = more if instead else names + more
        names += self._elsewhere(names)
        if len(names) == len(op.actions):
            return op.actions
        return tuple(op.service.action(name) for name in dict.fromkeys(names))

    def _elsewhere(self, names: list[str]) -> list[str]:
        """The same actions in the words of directory buckets, Outposts and Object Lambda, where the call goes there."""
        other = self._op.service.iam["variants"].get(self._found.signing_name)
        if not other:
            return []
        found = [other[name] for name in names if name in other]
        if self._host.kind == "express" and "s3:CreateSession" not in names:
            found.append("s3express:CreateSession")
        return found

    def resources(self, call: Call) -> tuple[str | None, ...]:
        """The ARNs of all actions of this call."""
        params = self.params()
        op = self._op
        context = Context(call.partition, call.region, call.account, _noun(op.operation.name), op.service.iam["names"])
        found: dict[str | None, None] = {}
        for action in call.actions:
            found.update(dict.fromkeys(self._arns(action.name, params, context)))
        return tuple(found)

    def _arns(self, action: str, params: Params | None, context: Context) -> list[str | None]:
        formats = self._op.service.arns(action)
        if params is None:
            return [None] if formats else ["*"]
        if action == "iam:PassRole":
            return self._roles(params, context)
        if self._op.service.name == "secretsmanager" and params.get("SecretId", ""):
            return [_secret(arn) for arn in fill(formats, params, context)]
        if self._op.service.name in {"s3", "s3control"} and action.startswith("s3"):
            return s3arns.fill(action, formats, params, context)
        return fill(formats, params, context)

    def _roles(self, params: Params, context: Context) -> list[str | None]:
        paths = [path for rule in self._op.when if "roles" in rule for path in rule["roles"]]
        found: list[str | None] = []
        for name in conditions.roles(paths, params):
            if conditions.PROFILE in name:
                found.append(None)
            elif name.startswith("arn:"):
                found.append(name)
            else:
                found.append(f"arn:{context.partition}:iam::{context.account}:role/{name}" if context.account else None)
        return found or [None]


def _secret(arn: str | None) -> str | None:
    """A secret named without its ARN's six random characters has six unknown ones.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/auth-and-access_examples.html
    """
    return arn if arn is None or _SUFFIX.search(arn) else f"{arn}-??????"


_SUFFIX = re.compile(r":secret:.+-[A-Za-z0-9]{6}$")
_NOUN = re.compile(r"^[A-Z][a-z0-9]+(?=[A-Z])")


@functools.lru_cache(8192)
def _noun(operation: str) -> str:
    return _NOUN.sub("", operation)


def _complaint(message: str) -> str:
    return "body" if message.startswith("The body") or message.startswith("The form") else "value"
