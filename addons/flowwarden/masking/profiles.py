"""What is special about one operation's answers (or requests): its secret members, the rules that name it, its columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import re2

from ..types import Call
from . import members
from .globs import Globs
from .jsonmask import Whole
from .model import Mask
from .searcher import options

_OBJECTS = frozenset({"GetObject"})


@dataclass(slots=True)
class Plan:
    """What to do with one side of an operation. `names` finds the members' names in a raw text (None: there are none)."""

    fields: Globs[Whole]
    names: Any
    off: frozenset[str]
    columns: tuple[Mask, ...]
    column_names: Any = None  # finds the columns' names in a raw text
    is_object: bool = False
    object_fields: Globs[Whole] = field(default_factory=lambda: Globs(()))  # those that hold in S3 objects
    members: Mask | None = None


class Profiles:
    """Makes plans from masks, one for each operation and side, and keeps them."""

    def __init__(self, masks: Sequence[Mask]) -> None:
        self._masks = masks
        self._plans: dict[tuple[str, str, tuple[str, ...], str], Plan] = {}

    @cached_property
    def everywhere(self) -> Globs[Whole]:
        """The fields of masks that name no action: for JSON inside values too."""
        return Globs([(glob, Whole(mask)) for mask in self._masks if not mask.actions for glob in mask.fields])

    def plan(self, call: Call, side: Literal["input", "output"]) -> Plan:
        """The plan for a call's side."""
        operation = call.operation
        service, name = (operation.service, operation.name) if operation else ("", "")
        key = (service, name, tuple(action.name for action in call.actions), side)
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) > 20_000:
                self._plans.clear()
            found = self._plans[key] = self._make(service, name, key[2], side)
        return found

    def _make(self, service: str, name: str, actions: tuple[str, ...], side: Literal["input", "output"]) -> Plan:
        here = [mask for mask in self._masks if _holds(mask, service, name, actions)]
        globs: list[tuple[str, Whole]] = []
        words: set[str] = set()
        for mask in here:
            if mask.members and service:
                for member in members.of(service, name, side, mask.members):
                    globs.append((member.path, Whole(mask, member.blob)))
                    words.add(_word(member.path))
        globs += [(glob, Whole(mask)) for mask in here for glob in mask.fields]
        words |= {_word(glob) for mask in here if mask.actions for glob in mask.fields}
        return Plan(
            fields=Globs(globs),
            names=_finder(words),
            off=frozenset(mask.id for mask in self._masks if mask not in here),
            columns=tuple(mask for mask in here if mask.columns),
            column_names=_finder({glob for mask in here for glob in mask.columns}),
            members=next((mask for mask in here if mask.members == "secret"), None),
            object_fields=Globs([(glob, Whole(mask)) for mask in here if mask.object_fields for glob in mask.fields]),
            is_object=service == "s3" and name in _OBJECTS,
        )


def _holds(mask: Mask, service: str, name: str, actions: tuple[str, ...]) -> bool:
    if not mask.actions:
        return True
    asked = (*actions, f"{service}:{name}")
    return any(
        re.fullmatch(re.escape(glob).replace(r"\*", ".*").replace(r"\?", "."), action, re.I)
        for glob in mask.actions
        for action in asked
    )


def _word(path: str) -> str:
    """A segment that occurs wherever the path does: the longest, because it occurs least elsewhere."""
    return max((part for part in path.removeprefix("$.").split(".") if part.strip("*?")), key=len, default="*")


def _finder(words: set[str]) -> Any:
    if not words:
        return None
    joined = "|".join(
        sorted("".join(r"[^\"<>]*" if c == "*" else "." if c == "?" else re.escape(c) for c in word) for word in words)
    )
    return re2.compile(rb'(?i)["<:](?:' + joined.encode() + rb')["\s>/]', options(64 << 20, False))
