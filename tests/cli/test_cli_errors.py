"""What a user does wrong is one line on standard error and exit code 2, never a traceback."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import pytest
from click.testing import CliRunner

from flowwarden.cli import main
from flowwarden.cli.common import moment
from flowwarden.operators.client import Client


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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["verify", "--recordings", ".", "--checkpoint", "FILE"], "FILE: not a checkpoint"),
        (["verify", "--recordings", ".", "--proof", "p"], "--proof is for a session's records"),
        (["run", "--set", "warden_sandbox"], "--set 'warden_sandbox' is not NAME=VALUE"),
        (["session", "start", "--proxy", "127.0.0.1:8080"], "--proxy '127.0.0.1:8080' is not a URL"),
        (["session", "start", "--proxy", "ftp://127.0.0.1:1"], "--proxy 'ftp://127.0.0.1:1' is not a URL"),
        (["session", "start", "--folder", "FILE/below", "--token-file", "FILE"], "FILE/below cannot be written"),
        (["rules", "check", "--rules", "nowhere"], "there is no folder nowhere"),
        (["explain", "LINES", "--rules", "RULES"], "LINES:1: not a request: 'method' is missing"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_is_wrong_is_named(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("x.y.z")
    (tmp_path / "LINES").write_text("{}\n")
    (tmp_path / "RULES").symlink_to(Path(__file__).parents[2] / "rules")
    (tmp_path / "evidence.ndjson").touch()
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr


def test_examples_of_rules_that_do_not_check_are_not_run(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["rules", "test", "--rules", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "`flowwarden rules check` names them" in done.stderr


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
    "time", ["2026", "2026-11", "2026-11-20", "2026-11-20T18:00", "2026-11-20T18:00:00Z", "2026-11-20T18:00:00.5Z", ""]
)
def test_times_are_taken_as_records_have_them(time: str) -> None:
    assert moment(time, "--since") == time


def test_other_times_become_those_of_records() -> None:
    assert moment("2026-11-20T18:00:00+02:00", "--since") == "2026-11-20T16:00:00Z"
    assert moment("2026-11-20 18:00", "--since") == "2026-11-20T18:00"
    assert moment("400000d", "--since").startswith("0")
    ago = datetime.fromisoformat(moment("2h", "--since"))
    assert timedelta(hours=2) <= datetime.now(UTC) - ago < timedelta(hours=2, minutes=1)


@pytest.mark.parametrize(
    "time", ["yesterday", "2026-13-40", "2026-1", "2026-11-20T25:00", "2026-11-20T18:00:00+99:00", "9" * 20 + "d"]
)
@pytest.mark.parametrize("command", [["flows"], ["export"], ["replay", "--rules", "."]], ids=" ".join)
def test_what_is_no_time_is_refused(command: list[str], time: str, tmp_path: Path) -> None:
    """A span that nothing falls into would be a green light in a pipeline."""
    for option in ("--since", "--until") if command != ["flows"] else ("--since",):
        done = CliRunner().invoke(main, [*command, "--recordings", str(tmp_path), option, time])
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert f"{option} {time!r} is not a time" in done.stderr


@pytest.mark.parametrize("command", [["session", "start"], ["session", "list"], ["approvals"]], ids=" ".join)
def test_a_file_that_is_no_token_is_not_told(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a private key. Nothing is asked of anybody."""
    held = token_hex(20)
    monkeypatch.setenv("FLOWWARDEN_TOKEN", f"-----BEGIN SOMETHING-----\n{held}\n")
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "holds is no token" in done.stderr
    assert held not in done.output


def test_a_watch_that_the_gateway_ends_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWWARDEN_TOKEN", "x.y.z")
    monkeypatch.setattr(Client, "watch", lambda _self: iter([{"event": "hello"}]))
    done = CliRunner().invoke(main, ["approvals", "watch"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "http://127.0.0.1:8082 has ended the watch" in done.stderr


def test_renew_asks_the_gateway_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("x.y.z")
    monkeypatch.setenv("HTTPS_PROXY", "http://flowwarden:handle@127.0.0.1:1")
    done = CliRunner().invoke(main, ["session", "renew", "id", "--token-file", str(tmp_path / "token")])
    assert done.exit_code == 2
    assert "the gateway at http://127.0.0.1:1 cannot be reached" in done.stderr
    assert "handle" not in done.stderr
