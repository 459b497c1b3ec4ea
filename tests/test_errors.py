"""What the log tells of a crash: where it came from, and nothing that its message may quote."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import flowwarden
from flowwarden.errors import traced
from flowwarden.failing import unavailable

QUOTED = "what-a-body-held"


def crashed() -> Exception:
    """As a parser would fail, with a part of a body in the messages of the error and of its cause."""
    try:
        try:
            int(QUOTED)
        except ValueError as error:
            raise KeyError(QUOTED) from error
    except KeyError as error:
        return error


def test_a_trace_has_the_frames_and_no_message():
    text = traced(crashed())
    assert "in crashed" in text and "KeyError" in text and "ValueError" in text and "caused by" in text
    assert QUOTED not in text.replace("QUOTED", "")


def test_a_circle_of_causes_ends():
    one, two = ValueError(QUOTED), KeyError(QUOTED)
    one.__cause__, two.__cause__ = two, one
    assert traced(one).count("Traceback") == 2


def test_a_stations_crash_is_logged_without_its_message(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    refusal = unavailable("mask", crashed())
    assert "in crashed" in caplog.text
    assert QUOTED not in caplog.text and QUOTED not in refusal.message


def test_nothing_logs_an_exception_as_it_is():
    """`exc_info` prints messages too; everything goes by `traced`."""
    package = Path(flowwarden.__file__).parent
    found = [path.name for path in package.rglob("*.py") if "exc_info=" in path.read_text(encoding="utf-8")]
    assert not found
