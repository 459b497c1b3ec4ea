"""What masks in recorded requests stand for: `--secrets F`, a YAML or JSON file of the user's own.

    flows:                                   # one recorded call, by its flow's id or the beginning of it
      3f2a9c01: {SecretString: …}
    operations:                              # every call of an operation
      secretsmanager:CreateSecret: {SecretString: …}
    fields:                                  # a field of any call; globs as in masks.yaml
      "Environment.Variables.*": …
    masks:                                   # a mask as it was recorded, or every mask of a rule; `*`: all that is left
      "[MASKED:api-key:1f3a5c7e9b2d]": …
      github-token: …

The most precise wins: flow, operation, the mask as recorded, field, rule. No value of it is ever printed: what a sandbox
answers has the mask in its place again before anything is compared.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from ..errors import ConfigError
from ..masking.globs import Globs
from .masked import MASK

_PARTS = ("flows", "operations", "fields", "masks")
_SHORT = 4  # characters below which a value is taken for the secret only where it is a whole field
_FORM = "Expected a mapping of " + ", ".join(_PARTS) + "; see docs/replay.md"


class Secrets:
    """Values by place. `Secrets({})` has none."""

    def __init__(self, told: Mapping[str, Any], source: str = "--secrets") -> None:
        """ConfigError for anything but the form above, without a word of what is in it."""
        if not isinstance(told, Mapping) or set(told) - set(_PARTS):
            raise ConfigError(f"{source} is not a file of secrets", _FORM)
        flows, operations = (_mapping(told.get(part), source, part) for part in ("flows", "operations"))
        self._flows = [(name, _globs(fields, source, f"flows, {name}")) for name, fields in flows.items()]
        self._operations = [
            (name, _globs(fields, source, f"operations, {name}")) for name, fields in operations.items()
        ]
        self._fields = _globs(told.get("fields"), source, "fields")
        self._masks = _texts(told.get("masks"), source, "masks")
        found = {value for each in (*flows.values(), *operations.values()) for value in each.values()}
        found |= set(_texts(told.get("fields"), source, "fields").values()) | set(self._masks.values())
        self._forms = dict(form for value in found for form in _forms(value))

    @classmethod
    def load(cls, file: Path) -> Secrets:
        """ConfigError if the file cannot be read."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            told = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"--secrets {file}: {error.strerror}") from None
        except (YAMLError, UnicodeDecodeError) as error:  # what it quotes could be a secret
            at = getattr(error, "problem_mark", None)
            raise ConfigError(
                f"--secrets {file} is neither YAML nor JSON" + (f", line {at.line + 1}" if at else "")
            ) from None
        return cls(told or {}, f"--secrets {file}")

    def value(self, flow: str, operation: str, path: tuple[str, ...], mask: str) -> str | None:
        """What a mask at a place stands for; None if nobody has said."""
        for name, fields in self._flows:
            if flow.startswith(name) and (found := fields.match(path)) is not None:
                return found
        for name, fields in self._operations:
            if fnmatchcase(operation, name) and (found := fields.match(path)) is not None:
                return found
        if mask in self._masks:
            return self._masks[mask]
        if (found := self._fields.match(path)) is not None:
            return found
        rule = mask.strip("[]").rstrip("*").split(":")[1:2]
        return self._masks.get(rule[0] if rule else "", self._masks.get("*"))

    def hidden(self, value: Any) -> Any:
        """A structure, or a text, with a mask in the place of every value of this file."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return self._hidden(value)
        if isinstance(value, bytes):
            return self._hidden(value.decode("latin-1")).encode("latin-1", "replace")
        if isinstance(value, dict):
            return {name: self.hidden(item) for name, item in value.items()}
        return [self.hidden(item) for item in value] if isinstance(value, list) else value

    def _hidden(self, text: str) -> str:
        if text in self._forms:
            return "[MASKED]"
        for form in sorted(self._forms, key=len, reverse=True):
            if len(form) >= _SHORT and form in text:
                text = text.replace(form, "[MASKED]")
        return text


def _forms(value: str) -> Iterator[tuple[str, None]]:
    """A value as it may stand in an answer or an error: plain, UTF-8 read as Latin-1, in JSON, XML, a URL, base64."""
    data = value.encode("utf-8", "replace")
    for form in (
        value, data.decode("latin-1"), repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1],
        escape(value), quote(value, safe=""), quote(value), base64.b64encode(data).decode(),
    ):  # fmt: skip
        if form:
            yield form, None


def _mapping(told: Any, source: str, part: str) -> dict[str, dict[str, str]]:
    if told is None:
        return {}
    if not isinstance(told, Mapping):
        raise ConfigError(f"{source}: {part} has to be a mapping", _FORM)
    return {str(name): _texts(fields, source, f"{part}, {name}") for name, fields in told.items()}


def _texts(told: Any, source: str, part: str) -> dict[str, str]:
    if told is None:
        return {}
    if not isinstance(told, Mapping) or not all(isinstance(value, str) for value in told.values()):
        raise ConfigError(f"{source}: {part} has to be a mapping of names to texts", "Numbers need quotes")
    if "mask" in part and (
        odd := [name for name in told if str(name).startswith("[") and not MASK.fullmatch(str(name))]
    ):
        raise ConfigError(f"{source}: {odd[0]} is not a mask", "Write it as the recording has it")
    return {str(name): str(value) for name, value in told.items()}


def _globs(told: Any, source: str, part: str) -> Globs[str]:
    return Globs((("**" if name == "*" else name), value) for name, value in _texts(told, source, part).items())
