"""How a recording starts: folders, key, repair, and the records that say so."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import StoreError
from . import keys
from .canonical import canonical
from .disk import Disk
from .ledger import DiskError, Entry, Ledger
from .note import Signer
from .records import UNKNOWN, outcome
from .recover import REPAIR, Found, recover
from .rotate import settle


def begin(
    folder: Path,
    *,
    configuration: Mapping[str, Any],
    clock: Callable[[], float],
    key: Path,
    disk: Disk,
) -> Ledger:
    """Repairs the folder and puts down `start`, the gaps and the outcomes that are not known. StoreError."""
    try:
        for name in ("flows", "bodies"):
            disk.folder(folder / name)
        found = recover(folder)
        origin = found.origin or f"flowwarden.internal/{secrets.token_hex(8)}"
        signer = _signer(key, origin, found)
        ledger = Ledger(folder, found.head, origin=origin, signers=[signer], clock=clock, disk=disk)
        ledger.checkpointed, ledger.run = found.checkpointed, found.runs + 1
        ledger.commit([Entry("start", _start(configuration, origin, str(signer.verifier), found)), *aftermath(found)])
        ledger.checkpoint()
        (folder / REPAIR).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}") from error
    except DiskError as error:
        raise StoreError(f"{folder} cannot be written: {error}") from error
    return ledger


def _signer(path: Path, origin: str, found: Found) -> Signer:
    """The key signs under the log's own name, as C2SP's tlog-checkpoint asks for."""
    if found.key:
        settle(path, found.key)
    private, made = keys.load_or_make(path)
    signer = Signer(origin, private)
    if found.key and str(signer.verifier) != found.key:
        if made:
            path.unlink()
        raise StoreError(
            f"{path} is not the key that this recording is signed with",
            "Bring the key back, rotate it with both keys at hand, or record to a new folder",
        )
    return signer


def _start(configuration: Mapping[str, Any], origin: str, key: str, found: Found) -> dict[str, Any]:
    return {
        "origin": origin,
        "key": key,
        "version": __version__,
        "configuration_sha256": sha256(canonical(configuration)).hexdigest(),
        "code_sha256": code_digest(),
        "parts": _parts(),
        "run": found.runs + 1,
        "pid": os.getpid(),
    }


def aftermath(found: Found) -> list[Entry]:
    """The records that say what a crash left: gaps, and intents whose outcome nobody will ever know."""
    entries = [Entry("gap", gap) for gap in found.gaps]
    for left in found.unknown:
        record = outcome(left["flow"], UNKNOWN, intent=left["intent"], session=left["session"], code="OUTCOME_UNKNOWN")
        record["reason"] = "the gateway stopped before the outcome was recorded"
        if "frame" in left:
            record["frame"] = left["frame"]
        entries.append(Entry("outcome", record))
    return entries


@cache
def code_digest() -> str:
    """SHA-256 over the package's files: names and contents, in order of their names."""
    root = Path(__file__).parent.parent
    digest = sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _parts() -> dict[str, str]:
    parts = {"python": platform.python_version()}
    for name in ("mitmproxy", "botocore"):
        try:
            parts[name] = version(name)
        except PackageNotFoundError:
            parts[name] = ""
    return parts
