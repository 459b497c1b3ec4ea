"""rules/masks.yaml: what loads, and what is refused with file and line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from masking_tools import SHIPPED

from flowwarden.errors import RuleError
from flowwarden.masking import rules

BROKEN = {
    "no such key": ("masks:\n  - id: a\n    fields: [x]\n    colour: red\n", 4),
    "broken pattern": ("masks:\n  - id: a\n    pattern: '(ghp_'\n", 3),
    "nested repeat": ("masks:\n  - id: a\n    pattern: '(?:a+)+$'\n", 3),
    "overlapping branches": ("masks:\n  - id: a\n    pattern: '(?:a|aa)+$'\n", 3),
    "polynomial": ("masks:\n  - id: a\n    pattern: '(?:x*)(?:x*)(?:x*)(?:x*)y'\n", 3),
    "empty match": ("masks:\n  - id: a\n    pattern: 'a*'\n", 3),
    "two groups": ("masks:\n  - id: a\n    pattern: '(a)(b)'\n", 3),
    "look-around without keywords": ("masks:\n  - id: a\n    pattern: '(?<=x)abc'\n", 3),
    "hash of personal data": ("masks:\n  - id: a\n    pattern: '\\d{16}'\n    check: luhn\n    replace: hash\n", 5),
    "doubled id": ("masks:\n  - id: a\n    fields: [x]\n  - id: a\n    fields: [y]\n", 4),
    "bad id": ("masks:\n  - id: 'a b'\n    fields: [x]\n", 2),
    "nothing to look for": ("masks:\n  - id: a\n", 2),
    "empty list": ("masks:\n  - id: a\n    fields: []\n", 3),
    "unknown replacement": ("masks:\n  - id: a\n    fields: [x]\n    replace: erase\n", 4),
    "unknown check": ("masks:\n  - id: a\n    pattern: x\n    check: crc\n", 4),
    "unknown include": ("include: [tokns]\nmasks: []\n", 1),
    "limit too large": ("masks:\n  - id: a\n    pattern: abc\n    limit: 100000000\n", 4),
    "no masks": ("masks: []\n", 0),
    "not YAML": ("masks: [\n", 2),
}


@pytest.mark.parametrize("name", BROKEN)
def test_masking_rules_refused(tmp_path: Path, name: str) -> None:
    """Every fault is a RuleError that says where."""
    text, line = BROKEN[name]
    file = tmp_path / "masks.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RuleError) as refused:
        rules.load(file)
    assert refused.value.file == str(file)
    if line:
        assert refused.value.line == line, refused.value


def test_masking_rules_missing_file(tmp_path: Path) -> None:
    """A missing file is a RuleError too."""
    with pytest.raises(RuleError):
        rules.load(tmp_path / "masks.yaml")


def test_masking_rules_backtracking_pattern_with_keywords(tmp_path: Path) -> None:
    """Look-around runs in the second engine, behind its keywords."""
    file = tmp_path / "masks.yaml"
    file.write_text("masks:\n  - id: a\n    pattern: '(?<=id-)[0-9]{6}(?!x)'\n    keywords: [id-]\n", encoding="utf-8")
    masker = rules.load(file).for_groups(frozenset())
    assert masker.mask_text("id-123456 no-123456 id-654321x") == "id-[MASKED:a] no-123456 id-654321x"


def test_masking_rules_digest_and_groups(tmp_path: Path) -> None:
    """The digest follows the bytes; maskers are shared by groups that get the same masks."""
    file = tmp_path / "masks.yaml"
    file.write_text("masks:\n  - {id: a, fields: [x]}\n  - {id: b, fields: [y], groups: [dev]}\n", encoding="utf-8")
    first = rules.load(file)
    assert re.fullmatch(r"[0-9a-f]{64}", first.digest)
    assert first.for_groups(frozenset({"a"})) is first.for_groups(frozenset({"b"}))
    assert first.for_groups(frozenset({"dev"})) is not first.for_groups(frozenset({"b"}))
    file.write_text(file.read_text(encoding="utf-8") + "# more\n", encoding="utf-8")
    assert rules.load(file).digest != first.digest


def test_masking_rules_unbounded_patterns_say_so() -> None:
    """A shipped rule without a bound is named at load."""
    loaded = rules.load(SHIPPED)
    assert any("private-key" in warning and "16384" in warning for warning in loaded.warnings)
