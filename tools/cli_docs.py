"""Writes docs/cli.md: the help of every command, as `--help` prints it. tests/test_docs.py holds the file to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

FILE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """# The command line

Made by `make docs` from the help of the commands. Errors are one line on standard error. Exit codes: 0 fine; 1 the answer is
no (what the gateway refuses or does not know, a token that is not taken, a rule file with errors, an example that failed, a
recording that is invalid, a replay that differs); 2 wrong use, or something that fails or cannot be read or reached; 3 `verify`
could not prove it.
"""


def contexts(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A command and everything below it, as it is called."""
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=110, max_content_width=110,
        help_option_names=["-h", "--help"],
    )  # fmt: skip
    yield context
    if isinstance(command, click.Group):
        for below in sorted(command.commands):
            yield from contexts(command.commands[below], below, context)


def text() -> str:
    from flowwarden.cli import main

    parts = [HEAD]
    for context in contexts(main, "flowwarden"):
        words = " ".join(word for word in context.command_path.split() if word != "[OPTIONS]")
        parts.append(f"## {words}\n\n```\n{context.command.get_help(context)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")
