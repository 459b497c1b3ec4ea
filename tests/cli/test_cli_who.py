"""`flowwarden session who`: the subject behind a name that CloudTrail shows."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from flowwarden.cli import main
from flowwarden.credentials import names

LONG = "system:serviceaccount:" + "ü" * 40


@pytest.mark.parametrize("subject", ["alice@example.com", "auth0|ü x", "a"])
def test_a_name_is_told_in_full(subject: str) -> None:
    for shown in (names.session_name(subject), names.tag(subject)):
        assert CliRunner().invoke(main, ["session", "who", shown]).output == f"{subject}\n"


def test_a_name_that_was_cut_is_asked_about() -> None:
    name = names.session_name(LONG)
    told = CliRunner().invoke(main, ["session", "who", name])
    assert told.output.startswith("system:serviceaccount:ü") and "--subject" in told.output
    for subject, code in ((LONG, 0), (LONG + "x", 1)):
        assert CliRunner().invoke(main, ["session", "who", name, "--subject", subject]).exit_code == code


def test_a_name_of_somebody_else() -> None:
    told = CliRunner().invoke(main, ["session", "who", "botocore=session"])
    assert told.exit_code and "not a name that the gateway gave" in told.stderr
