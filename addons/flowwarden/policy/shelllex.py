"""Splits POSIX shell text into words and operators; whatever it does not know for sure raises Odd.

Source: POSIX.1-2024, Shell Command Language, 2.2 Quoting, 2.3 Token Recognition, 2.6 Word Expansions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_OPERATORS = ("&&", "||", ";;", "|&", "&>>", "&>", ">>", ">|", ">&", "<&", "<>", "<<<", "<<", ";", "&", "|", "(", ")",
              "<", ">", "\n")  # fmt: skip
_LONGEST = sorted(_OPERATORS, key=len, reverse=True)
_NAME = re.compile(r"[A-Za-z_]\w*|[0-9*@#?!$-]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
MAX_CHARS = 16 * 1024  # reading takes the gateway's own time
_DEEP = 16


class Odd(Exception):
    """The text is no shell that can be understood for sure."""


@dataclass
class Word:
    """One word. `text` is what it says where `known`; quotes are gone. `inner` are command substitutions in it."""

    text: str = ""
    known: bool = True
    quoted: bool = False  # any part was quoted, so it is no reserved word
    inner: list[str] = field(default_factory=list)
    bare: int = -1  # how many characters came before the first quote or expansion; -1: there is none

    def marked(self) -> None:
        """A quote or an expansion begins here."""
        if self.bare < 0:
            self.bare = len(self.text)


Token = Word | str
"""A word, or an operator as its text."""


class Lexer:
    """Reads one text from start to end. `tokens` is the way in."""

    def __init__(self, text: str, depth: int = 0) -> None:
        if depth > _DEEP:
            raise Odd("nested too deeply")
        self.text = text
        self.at = 0
        self.depth = depth

    def tokens(self) -> list[Token]:
        """All words and operators. Odd for control characters, heredocs, arithmetic commands and open quotes."""
        if len(self.text) > MAX_CHARS or _CONTROL.search(self.text):
            raise Odd("control characters, or too long")
        found: list[Token] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if self.text.startswith("\\\n", self.at):
                self.at += 2
            elif char in " \t":
                self.at += 1
            elif char == "#":
                self.at = self._find("\n", len(self.text))
            elif self.text.startswith(("<(", ">("), self.at):
                found.append(self._word())
            elif operator := next((each for each in _LONGEST if self.text.startswith(each, self.at)), ""):
                if operator in ("<<", ";;") or self.text.startswith("((", self.at):
                    raise Odd(f"{operator} is not read")
                self.at += len(operator)
                found.append(operator)
            else:
                found.append(self._word())
        return found

    def _find(self, what: str, otherwise: int | None = None) -> int:
        found = self.text.find(what, self.at)
        if found < 0 and otherwise is None:
            raise Odd(f"no closing {what}")
        return found if found >= 0 else otherwise or 0

    def _word(self) -> Word:
        word = Word()
        if self.text.startswith(("<(", ">("), self.at):  # process substitution: runs what is inside
            self.at += 1
            word.inner.append(self._parenthesis())
            word.known = False
        while self.at < len(self.text) and (char := self.text[self.at]) not in " \t\n;&|()<>":
            if char == "\\":
                self._backslash(word)
            elif char == "'":
                self._single(word)
            elif char == '"':
                self._double(word)
            elif char in "$`":
                self._expansion(word)
            else:
                if char in "{*?[~":
                    # A program must not come from an expansion; braces make words of one.
                    word.known = word.known and not (char == "{" and self._braces())
                word.text += char
                self.at += 1
        return word

    def _braces(self) -> bool:
        end = re.compile(r"[\s;&|()<>]").search(self.text, self.at)
        piece = self.text[self.at : end.start() if end else len(self.text)]
        return "," in piece or ".." in piece

    def _backslash(self, word: Word) -> None:
        if self.at + 1 >= len(self.text):
            raise Odd("a backslash at the end")
        if self.text[self.at + 1] != "\n":
            word.marked()
            word.text += self.text[self.at + 1]
            word.quoted = True
        self.at += 2

    def _single(self, word: Word) -> None:
        word.marked()
        self.at += 1
        end = self._find("'")
        word.text += self.text[self.at : end]
        word.quoted = True
        self.at = end + 1

    def _double(self, word: Word) -> None:
        word.marked()
        word.quoted = True
        self.at += 1
        while True:
            if self.at >= len(self.text):
                raise Odd("no closing quote")
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return
            if char in "$`":
                self._expansion(word)
            elif char == "\\" and self.text[self.at + 1 : self.at + 2] in ("$", "`", '"', "\\", "\n"):
                word.text += "" if self.text[self.at + 1] == "\n" else self.text[self.at + 1]
                self.at += 2
            else:
                word.text += char
                self.at += 1

    def _expansion(self, word: Word) -> None:
        word.marked()
        if self.text[self.at] == "`":
            self._backticks(word)
        elif self.text.startswith("$((", self.at) or self.text.startswith(("$'", '$"', "$["), self.at):
            raise Odd("arithmetic or C quoting")
        elif self.text.startswith("$(", self.at):
            self.at += 1
            word.inner.append(self._parenthesis())
            word.known = False
        elif self.text.startswith("${", self.at):
            end = self._find("}")
            if re.search(r"[`$\\'\"{(]", self.text[self.at + 2 : end]):
                raise Odd("an expansion in an expansion")
            self.at = end + 1
            word.known = False
        elif match := _NAME.match(self.text, self.at + 1):
            self.at = match.end()
            word.known = False
        else:
            word.text += "$"
            self.at += 1

    def _backticks(self, word: Word) -> None:
        end = self.at + 1
        while end < len(self.text) and self.text[end] != "`":
            end += 2 if self.text[end] == "\\" else 1
        if end >= len(self.text):
            raise Odd("no closing backtick")
        word.inner.append(re.sub(r"\\([$`\\])", r"\1", self.text[self.at + 1 : end]))
        word.known = False
        self.at = end + 1

    def _parenthesis(self) -> str:
        """The text in a parenthesis that starts here, found by reading it as shell; leaves the lexer behind it."""
        inner = Lexer(self.text, self.depth + 1)
        start = inner.at = self.at + 1
        depth = 1
        while inner.at < len(inner.text):
            before = inner.at
            token = inner._next()
            depth += {"(": 1, ")": -1}.get(token if isinstance(token, str) else "", 0)
            if depth == 0:
                self.at = inner.at
                return self.text[start:before]
        raise Odd("no closing parenthesis")

    def _next(self) -> Token:
        """One token, or one run of space or comment as an empty operator."""
        char = self.text[self.at]
        if char in " \t\n" or self.text.startswith("\\\n", self.at):
            self.at += 1 if char in " \t\n" else 2
            return ""
        if char == "#":
            self.at = self._find("\n", len(self.text))
            return ""
        if char in "()":
            self.at += 1
            return char
        if char in ";&|<>" and not self.text.startswith(("<(", ">("), self.at):
            if self.text.startswith("<<", self.at) and not self.text.startswith("<<<", self.at):
                raise Odd("a heredoc")
            self.at += 3 if self.text.startswith("<<<", self.at) else 1
            return ""
        return self._word()
