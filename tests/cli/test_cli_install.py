"""What `pip install .` leaves is enough for `flowwarden init`: the files to start from come with the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "mitm.conf", "rules", "addons")
SHARE = "share/flowwarden"


def test_the_wheel_holds_what_init_writes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in PARTS:
        part = ROOT / name
        if part.is_dir():
            shutil.copytree(part, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(part, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "-w", str(tmp_path), str(source)], check=True, timeout=240)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    found = {name.partition(f"{SHARE}/")[2] for name in names if f".data/data/{SHARE}/" in name}
    assert found == {"mitm.conf", *(f"rules/{file.name}" for file in (ROOT / "rules").iterdir())}
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert all(f"COPY {name}" in dockerfile or f"{name} ./" in dockerfile for name in ("rules", "mitm.conf"))


def test_init_finds_them_where_they_were_installed(tmp_path: Path) -> None:
    """A package outside of a checkout, with a prefix of its own."""
    place = tmp_path / "prefix" / "lib" / "site-packages"
    shutil.copytree(ROOT / "addons" / "flowwarden", place / "flowwarden", ignore=shutil.ignore_patterns("__pycache__"))
    share = tmp_path / "prefix" / SHARE
    share.mkdir(parents=True)
    shutil.copy(ROOT / "mitm.conf", share)
    shutil.copytree(ROOT / "rules", share / "rules")
    program = (
        f"import sys, sysconfig; sys.path.insert(0, {str(place)!r}); real = sysconfig.get_path; "
        f"sysconfig.get_path = lambda name, *more: {str(tmp_path / 'prefix')!r} if name == 'data' else real(name, *more); "
        "from flowwarden.cli import main; main(['init', 'gate'])"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, timeout=60)
    assert (tmp_path / "gate" / "rules" / "policy.yaml").is_file()
