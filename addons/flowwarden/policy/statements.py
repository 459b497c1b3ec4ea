"""Where AWS calls carry SQL and shell: the operations, the parameters that hold it, and the dialects it may be in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..types import Call
from .params import UNREAD, select


@dataclass(frozen=True)
class Carrier:
    """The parameter paths that hold statements, and how an engine behind the call may read them."""

    paths: tuple[str, ...]
    dialects: tuple[str, ...] = ()


# Which engine a cluster runs is not in the call, so each engine of the service counts. Redshift and Hive take a backslash
# as an escape, PostgreSQL and Trino do not.
_AURORA = ("mysql", "postgres")
_REDSHIFT = ("redshift", "postgres")
_ATHENA = ("athena", "trino", "hive")
_PARTIQL = ("partiql",)

SQL: Mapping[str, Carrier] = {
    "rds-data:ExecuteStatement": Carrier(("sql",), _AURORA),
    "rds-data:BatchExecuteStatement": Carrier(("sql",), _AURORA),
    "rds-data:ExecuteSql": Carrier(("sqlStatements",), _AURORA),
    "redshift-data:ExecuteStatement": Carrier(("Sql",), _REDSHIFT),
    "redshift-data:BatchExecuteStatement": Carrier(("Sqls",), _REDSHIFT),
    "athena:StartQueryExecution": Carrier(("QueryString",), _ATHENA),
    "athena:CreateNamedQuery": Carrier(("QueryString",), _ATHENA),
    "athena:UpdateNamedQuery": Carrier(("QueryString",), _ATHENA),
    "athena:CreatePreparedStatement": Carrier(("QueryStatement",), _ATHENA),
    "athena:UpdatePreparedStatement": Carrier(("QueryStatement",), _ATHENA),
    "dynamodb:ExecuteStatement": Carrier(("Statement",), _PARTIQL),
    "dynamodb:BatchExecuteStatement": Carrier(("Statements.Statement",), _PARTIQL),
    "dynamodb:ExecuteTransaction": Carrier(("TransactStatements.Statement",), _PARTIQL),
}

_SCRIPTS = ("Parameters.commands", "Parameters.Commands", "Parameters.command", "Parameters.runCommand")
SHELL: Mapping[str, Carrier] = {
    "ssm:SendCommand": Carrier(_SCRIPTS),
    "ssm:CreateAssociation": Carrier(_SCRIPTS),
    "ssm:UpdateAssociation": Carrier(_SCRIPTS),
    "ssm:StartSession": Carrier(_SCRIPTS),
    "ecs:ExecuteCommand": Carrier(("command",)),
}


def texts(call: Call, carrier: Carrier) -> list[str] | None:
    """The statements of a call; None where they were not read or are not text."""
    if call.params is None:
        return None
    found: list[Any] = [value for path in carrier.paths for value in select(call.params, tuple(path.split(".")))]
    if not found or any(value is UNREAD or not isinstance(value, str) for value in found):
        return None
    return found
