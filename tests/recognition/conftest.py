"""One recogniser for all of these tests: its tables are built once, into a folder of the test run's own."""

from __future__ import annotations

import pytest

from flowwarden.recognition.recogniser import Recogniser


@pytest.fixture(scope="session")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return Recogniser(tmp_path_factory.mktemp("cache", numbered=True) / "tables")
