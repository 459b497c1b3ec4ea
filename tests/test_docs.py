"""The documents speak of what there is, and of all of it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from flowwarden.options import SPECS, Spec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_help_of_every_command_is_in_docs() -> None:
    made = runpy.run_path(str(ROOT / "tools" / "cli_docs.py"))
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == made["text"](), "run `make docs`"


def test_the_readme_has_every_option_and_no_other() -> None:
    assert set(re.findall(r"^\| `(warden_\w+)` \|", README, re.MULTILINE)) == {spec.name for spec in SPECS}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_readme_tells_each_default(spec: Spec) -> None:
    found = re.search(rf"^\| `{spec.name}` \|([^|]*)\|", README, re.MULTILINE)
    assert found is not None
    default = list(spec.default) or ["[]"] if not isinstance(spec.default, str) else [spec.default] * bool(spec.default)
    assert re.findall(r"`([^`]*)`", found[1]) == default


def test_commands_in_the_readme_exist() -> None:
    from click import Group

    from flowwarden.cli import main

    words = re.findall(
        r"flowwarden ((?:[a-z]+ ?){1,2})", "\n".join(re.findall(r"^flowwarden .*$", README, re.MULTILINE))
    )
    assert len(words) > 10
    for line in words:
        first, *rest = line.split()
        assert first in main.commands, line
        group = main.commands[first]
        if rest and isinstance(group, Group):
            assert rest[0] in group.commands, line


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/rules.md", "docs/cli.md"])
def test_links_lead_to_files(name: str) -> None:
    file = ROOT / name
    for link in re.findall(r"\]\(([^)#\s]+)", file.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (file.parent / link).exists(), link


@pytest.mark.parametrize(
    "name", ["docs/rules.md", "docs/cli.md", "docs/verify_proof.py", "addons/flowwarden/operators/API.md"]
)
def test_the_readme_links_what_a_user_needs(name: str) -> None:
    assert f"({name})" in README
