"""The command line: one module a command group. Errors are one line that says what to do; exit 0 fine, 1 no, 2 wrong use."""

from __future__ import annotations

import sys

import click

from .. import __version__
from ..errors import FlowwardenError
from . import approvals, evidence, flows, gateway, replay, rules, session


class _Group(click.Group):
    """Prints the project's own errors as one line; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except FlowwardenError as error:
            click.echo(f"flowwarden: {error}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:  # before OSError, whose kind it is
            sys.stderr.close()
            ctx.exit(0)
        except OSError as error:
            if error.filename is None:
                raise
            click.echo(f"flowwarden: {error.filename}: {error.strerror}", err=True)
            ctx.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="flowwarden")
def main() -> None:
    """A gateway for AI coding agents: who they are, what they call, what they may, what they see, and proof of it."""


for _module in (gateway, session, flows, approvals, replay, evidence, rules):
    for _command in _module.COMMANDS:
        main.add_command(_command)
