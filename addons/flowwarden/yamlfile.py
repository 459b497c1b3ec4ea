"""Rule files: YAML read with line numbers, so that every error says file, line and what was expected there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from .errors import RuleError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MISSING = object()


def seconds(text: str) -> float:
    """`25s`, `15m`, `1h30m`, `90d` as seconds; ValueError for anything else."""
    compact = text.replace(" ", "")
    if not compact or _DURATION.sub("", compact):
        raise ValueError(f"{text!r} is not a duration such as 25s, 15m, 12h or 90d")
    return sum(float(amount) * _UNITS[unit] for amount, unit in _DURATION.findall(compact))


class Section:
    """A mapping of a rule file whose readers check types. Call `finish()` when all keys were read: it refuses the rest."""

    def __init__(self, data: CommentedMap, file: str, where: str = "") -> None:
        self.data = data
        self.file = file
        self.where = where
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def line(self, key: str | None = None) -> int:
        """The line (from 1) of a key, or of the section itself."""
        try:
            at = self.data.lc.line if key is None else self.data.lc.key(key)[0]
        except (KeyError, AttributeError, TypeError):
            return 0
        return int(at) + 1

    def error(self, message: str, key: str | None = None, hint: str = "") -> RuleError:
        """A RuleError that points at a key of this section."""
        return RuleError(message, self.file, self.line(key if key in self.data else None), hint)

    def value(self, key: str, default: Any = _MISSING) -> Any:
        """A value of any type; RuleError if it is missing and there is no default."""
        self._read.add(key)
        if key not in self.data:
            if default is _MISSING:
                raise self.error(f"{self.where or 'this file'} needs {key!r}")
            return default
        return self.data[key]

    def _typed(self, key: str, kinds: type | tuple[type, ...], expected: str, default: Any) -> Any:
        found = self.value(key, default)
        if key in self.data and (not isinstance(found, kinds) or (isinstance(found, bool) and kinds is not bool)):
            raise self.error(f"{key!r} has to be {expected}, not {_short(found)}", key)
        return found

    def text(self, key: str, default: Any = _MISSING) -> str:
        return str(self._typed(key, str, "text", default))

    def flag(self, key: str, default: Any = _MISSING) -> bool:
        return bool(self._typed(key, bool, "true or false", default))

    def integer(self, key: str, default: Any = _MISSING) -> int:
        return int(self._typed(key, int, "a whole number", default))

    def duration(self, key: str, default: str | object = _MISSING) -> float:
        """A duration in seconds."""
        found = self.value(key, default)
        try:
            return seconds(str(found))
        except ValueError as error:
            raise self.error(f"{key!r}: {error}", key) from None

    def choice(self, key: str, options: tuple[str, ...], default: Any = _MISSING) -> str:
        found = self.value(key, default)
        if isinstance(found, bool) and {"on", "off"} & set(options):
            found = "on" if found else "off"  # YAML reads a bare `off` as false
        if found not in options:
            raise self.error(
                f"{key!r} has to be one of {', '.join(options)}, not {_short(found)}", key, _meant(str(found), options)
            )
        return str(found)

    def texts(self, key: str, default: Any = _MISSING) -> tuple[str, ...]:
        """A list of texts; one text alone counts as a list of one."""
        found = self.value(key, default)
        if key not in self.data:
            return tuple(found)
        items = [found] if isinstance(found, str) else found
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self.error(f"{key!r} has to be a list of texts, not {_short(found)}", key)
        return tuple(str(item) for item in items)

    def section(self, key: str, default: Any = _MISSING) -> Section:
        found = self.value(key, CommentedMap() if default is not _MISSING else _MISSING)
        if not isinstance(found, CommentedMap):
            raise self.error(f"{key!r} has to be a mapping, not {_short(found)}", key)
        return Section(found, self.file, key)

    def sections(self, key: str, default: Any = _MISSING) -> list[Section]:
        """A list of mappings."""
        found = self.value(key, CommentedSeq() if default is not _MISSING else _MISSING)
        if found is None:
            return []
        if not isinstance(found, CommentedSeq) or not all(isinstance(item, CommentedMap) for item in found):
            raise self.error(f"{key!r} has to be a list of mappings, not {_short(found)}", key)
        return [Section(item, self.file, f"an entry of {key!r}") for item in found]

    def keys(self) -> Iterator[str]:
        return iter([str(key) for key in self.data])

    def finish(self) -> None:
        """RuleError for the first key that nothing has read."""
        for key in self.data:
            if key not in self._read:
                raise self.error(
                    f"unknown key {str(key)!r} in {self.where or 'this file'}", key, _meant(str(key), self._read)
                )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _meant(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known))}." if known else ""


def load(path: Path) -> Section:
    """Reads a rule file whose top level is a mapping (an empty file is an empty mapping)."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RuleError(
            "the file does not exist", str(path), hint="`flowwarden init` writes one to start from"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"cannot be read: {error}", str(path)) from None
    yaml = YAML(typ="rt")
    yaml.allow_duplicate_keys = False
    try:
        data = yaml.load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = str(error.problem or error).split("\n", 1)[0]
        raise RuleError(f"not valid YAML: {problem}", str(path), line) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise RuleError(f"not valid YAML: {str(error).splitlines()[0]}", str(path)) from None
    if data is None:
        data = CommentedMap()
    if not isinstance(data, CommentedMap):
        raise RuleError(f"has to be a mapping at the top level, not a {type(data).__name__}", str(path), 1)
    return Section(data, str(path))
