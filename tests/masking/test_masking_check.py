"""The shipped rules: enough of them, each with examples that hold, and a lint that finds what is doubtful."""

from __future__ import annotations

from pathlib import Path

import pytest
from masking_tools import SHIPPED

from flowwarden.masking import check, rules


def test_masking_shipped_rules_pass_their_examples() -> None:
    """Every shipped shape matches its true example and not its false one; the file's own tests hold."""
    results = check.run_tests(SHIPPED)
    assert [f"{r.mask}: {r.message}" for r in results if not r.ok] == []
    assert len(results) > 400


def test_masking_shipped_shapes_are_enough() -> None:
    """At least 150 shapes of tokens, each with a true and a false example."""
    shapes = [mask for mask in rules.load(SHIPPED).masks if mask.pattern and mask.hits and mask.misses]
    assert len(shapes) >= 150 and len({mask.pattern for mask in shapes}) == len(shapes)


def test_masking_check_of_shipped_rules_has_no_error() -> None:
    """Warnings tell of rules for nobody, nothing else: not of what is in the package, where no user changes it."""
    for finding in check.check(SHIPPED):
        assert finding.level == "warning"
        assert "nobody" in finding.message
        assert finding.file == str(SHIPPED)


@pytest.mark.parametrize(
    ("text", "level", "part"),
    [
        ("masks: [{id: a, pattern: '(x'}]", "error", "broken"),
        ("masks: [{id: a, pattern: 'abc+', hits: [abc], misses: [x]}]", "warning", "no bound"),
        ("masks: [{id: a, pattern: 'abc'}]", "warning", "no examples"),
        (
            "masks: [{id: a, pattern: 'abc', keywords: [zz], hits: [abc], misses: [x]}]",
            "warning",
            "none of the keywords",
        ),
    ],
)
def test_masking_check_findings(tmp_path: Path, text: str, level: str, part: str) -> None:
    """Faults are errors, doubts are warnings, both with their place."""
    file = tmp_path / "masks.yaml"
    file.write_text(text, encoding="utf-8")
    assert any(f.level == level and part in f.message and f.line for f in check.check(file))


def test_masking_run_tests_reports_failures(tmp_path: Path) -> None:
    """An example that does not hold, and a test that expects the wrong mask, are named with their lines."""
    file = tmp_path / "masks.yaml"
    file.write_text(
        "masks:\n  - {id: a, pattern: 'abc', hits: [xyz], misses: [abc]}\ntests:\n  - {body: abc, expect: []}\n"
        "  - {body: 'x', expect: [b]}\n  - {body: '<nope:3>', expect: []}\n",
        encoding="utf-8",
    )
    results = check.run_tests(file)
    assert [r.ok for r in results] == [False] * 5 and all(r.line for r in results)
