"""Whether the parameters that a rule names exist: a misspelt one in a deny would be a hole that nobody sees."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from .conditions import Actions
from .overlap import reach
from .params import Param
from .rule import Rule

if TYPE_CHECKING:
    from ..recognition.recogniser import Recogniser
    from ..recognition.services import Service

# IAM's prefix -> botocore's services, where the names differ. What is not here and has another name is not checked.
_SERVICES = {
    "cloudwatch": ("cloudwatch",),
    "elasticloadbalancing": ("elb", "elbv2"),
    "states": ("stepfunctions",),
    "ses": ("ses", "sesv2"),
    "elasticfilesystem": ("efs",),
    "elasticmapreduce": ("emr",),
    "rds": ("rds", "docdb", "neptune"),
    "s3": ("s3", "s3control"),
    "bedrock": ("bedrock", "bedrock-runtime", "bedrock-agent", "bedrock-agent-runtime"),
    "es": ("es", "opensearch"),
    "execute-api": (),
}


@cache
def _recogniser() -> Recogniser:
    from ..recognition.recogniser import Recogniser

    return Recogniser()


def unknown(rule: Rule) -> Iterator[str]:
    """A sentence for each parameter that no operation of the rule's actions has."""
    actions = next((each for each in rule.conditions if isinstance(each, Actions)), None)
    params = [each for each in rule.conditions if isinstance(each, Param)]
    if actions is None or actions.include is None or not params:
        return
    inputs = list(_inputs(reach(actions, rule.effect == "allow")))
    for param in params if inputs else ():
        missing = [found for service, shape in inputs if (found := _missing(service, shape, param.path)) is not None]
        if len(missing) == len(inputs):
            known = {name.lower(): name for _, names in missing for name in names}
            close = difflib.get_close_matches(missing[0][0].lower(), known, n=1)
            hint = f" Did you mean {known[close[0]]!r}?" if close else ""
            yield f"no operation of its actions has the parameter {'.'.join(param.path)!r}.{hint}"


def _inputs(names: Iterable[str]) -> Iterator[tuple[Service, str]]:
    """The input shapes of all operations that need one of these actions."""
    wanted = {name.lower() for name in names}
    for prefix in sorted({name.partition(":")[0] for name in wanted}):
        for name in _SERVICES.get(prefix, (prefix,)):
            try:
                service = _recogniser().service(name)
            except KeyError:
                continue
            for operation in service.names:
                op = service.op(operation)
                needed = {action.name.lower() for action in op.actions} if op else set()
                needed |= {each.lower() for rule in (op.when if op else ()) for each in rule["actions"]}
                if op and op.input and needed & wanted:
                    yield service, op.input


def _missing(service: Service, shape: str, path: tuple[str, ...]) -> tuple[str, list[str]] | None:
    """The first segment that a shape does not have, and the names that it has instead; None if it may have them all."""
    for segment in path:
        found: dict[str, Any] = service.shapes.get(shape, {})
        while found.get("type") == "list":
            found = service.shapes.get(found["member"]["shape"], {})
        if found.get("type") == "map":
            shape = found["value"]["shape"]
        elif found.get("type") != "structure" or found.get("document"):
            return None  # a text that may hold JSON, or a document: anything may be inside
        elif segment == "*":
            return None
        elif segment in found["members"]:
            shape = found["members"][segment]["shape"]
        else:
            return segment, list(found["members"])
    return None
