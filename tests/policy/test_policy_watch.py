"""Changed rule files are taken up; a set that does not check leaves the last good one in force (faults 3 and 4)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from flowwarden.errors import RuleError
from flowwarden.policy.watch import Rules

GOOD = "rules:\n  - {id: a, effect: deny}\n"
OTHER = "rules:\n  - {id: b, effect: deny}\n"


def test_no_rules_at_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuleError):
        Rules(tmp_path)


def test_a_change_is_taken_up_even_with_the_same_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    stat = path.stat()
    watch = Rules(tmp_path)
    before = watch.current
    assert not watch.reload_if_changed() and watch.current is before
    path.write_text(OTHER)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert watch.reload_if_changed()
    assert watch.current.rules[0].id == "b" and watch.current.digest != before.digest


def test_a_comment_changes_nothing_in_force(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(GOOD)
    watch = Rules(tmp_path)
    (tmp_path / "policy.yaml").write_text("# why\n" + GOOD)
    assert not watch.reload_if_changed() and watch.alarm == ""


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("rules: [", "not valid YAML"),
        ("rules:\n  - {id: a, effect: maybe}\n", ":2: 'effect' has to be one of"),
        ("rules:\n  - {id: a, effect: deny, actions: ['iam:DeleteUsr']}\n", ":2: .*Did you mean iam:DeleteUser"),
        (None, "does not exist"),
        ("- a list", "mapping"),
        ("\x00", "not valid YAML"),
    ],
)
def test_a_set_that_does_not_check_leaves_the_last_good_one(tmp_path: Path, broken: str | None, said: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    watch = Rules(tmp_path)
    good = watch.current
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)
    assert not watch.reload_if_changed() and watch.current is good
    assert re.search(said, watch.alarm), watch.alarm
    assert not watch.reload_if_changed() and watch.alarm, "the alarm stays while the files are broken"
    path.write_text(OTHER)
    assert watch.reload_if_changed() and watch.alarm == ""


def test_going_back_to_the_set_in_force_clears_the_alarm(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    watch = Rules(tmp_path)
    path.write_text("rules: [")
    watch.reload_if_changed()
    path.write_text(GOOD)
    assert not watch.reload_if_changed() and watch.alarm == ""
