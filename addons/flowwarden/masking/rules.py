"""rules/masks.yaml: read, checked, and made into maskers. A broken or catastrophic pattern never gets past here."""

from __future__ import annotations

import hashlib
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import re2
import regex

from .. import yamlfile
from ..errors import Refusal, RuleError
from . import pumps
from .checks import CHECKS
from .model import Mask
from .patterns import Patterns, catastrophic
from .searcher import options
from .statements import Statements

if TYPE_CHECKING:
    from .masker import Masker

INCLUDED = Path(__file__).parent
KEY = regex.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PII_CHECKS = frozenset({"luhn", "iban", "ssn", "phone"})
_UNBOUNDED_LIMIT = 4096
_MOST_LIMIT = 64 << 10
_UNBOUNDED = 1 << 30
_checked: set[bytes] = set()  # patterns that stood the tests in this process


class MaskRules:
    """The masks of one file and what it includes. `digest` is over all bytes read; `warnings` are for `rules check`."""

    def __init__(self, masks: Sequence[Mask], digest: str, opaque: str, tests: list[yamlfile.Section]) -> None:
        self.masks = tuple(masks)
        self.digest = digest
        self.opaque_deny = opaque == "deny"
        self.tests = tests
        self.warnings = [
            f"{mask.file}:{mask.line}: {mask.id}: the pattern has no bound, a match is limited to {mask.limit} bytes in streams"
            for mask in masks
            if mask.pattern and not mask.bounded
        ]
        self._statements = Statements()
        self._maskers: dict[tuple[str, ...], Masker] = {}

    def active(self, groups: frozenset[str]) -> tuple[Mask, ...]:
        """The masks that hold for members of these groups."""
        return tuple(mask for mask in self.masks if mask.groups is None or mask.groups & groups)

    def for_groups(self, groups: frozenset[str]) -> Masker:
        """The masker for these groups; the same object for groups that get the same masks."""
        from .masker import Masker

        active = self.active(groups)
        key = tuple(mask.id for mask in active)
        found = self._maskers.get(key)
        if found is None:
            found = self._maskers[key] = Masker(active, opaque_deny=self.opaque_deny, statements=self._statements)
        return found


def load(path: Path) -> MaskRules:
    """Reads a mask file. RuleError, with file and line, for anything wrong; the pattern set sings its canary."""
    digest = hashlib.sha256()
    section = _read(path, digest)
    masks: dict[str, Mask] = {}
    for name in section.texts("include", ()):
        included = INCLUDED / f"{name}.yaml"
        if not KEY.fullmatch(name) or not included.is_file():
            known = ", ".join(sorted(found.stem for found in INCLUDED.glob("*.yaml")))
            raise section.error(f"there is no set of masks called {name!r}", "include", f"Known: {known}")
        for mask in _masks(_read(included, digest)):
            masks[mask.id] = mask
    own = _masks(section)
    masks.update({mask.id: mask for mask in own})
    opaque = section.choice("opaque", ("allow", "deny"), "allow")
    tests = section.sections("tests", ())
    section.finish()
    if not masks:
        raise section.error(
            "there is no mask in this file", hint="An answer nobody masks is `mask: off` in policy.yaml"
        )
    _sing(list(masks.values()), str(path))
    return MaskRules(list(masks.values()), digest.hexdigest(), opaque, tests)


def _read(path: Path, digest: Any) -> yamlfile.Section:
    section = yamlfile.load(path)
    digest.update(path.read_bytes() + b"\0")
    return section


def _sing(masks: list[Mask], file: str) -> None:
    try:
        Patterns([mask for mask in masks if mask.pattern])
    except (Refusal, re2.error) as error:
        raise RuleError(f"the patterns do not work together: {error}", file) from None


def _masks(section: yamlfile.Section) -> list[Mask]:
    found: dict[str, Mask] = {}
    for entry in section.sections("masks", ()):
        mask = _mask(entry)
        if mask.id in found:
            raise entry.error(f"two masks are called {mask.id!r}", "id")
        found[mask.id] = mask
    return list(found.values())


def _mask(entry: yamlfile.Section) -> Mask:
    name = entry.text("id")
    if not KEY.fullmatch(name):
        raise entry.error(f"{name!r} is no mask id: letters, digits, dot, dash and underscore, 64 at most", "id")
    entry.where = f"mask {name!r}"
    check = entry.choice("check", tuple(CHECKS), "") if "check" in entry else ""
    kind = entry.choice("kind", ("secret", "pii"), "pii" if check in _PII_CHECKS else "secret")
    replace = entry.choice("replace", ("redact", "hash", "partial"), "redact")
    if replace == "hash" and kind == "pii":
        raise entry.error("`replace: hash` on personal data would tell the agent which values are equal", "replace")
    pattern = entry.text("pattern", "")
    keywords = tuple(word.encode() for word in entry.texts("keywords", ()))
    engine, bounded, longest = _pattern(entry, pattern, keywords) if pattern else ("re2", True, 0)
    limit = entry.integer("limit", min(longest, _UNBOUNDED_LIMIT) if not bounded else longest)
    if not 0 <= limit <= _MOST_LIMIT:
        raise entry.error(f"`limit` has to be at most {_MOST_LIMIT} bytes", "limit")
    mask = Mask(
        id=name,
        groups=frozenset(entry.texts("groups")) if "groups" in entry else None,
        fields=_globs(entry, "fields"),
        columns=_globs(entry, "columns"),
        actions=_globs(entry, "actions"),
        pattern=pattern.encode(),
        keywords=keywords,
        replace=cast(Any, replace),
        opaque=cast(Any, entry.choice("opaque", ("allow", "deny"), "allow")),
        kind=cast(Any, kind),
        objects=entry.choice("objects", ("on", "off"), "off" if kind == "pii" else "on") == "on",
        object_fields="objects" in entry and entry.choice("objects", ("on", "off"), "off") == "on",
        check=check,
        entropy=_entropy(entry),
        limit=limit,
        bounded=bounded,
        engine=cast(Any, engine),
        members=cast(Any, entry.choice("members", ("secret", "sensitive"), "") if "members" in entry else ""),
        hits=entry.texts("hits", ()),
        misses=entry.texts("misses", ()),
        file=entry.file,
        line=entry.line(),
    )
    if not (mask.pattern or mask.fields or mask.columns or mask.members):
        raise entry.error(f"mask {name!r} needs a pattern, fields, columns or members")
    entry.finish()
    return mask


def _globs(entry: yamlfile.Section, key: str) -> tuple[str, ...]:
    found = entry.texts(key, ())
    if any(not glob.strip() or len(glob) > 200 for glob in found) or (key in entry and not found):
        raise entry.error(f"{key!r} has to name something", key)
    return found


def _entropy(entry: yamlfile.Section) -> float:
    found = entry.value("entropy", 0.0)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 8:
        raise entry.error("'entropy' has to be a number of bits from 0 to 8", "entropy")
    return float(found)


def _pattern(entry: yamlfile.Section, text: str, keywords: tuple[bytes, ...]) -> tuple[str, bool, int]:
    """(engine, whether a match has a bound, longest match in bytes) of a pattern; RuleError if it must not be used."""
    pattern = text.encode()
    engine = "re2"
    try:
        compiled = re2.compile(pattern, options(64 << 20, True))
        groups, empty = compiled.groups, compiled.search(b"") is not None
    except re2.error as error:
        try:
            fallback = regex.compile(pattern)
        except (regex.error, RecursionError, OverflowError, ValueError):
            reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
            raise entry.error(f"the pattern is broken: {reason}", "pattern") from None
        if not keywords:
            raise entry.error(
                "the pattern needs a backtracking engine (look-around or a back-reference), so it needs keywords",
                "pattern",
            ) from None
        engine, groups, empty = "regex", fallback.groups, fallback.search(b"") is not None
    if groups > 1:
        raise entry.error("the pattern has more than one group: use (?:…) for all but the secret itself", "pattern")
    if empty:
        raise entry.error("the pattern matches the empty text", "pattern")
    _not_catastrophic(entry, pattern)
    longest = _width(text)
    return engine, longest < _UNBOUNDED, min(longest, _MOST_LIMIT)


def _not_catastrophic(entry: yamlfile.Section, pattern: bytes) -> None:
    if pattern in _checked:
        return
    try:
        bad = catastrophic(pattern, pumps.texts(pattern))
    except (regex.error, ValueError):
        bad = False  # re2 syntax that no backtracking engine will ever run
    if bad:
        raise entry.error("the pattern is catastrophic: its repeats make a search take for ever", "pattern")
    _checked.add(pattern)


@lru_cache(maxsize=2048)
def _width(text: str) -> int:
    try:
        return int(parser.parse(text).getwidth()[1])
    except (parser.error, RecursionError, OverflowError):
        return _UNBOUNDED
