"""Where AWS calls carry SQL and shell: the operations, and the parameters that hold it."""

from __future__ import annotations

from collections.abc import Mapping

from ..types import Call

SQL: Mapping[str, tuple[str, ...]] = {}
SHELL: Mapping[str, tuple[str, ...]] = {}


def carries(call: Call, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The parameter paths in which a call carries statements; empty where it carries none."""
    return table.get(str(call.operation), ()) if call.operation else ()
