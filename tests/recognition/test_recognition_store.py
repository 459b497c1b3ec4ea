"""The cache of tables: never trusted when it is torn, altered, somebody else's or a link; never needed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from flowwarden.recognition import store
from flowwarden.recognition.recogniser import Recogniser
from flowwarden.recognition.store import Store
from flowwarden.types import Request


def built(calls: list[int]) -> dict[str, int]:
    calls.append(1)
    return {"answer": 42}


def test_a_table_is_built_once(tmp_path: Path) -> None:
    calls: list[int] = []
    for _ in range(2):
        assert Store(tmp_path / "a" / "b").get("t", lambda: built(calls)) == {"answer": 42}
    assert len(calls) == 1


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "list", "link", "writable", "folder"])
def test_a_spoilt_table_is_built_again(tmp_path: Path, harm: str) -> None:
    """Torn, altered, foreign: it is as if the file were not there, and it is put right."""
    folder = tmp_path / "a" / "b"
    calls: list[int] = []
    Store(folder).get("t", lambda: built(calls))
    path = folder / "t.json"
    raw = path.read_bytes()
    if harm == "cut":
        path.write_bytes(raw[:-1])
    elif harm == "flip":
        path.write_bytes(raw.replace(b"42", b"43"))
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "list":
        path.write_bytes(b"[]")
    elif harm == "link":
        other = tmp_path / "other"
        other.write_bytes(raw)
        path.unlink()
        path.symlink_to(other)
    elif harm == "writable":
        path.chmod(0o666)
    else:
        path.unlink()
        path.mkdir()
    assert Store(folder).get("t", lambda: built(calls)) == {"answer": 42}
    assert len(calls) == 2
    if harm not in {"folder"}:
        Store(folder).get("t", lambda: built(calls))
        assert len(calls) == 2 and not path.is_symlink()


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    """Who could put a file there could rename DeleteUser to GetUser."""
    for spoilt in (tmp_path / "x" / "y", tmp_path / "x"):
        folder = tmp_path / "x" / "y"
        folder.mkdir(parents=True, exist_ok=True)
        spoilt.chmod(0o777)
        calls: list[int] = []
        for _ in range(2):
            Store(folder).get("t", lambda calls=calls: built(calls))  # type: ignore[misc]
        assert len(calls) == 2 and not (folder / "t.json").exists()
        spoilt.chmod(0o700)


def test_a_place_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    """A read-only or missing home: tables live in memory."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert Store(blocked / "x").get("t", lambda: {"a": 1}) == {"a": 1}


def test_the_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert store.default_folder() == Path("/somewhere/flowwarden")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert store.default_folder() == Path(os.path.expanduser("~/.cache/flowwarden"))


def test_tables_are_loaded_when_they_are_needed(tmp_path: Path) -> None:
    """A start reads the index of hosts only; a call loads its own service; the second start builds nothing."""
    first = Recogniser(tmp_path / "c")
    (folder,) = (tmp_path / "c").iterdir()
    assert [path.name for path in folder.iterdir()] == ["index.json"]
    first.recognise(Request("GET", "https", "b.s3.amazonaws.com", 443, "/k"))
    assert sorted(path.name for path in folder.iterdir()) == ["index.json", "service-s3.json"]
    stamp = (folder / "index.json").stat().st_mtime_ns
    second = Recogniser(tmp_path / "c")
    assert (folder / "index.json").stat().st_mtime_ns == stamp
    assert second.recognise(Request("GET", "https", "b.s3.amazonaws.com", 443, "/k")).operation is not None


def test_a_cached_table_holds_no_code(tmp_path: Path) -> None:
    """Tables are JSON beside their digest: reading one runs nothing."""
    Store(tmp_path / "a" / "b").get("t", lambda: {"answer": 42})
    digest, body = (tmp_path / "a" / "b" / "t.json").read_bytes().split(b"\n", 1)
    assert len(digest) == 64 and json.loads(body) == {"answer": 42}
