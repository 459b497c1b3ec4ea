"""`shell`: programs and arguments of the commands that a call runs on other machines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .facts import UNKNOWN, Facts, Hit
from .globs import Globs
from .shellread import Command, commands
from .statements import SHELL, texts

UNPARSABLE = "UNPARSABLE"
# Documents whose parameters are POSIX shell, by their last part; any other may do anything with its parameters.
_DOCUMENTS = frozenset({"AWS-RunShellScript", "AWS-StartInteractiveCommand", "AWS-StartNonInteractiveCommand"})
_LONG = {"--recursive": "r", "--force": "f", "--dir": "d", "--verbose": "v", "--interactive": "i"}


def _letters(words: Iterable[str | None]) -> set[str]:
    """The one-letter options among words, `-rf` as two, GNU's long forms (abbreviated too) as their letters."""
    found: set[str] = set()
    for word in words:
        if word is None or not word.startswith("-"):
            continue
        if word.startswith("--"):
            found.update(letter for name, letter in _LONG.items() if len(word) > 2 and name.startswith(word))
        else:
            found.update(word[1:])
    return found | {letter.lower() for letter in found & {"R"}}


@dataclass(frozen=True)
class Pattern:
    """A program glob, options that all have to be there, and argument globs that each have to match an argument."""

    program: Globs
    letters: frozenset[str] = frozenset()
    words: tuple[Globs, ...] = ()

    @classmethod
    def of(cls, text: str) -> Pattern:
        """ValueError for what is no pattern."""
        parts = text.split()
        if not parts or re.search(r"[;&|<>()`$'\"\\]", text):
            raise ValueError(f"{text!r} is not a program and its arguments, such as rm -rf")
        options = [part for part in parts[1:] if re.fullmatch(r"-[A-Za-z]+", part)]
        others = tuple(Globs([part]) for part in parts[1:] if part not in options)
        return cls(Globs([parts[0]]), frozenset(_letters(options)), others)

    def hit(self, command: Command) -> Hit:
        if not (self.program(command.program) or self.program(command.program.rpartition("/")[2])):
            return False
        if not self.letters and not self.words:
            return True
        args = command.args
        missing = self.letters - _letters(args)
        lacking = [word for word in self.words if not any(arg is not None and word(arg) for arg in args)]
        if missing or lacking:
            return None if None in args else False
        # For an allow every argument has to be one that the pattern names.
        covered = all(
            arg is not None
            and (any(word(arg) for word in self.words) or (arg.startswith("-") and _letters([arg]) <= self.letters))
            for arg in args
        )
        return True if covered else None


@dataclass(frozen=True)
class Shell:
    """Patterns over the commands of a call that runs some. What cannot be understood is unknown."""

    patterns: tuple[Pattern, ...]
    key: str = "shell"

    @classmethod
    def of(cls, texts: Iterable[str]) -> Shell:
        """ValueError for a text that is no pattern."""
        return cls(tuple(Pattern.of(text) for text in texts if text != UNPARSABLE))

    def hit(self, command: Command | None) -> Hit:
        if command is None:
            return None
        found = {pattern.hit(command) for pattern in self.patterns}
        if True in found:
            return None if command.writes else True  # a file that is written to is not named by any pattern
        return None if None in found else False

    def hits(self, facts: Facts) -> Iterable[Hit]:
        call = facts.call
        carrier = SHELL.get(str(call.operation)) if call.operation else None
        if carrier is None:
            return ()
        found = texts(call, carrier)
        if not found or call.params is None:
            return UNKNOWN
        if call.operation and call.operation.service == "ssm":
            name = str(call.params.get("DocumentName") or call.params.get("Name") or "")
            if name.rpartition("/")[2] not in _DOCUMENTS:
                return UNKNOWN
        # A document's lines are one script: they are joined before the shell sees them.
        return [self.hit(command) for command in commands("\n".join(found))] or UNKNOWN
