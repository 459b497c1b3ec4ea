"""Texts that make a backtracking engine run for ever, made from a pattern's own repeats (the usual ReDoS construction)."""

from __future__ import annotations

import re._constants as sre  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from typing import Any

_PUMPS = (28, 4000)  # exponential blow-up shows at the first, polynomial at the second
_MOST = 40


def _sample(tree: Any) -> str:
    """Some text that the parsed pattern matches, as short as is easy."""
    out: list[str] = []
    for op, arg in tree:
        if op is sre.LITERAL:
            out.append(chr(arg))
        elif op is sre.NOT_LITERAL:
            out.append("a" if arg != ord("a") else "b")
        elif op is sre.ANY:
            out.append("a")
        elif op is sre.IN:
            out.append(_one_of(arg))
        elif op in {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}:
            out.append(_sample(arg[2]) * min(int(arg[0]), 64))
        elif op is sre.SUBPATTERN:
            out.append(_sample(arg[3]))
        elif op is sre.ATOMIC_GROUP:
            out.append(_sample(arg))
        elif op is sre.BRANCH:
            out.append(_sample(arg[1][0]))
    return "".join(out)


def _one_of(items: Any) -> str:
    negated = items and items[0][0] is sre.NEGATE
    if negated:
        for candidate in "a0 -_Z":
            if not _in(items[1:], candidate):
                return candidate
        return "a"
    for op, arg in items:
        if op is sre.LITERAL:
            return chr(arg)
        if op is sre.RANGE:
            return chr(arg[0])
        if op is sre.CATEGORY:
            return {sre.CATEGORY_DIGIT: "0", sre.CATEGORY_SPACE: " ", sre.CATEGORY_NOT_DIGIT: "a"}.get(arg, "a")
    return "a"


def _in(items: Any, char: str) -> bool:
    code = ord(char)
    for op, arg in items:
        if op is sre.LITERAL and arg == code:
            return True
        if op is sre.RANGE and arg[0] <= code <= arg[1]:
            return True
        if op is sre.CATEGORY and (
            (arg is sre.CATEGORY_DIGIT and char.isdigit())
            or (arg is sre.CATEGORY_SPACE and char.isspace())
            or (arg is sre.CATEGORY_WORD and (char.isalnum() or char == "_"))
        ):
            return True
    return False


def _repeats(tree: Any, before: str) -> list[tuple[str, list[str]]]:
    """(text before, what can be repeated) for every repeat of the pattern that has no small bound."""
    found: list[tuple[str, list[str]]] = []
    for op, arg in tree:
        if op in {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}:
            body = arg[2]
            if arg[1] is sre.MAXREPEAT or int(arg[1]) > 15:
                found.append((before, _bodies(body)))
            found += _repeats(body, before)
        elif op is sre.SUBPATTERN:
            found += _repeats(arg[3], before)
        elif op is sre.BRANCH:
            for branch in arg[1]:
                found += _repeats(branch, before)
        elif op is sre.ATOMIC_GROUP:
            found += _repeats(arg, before)
        before += _sample([(op, arg)])
    return found


def _bodies(body: Any) -> list[str]:
    texts = [_sample(body)]
    for op, arg in body:
        inner = arg[3] if op is sre.SUBPATTERN else None
        for inner_op, inner_arg in inner or []:
            if inner_op is sre.BRANCH:
                texts += [_sample(branch) for branch in inner_arg[1]]
            elif inner_op in {sre.MAX_REPEAT, sre.MIN_REPEAT}:
                texts.append(_sample(inner_arg[2]))
        if op in {sre.MAX_REPEAT, sre.MIN_REPEAT}:
            texts.append(_sample(arg[2]))
        elif op is sre.BRANCH:
            texts += [_sample(branch) for branch in arg[1]]
    return [text for text in dict.fromkeys(texts) if text][:4]


def texts(pattern: bytes) -> list[bytes]:
    """Hostile texts for a pattern; empty where Python's parser does not know its syntax."""
    try:
        tree = parser.parse(pattern.decode("latin-1"))
    except (re_error, RecursionError, OverflowError, UnicodeDecodeError):
        return []
    made: list[bytes] = []
    tail = "\x00" + _sample(tree)  # so that an engine that first looks for the pattern's literals finds them
    for before, bodies in _repeats(tree, ""):
        for body in bodies:
            for count in _PUMPS:
                pumped = before + body * max(1, count // len(body) if count > 100 else count)
                made.append((pumped + tail).encode("latin-1", "replace"))
    return made[:_MOST]


re_error = parser.error
