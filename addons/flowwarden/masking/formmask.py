"""Forms (application/x-www-form-urlencoded): values by the name of their field, and patterns over each."""

from __future__ import annotations

from urllib.parse import quote_plus, unquote_to_bytes

from .globs import Globs
from .jsonmask import Whole
from .values import Run, Values

_NO_SEGMENT = frozenset({"member", "entry"})


def careful(text: bytes, run: Run, fields: Globs[Whole], values: Values) -> bytes | None:
    """The form with its secrets masked, None if there are none."""
    changed = False
    made: list[bytes] = []
    for pair in text.split(b"&"):
        run.budget.tick()
        name, equals, value = pair.partition(b"=")
        masked = _value(name, value, run, fields, values) if value else None
        named = values.mask(unquote_to_bytes(name.replace(b"+", b" ")), run)
        changed = changed or masked is not None or named is not None
        name = name if named is None else quote_plus(named).encode()
        made.append(name + equals + (value if masked is None else quote_plus(masked).encode()))
    return b"&".join(made) if changed else None


def _value(name: bytes, value: bytes, run: Run, fields: Globs[Whole], values: Values) -> bytes | None:
    key = unquote_to_bytes(name.replace(b"+", b" ")).decode("utf-8", "replace")
    plain = unquote_to_bytes(value.replace(b"+", b" "))
    path = tuple(part for part in key.split(".") if part and not part.isdigit() and part not in _NO_SEGMENT)
    whole = fields.match(path) if fields else None
    return run.mask(whole.mask, plain) if whole is not None else values.mask(plain, run, key.encode())
