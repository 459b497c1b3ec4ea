"""Reads shell text into the commands that it would run, wrappers and substitutions opened; None for what is not known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from .shelllex import Lexer, Odd, Token, Word
from .shellwrap import INLINE, OPAQUE, SHELLS, Wrapper, wrappers

_DEEP = 16
_SEPARATORS = frozenset({";", "&", "&&", "||", "|", "|&", "\n", "(", ")"})
_REDIRECTS = frozenset({"<", ">", ">>", ">|", ">&", "<&", "<>", "<<<", "&>", "&>>"})
_SKIPPED = frozenset({"if", "then", "elif", "else", "while", "until", "do", "!", "{", "time"})
_CLOSING = frozenset({"fi", "done", "}"})
_REFUSED = frozenset({"case", "esac", "function", "coproc", "select"})
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\[[^]]*\])?\+?=")
# What a shell or the loader takes its commands, its words or its libraries from.
_TREACHEROUS = re.compile(
    r"PATH|IFS|ENV|BASH_.*|PROMPT_COMMAND|PS\d|SHELL.*|LD_.*|DYLD_.*|PYTHON.*|PERL.*|NODE_.*|GIT_.*|EDITOR|PAGER"
)
_SYSTEM = ("/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/usr/local/sbin/")


@dataclass(frozen=True)
class Command:
    """One simple command. An argument of None is not known; `writes` says that its output goes to a file."""

    program: str
    args: tuple[str | None, ...] = ()
    writes: bool = False


@lru_cache(maxsize=512)
def commands(text: str) -> tuple[Command | None, ...]:
    """Every command of a text, in order; None among them for each part that is not known."""
    try:
        return tuple(_script(text, 0))
    except (Odd, RecursionError):
        return (None,)


def _script(text: str, depth: int) -> Iterator[Command | None]:
    if depth > _DEEP:
        raise Odd("nested too deeply")
    if "{{" in text:
        raise Odd("a template is filled in before the shell sees it")
    simple: list[Token] = []
    tokens = Lexer(text).tokens()
    at = 0
    while at <= len(tokens):
        token: Token = tokens[at] if at < len(tokens) else "\n"
        at += 1
        if isinstance(token, str) and token in _SEPARATORS:
            if token == "(" and simple:  # noqa: S105
                raise Odd("a function, an array or a pattern")
            yield from _simple(simple, depth)
            simple = []
        elif isinstance(token, Word) and not simple and not token.quoted and token.known:
            at, skip = _reserved(token.text, tokens, at)
            if not skip:
                simple.append(token)
        else:
            simple.append(token)


def _reserved(text: str, tokens: list[Token], at: int) -> tuple[int, bool]:
    """Where to go on after a word in command position, and whether it was grammar and no command."""
    if text in _REFUSED:
        raise Odd(f"{text} is not read")
    if text == "[[":
        depth = at
        while depth < len(tokens) and not (isinstance(each := tokens[depth], Word) and each.text == "]]"):
            if isinstance(each, Word) and each.inner:
                raise Odd("a substitution in a test")
            depth += 1
        return depth + 1, True
    if text == "for":
        while at < len(tokens) and tokens[at] not in (";", "\n"):
            each = tokens[at]
            if isinstance(each, str) or each.inner:
                raise Odd("a loop over what is not known")
            at += 1
        return at, True
    return at, text in _SKIPPED or text in _CLOSING


def _simple(tokens: list[Token], depth: int) -> Iterator[Command | None]:
    """The commands that one simple command makes: those in its substitutions, itself, those that it wraps."""
    words: list[Word] = []
    writes = False
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if isinstance(token, Word):
            for inner in token.inner:
                yield from _script(inner, depth + 1)
            words.append(token)
            continue
        if token not in _REDIRECTS or at >= len(tokens) or not isinstance(target := tokens[at], Word):
            raise Odd(f"{token} is not read")
        at += 1
        for inner in target.inner:
            yield from _script(inner, depth + 1)
        if words and words[-1].text.isdigit() and words[-1].known and not words[-1].quoted:
            words.pop()  # a file descriptor (or an argument that is a number: then one argument less)
        if not target.known or target.text.startswith(("/dev/tcp", "/dev/udp")):
            yield None
        writes = writes or (">" in token and not re.fullmatch(r"\d+|-|/dev/null|/dev/std(out|err)", target.text))
    while words and (match := _assigns(words[0])):
        if _TREACHEROUS.fullmatch(match[1]):
            yield None
        words.pop(0)
    if words:
        yield from _run(words, writes, depth)


def _assigns(word: Word) -> re.Match[str] | None:
    """The `NAME=` at the start of a word, if no quote or expansion comes before its end."""
    match = _ASSIGNMENT.match(word.text)
    return match if match and not 0 <= word.bare < match.end() else None


def _run(words: list[Word], writes: bool, depth: int) -> Iterator[Command | None]:
    """A command of words, and what it runs in turn."""
    if depth > _DEEP:
        raise Odd("nested too deeply")
    first, rest = words[0], words[1:]
    if not first.known or not first.text or (re.search(r"[*?\[{~]", first.text) and first.text != "["):
        yield None
        return
    args = tuple(word.text if word.known else None for word in rest)
    path, name = first.text, first.text.rpartition("/")[2]
    yield Command(path, args, writes)
    if "/" in path and not path.startswith(_SYSTEM):
        yield None  # any program may stand there under any name
    if name in SHELLS:
        yield from _shell(args, depth)
    elif name in ("eval", "trap"):
        if any(arg is None for arg in args):
            yield None
        else:
            texts = [str(arg) for arg in args]
            yield from _script(" ".join(texts) if name == "eval" else (texts[:1] or [""])[0], depth + 1)
    elif name == "find":
        yield from _find(rest, depth)
    elif name in OPAQUE or (name in INLINE and INLINE[name](args)):
        yield None
    elif name in ("export", "declare", "local", "readonly", "typeset"):
        if any(arg is None or ((match := _ASSIGNMENT.match(arg)) and _TREACHEROUS.fullmatch(match[1])) for arg in args):
            yield None
    elif wrapper := wrappers().get(name):
        yield from _wrapped(wrapper, rest, depth)


def _shell(args: tuple[str | None, ...], depth: int) -> Iterator[Command | None]:
    """`sh -c TEXT` is opened; a shell that reads a file or its input runs what is not known."""
    for at, arg in enumerate(args):
        if arg is None or not re.fullmatch(r"-[a-z]+|--(login|norc|noprofile|posix)", arg):
            break
        if not arg.startswith("--") and "c" in arg:
            text = args[at + 1] if at + 1 < len(args) else None
            if text is None or any(each in arg for each in "so"):
                break
            yield from _script(text, depth + 1)
            return
    yield None


def _find(words: list[Word], depth: int) -> Iterator[Command | None]:
    at = 0
    while at < len(words):
        if words[at].text in ("-exec", "-execdir", "-ok", "-okdir"):
            end = next((n for n in range(at, len(words)) if words[n].text in (";", "+")), None)
            if end is None or end == at + 1:
                yield None
                return
            yield from _run([*words[at + 1 : end], Word(known=False)], False, depth + 1)
            at = end
        at += 1


def _wrapped(wrapper: Wrapper, words: list[Word], depth: int) -> Iterator[Command | None]:
    """The command behind a wrapper's own options."""
    at = 0
    while at < len(words):
        word = words[at]
        text = word.text
        if not word.known:
            yield None
            return
        if text == "--":
            at += 1
            break
        if wrapper.assigns and (match := _ASSIGNMENT.match(text)):
            if _TREACHEROUS.fullmatch(match[1]):
                yield None
            at += 1
        elif not text.startswith("-") or text == "-":
            break
        elif text in wrapper.queries:
            return
        elif text in wrapper.valued:
            at += 2
        elif re.fullmatch(wrapper.flags, text):
            at += 1
        else:
            yield None
            return
    at += wrapper.operands
    inner = words[at:]
    if inner:
        yield from _run([*inner, Word(known=False)] if wrapper.feeds else inner, False, depth + 1)
    elif wrapper.starts:
        yield None
