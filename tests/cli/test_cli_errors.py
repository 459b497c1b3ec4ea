"""What a user does wrong is one line on standard error and exit code 2, never a traceback."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowwarden.cli import main


@pytest.mark.parametrize(
    "arguments",
    [
        ["init", "FILE/below"],
        ["login", "--issuer", "foo"],
        ["login", "--issuer", "http://idp.example.com"],
        ["flows", "--recordings", "nowhere"],
        ["session", "start", "--token-file", "nowhere"],
        ["approvals", "list", "--url", "http://example.com", "--token-file", "FILE"],
        ["replay"],
        ["replay", "--recordings", ".", "--serve", "0"],
        ["verify", "--recordings", ".", "--checkpoint", "nowhere"],
        ["flows", "--recordings", ".", "--since", "yesterday"],
    ],
    ids=" ".join,
)
def test_one_line(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("x.y.z")
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("flowwarden: ")
    assert done.stderr.count("\n") == 1
    assert "Errno" not in done.stderr


def test_a_demo_without_its_packages_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("flowwarden.demo")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "oidc_provider_mock", None)
    done = CliRunner().invoke(main, ["demo"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "pip install '.[demo]'" in done.stderr


def test_the_recordings_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLOWWARDEN_RECORDINGS", str(tmp_path / "elsewhere"))
    assert str(tmp_path / "elsewhere") in CliRunner().invoke(main, ["verify"]).stderr


def test_a_missing_rules_folder_is_said_without_a_line_number(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["rules", "check", "--rules", str(tmp_path)])
    assert done.exit_code == 1
    assert f"{tmp_path}/masks.yaml: error: the file does not exist" in done.stdout
    assert ":0:" not in done.stdout


def test_an_export_of_nothing_is_a_no_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "evidence.ndjson").touch()
    done = CliRunner().invoke(
        main, ["export", "nobody", "--recordings", str(tmp_path), "-o", str(tmp_path / "out.mitm")]
    )
    assert done.exit_code == 1
    assert "there are no such flows" in done.stderr
    assert not (tmp_path / "out.mitm").exists()


@pytest.mark.parametrize(
    "time", ["2026", "2026-11", "2026-11-20", "2026-11-20T18:00", "2026-11-20T18:00:00Z", "2h", ""]
)
def test_times_that_since_takes(time: str) -> None:
    from flowwarden.cli.flows import _since

    assert time == "2h" or _since(time) == time


def test_renew_asks_the_gateway_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("x.y.z")
    monkeypatch.setenv("HTTPS_PROXY", "http://flowwarden:handle@127.0.0.1:1")
    done = CliRunner().invoke(main, ["session", "renew", "id", "--token-file", str(tmp_path / "token")])
    assert done.exit_code == 2
    assert "the gateway at http://127.0.0.1:1 cannot be reached" in done.stderr
    assert "handle" not in done.stderr
