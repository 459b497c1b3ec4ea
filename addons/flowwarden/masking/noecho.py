"""CloudFormation's NoEcho parameters in templates that are YAML: their defaults are secrets, whatever they look like.

A template is read line by line, not parsed: it may be cut off, indented anyhow, or stand inside another text. JSON templates
and the XML of DescribeStacks and its kin are read as JSON and XML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

NAME = b"NoEcho"
_TRUE = rb"""["']?(?:true|yes|on|1)\b"""
_BLOCK = re.compile(rb"""(?im)^([ \t]*)(["']?)NoEcho\2[ \t]*:[ \t]*""" + _TRUE)
_FLOW = re.compile(rb"""(?i)[{,]\s*(["']?)NoEcho\1\s*:\s*""" + _TRUE)
_DEFAULT = re.compile(rb"""(["']?)Default\1[ \t]*:[ \t]*""")
_FLOW_DEFAULT = re.compile(rb"""[{,]\s*(["']?)Default\1\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,}\r\n]+)""", re.S)
_REACH = 64 << 10  # bytes that a parameter in braces may have on either side of its NoEcho


def true(text: bytes) -> bool:
    """Whether a value means that a parameter is not to be shown."""
    return re.fullmatch(_TRUE + rb"""["']?""", text.strip(), re.I) is not None


def spans(text: bytes) -> list[tuple[int, int]]:
    """Where the defaults of NoEcho parameters stand in a YAML text, with their quotes, in order."""
    found = {span for match in _BLOCK.finditer(text) for span in _in_block(text, match.start(), len(match.group(1)))}
    found |= {span for match in _FLOW.finditer(text) for span in _in_braces(text, match.start(), match.end())}
    return sorted(found)


def _indent(line: bytes) -> int:
    """Of a line that says something; -1 for an empty one and for a comment."""
    bare = line.strip()
    return -1 if not bare or bare.startswith(b"#") else len(line) - len(line.lstrip(b" \t"))


def _lines_down(text: bytes, at: int) -> Iterator[tuple[int, int]]:
    while at < len(text):
        end = text.find(b"\n", at)
        end = len(text) if end < 0 else end + 1
        yield at, end
        at = end


def _lines_up(text: bytes, at: int) -> Iterator[tuple[int, int]]:
    while at > 0:
        start = text.rfind(b"\n", 0, at - 1) + 1
        yield start, at
        at = start


def _in_block(text: bytes, at: int, indent: int) -> Iterator[tuple[int, int]]:
    """The value of `Default:` among the lines that stand beside the one at `at`."""
    for lines in (_lines_up(text, at), _lines_down(text, at)):
        for start, end in lines:
            depth = _indent(text[start:end])
            if 0 <= depth < indent:
                break
            if depth == indent and (found := _DEFAULT.match(text, start + indent)) is not None:
                yield found.end(), _value_end(text, end, indent)


def _value_end(text: bytes, at: int, indent: int) -> int:
    """Where a value ends whose first line ends at `at`: behind all lines that are indented further."""
    for start, end in _lines_down(text, at):
        if 0 <= _indent(text[start:end]) <= indent:
            break
        at = end
    while at and text[at - 1] in b"\r\n":
        at -= 1
    return at


def _in_braces(text: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """The value of `Default:` in the braces around a stretch."""
    depth, first = 0, max(0, at - _REACH)
    begins = at
    while begins > first and not (depth == 0 and text[begins] == 0x7B):
        depth += {0x7D: 1, 0x7B: -1}.get(text[begins], 0)
        begins -= 1
    closes = text.find(b"}", end, end + _REACH)
    for found in _FLOW_DEFAULT.finditer(text, begins, len(text) if closes < 0 else closes + 1):
        yield found.span(2)
