"""flowwarden rules: lints the rules and runs the examples beside them."""

from __future__ import annotations

from pathlib import Path

import click

from .common import json_option, print_json

COMMANDS: tuple[click.Command, ...] = ()

rules_option = click.option(
    "--rules",
    "folder",
    default="rules",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of rule files.",
)
__all__ = ["COMMANDS", "json_option", "print_json", "rules_option"]
