"""Lints a mask file and runs the examples that stand in it: for `flowwarden rules check` and `rules test`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import FlowwardenError, RuleError
from ..types import Action, Call, Operation
from ..yamlfile import Section
from . import examples, rules
from .model import Mask
from .patterns import Finder
from .rules import MaskRules

_ROUNDS = 3  # fillings of each example
_SHIPPED = Path(__file__).parent  # with token shapes whose bounds nobody needs to be told


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a mask file. `error` stops the gateway from starting, `warning` does not."""

    level: Literal["error", "warning"]
    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class Result:
    """One example: which mask, where, whether it did what is written, and what it did instead."""

    mask: str
    file: str
    line: int
    ok: bool
    message: str = ""


def check(path: Path) -> list[Finding]:
    """What is wrong with a mask file, and what its author should know. Empty: nothing."""
    try:
        loaded = rules.load(path)
    except RuleError as error:
        return [
            Finding(
                "error", error.file or str(path), error.line, error.message.removeprefix(f"{error.file}:{error.line}: ")
            )
        ]
    return [Finding("warning", mask.file, mask.line, message) for mask in loaded.masks for message in _doubts(mask)]


def _doubts(mask: Mask) -> Iterator[str]:
    if mask.pattern and not mask.bounded and Path(mask.file).parent != _SHIPPED:
        yield f"{mask.id}: the pattern has no bound: in streams a match is limited to {mask.limit} bytes"
    if mask.pattern and not (mask.hits and mask.misses):
        yield f"{mask.id}: no examples: write `hits:` and `misses:` beside the pattern"
    if (
        mask.pattern
        and not mask.keywords
        and mask.file.endswith("masks.yaml")
        and len(mask.pattern) < 12
        and not mask.check
    ):
        yield f"{mask.id}: a short pattern without keywords or check will hide what is no secret"
    words = [word.decode("utf-8", "replace") for word in mask.keywords]
    folded = mask.pattern.startswith(b"(?i)") or mask.engine == "regex"
    for hit in mask.hits:
        if words and not any(word in hit or (folded and word.lower() in hit.lower()) for word in words):
            yield f"{mask.id}: the example {hit[:40]!r} has none of the keywords"
    if mask.groups is not None and not mask.groups:
        yield f"{mask.id}: holds for nobody (`groups: []`)"


def run_tests(path: Path, seed: int = 20) -> list[Result]:
    """Runs every `hits`, `misses` and `tests` entry of a mask file and what it includes. RuleError if it does not load."""
    loaded = rules.load(path)
    rng = random.Random(seed)
    results = [result for mask in loaded.masks if mask.pattern for result in _examples(mask, rng)]
    return results + [_test(loaded, section, rng) for section in loaded.tests]


def _examples(mask: Mask, rng: random.Random) -> Iterator[Result]:
    finder = Finder(mask)
    for wanted, templates in ((True, mask.hits), (False, mask.misses)):
        for template in templates:
            yield _example(mask, finder, template, wanted, rng)


def _example(mask: Mask, finder: Finder, template: str, wanted: bool, rng: random.Random) -> Result:
    for _ in range(_ROUNDS):
        try:
            text = examples.fill(template, rng)
        except ValueError as error:
            return Result(mask.id, mask.file, mask.line, False, str(error))
        found = next(iter(finder.spans(text.encode())), None) is not None
        if found != wanted:
            did = "does not match" if wanted else "matches"
            return Result(mask.id, mask.file, mask.line, False, f"{did} {template[:80]!r}, for example {text[:120]!r}")
    return Result(mask.id, mask.file, mask.line, True)


def _test(loaded: MaskRules, section: Section, rng: random.Random) -> Result:
    """`{body, content_type, operation, groups, expect: [mask ids]}`; an empty `expect` says that nothing is masked."""
    line = section.line()
    try:
        body = examples.fill(section.text("body"), rng).encode()
        content_type = section.text("content_type", "text/plain").encode()
        service, _, name = section.text("operation", "").partition(":")
        groups = frozenset(section.texts("groups", ()))
        expect = set(section.texts("expect"))
        section.finish()
        operation = Operation(service, name) if name else None
        call = Call(aws=bool(name), operation=operation, actions=(Action(f"{service}:{name}"),) if name else ())
        out = loaded.for_groups(groups).mask_answer(call, 200, ((b"content-type", content_type),), body)
    except (FlowwardenError, ValueError) as error:
        return Result("tests", section.file, line, False, str(error))
    got = set(out.counts)
    if got != expect:
        return Result("tests", section.file, line, False, f"expected {sorted(expect)}, masked {sorted(got)}")
    return Result("tests", section.file, line, True)
