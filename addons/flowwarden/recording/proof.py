"""A session's proof: its records, each with the path that leads from it to a signed tree head.

It can be checked alone, without the recording and without this package: docs/verify_proof.py does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ..errors import StoreError
from . import note
from .ledger import CHECKPOINTS, LOG
from .merkle import Tree, leaf_hash

FORMAT = "flowwarden-proof-1"


def proof(
    folder: Path,
    *,
    session: str | None = None,
    flows: Collection[str] | None = None,
    checkpoint: str = "",
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """The proof of a session, or of named flows: {format, key, checkpoint, records: [{seq, record, path}]}.

    `record` is the line as it was signed, `path` its RFC 6962 audit path in hex. `checkpoint` is a signed note to prove
    against, the newest of the recording by default. StoreError if there is nothing to prove, or nothing signed over it.
    """
    chosen = set(flows) if flows is not None else None
    text = checkpoint or _newest(folder)
    head = note.parse(text)
    tree, keys, wanted = Tree(), [], []
    with _open(folder / LOG) as file:
        for seq, line in enumerate(file):
            if seq >= head.size:
                break
            tree.add(leaf_hash(line[:-1]))
            if progress and not seq % 1000:
                progress(seq)
            if b'"type":"start"' in line or b'"type":"key"' in line:
                keys.append(json.loads(line))
            if _concerns(line, session, chosen):
                wanted.append((seq, line[:-1].decode()))
    if not wanted:
        what = f"session {session}" if session else "what was asked for"
        raise StoreError(f"nothing of {what} is signed yet", "Wait ten seconds, or name a session that is there")
    if len(tree) < head.size or tree.root() != head.root:
        raise StoreError("the recording is not the one that its checkpoint was signed over", "Run `flowwarden verify`")
    return {
        "format": FORMAT,
        "key": _key(keys),
        "checkpoint": text,
        "records": [
            {"seq": seq, "record": record, "path": [node.hex() for node in tree.path(seq)]} for seq, record in wanted
        ],
    }


def _concerns(line: bytes, session: str | None, flows: set[str] | None) -> bool:
    """Whether a record is about what was asked for; the cheap test of bytes comes first."""
    if session is not None and session.encode() not in line:
        return False
    if session is None and flows is None:
        return True
    record = json.loads(line)
    return (session is None or record.get("session") == session) and (flows is None or record.get("flow") in flows)


def _key(records: list[dict[str, Any]]) -> str:
    """The key of the newest record that names one."""
    for record in reversed(records):
        found = record.get("new") or record.get("key")
        if found:
            return str(found)
    raise StoreError("no record names the key")


def _newest(folder: Path) -> str:
    try:
        texts = list(note.split((folder / CHECKPOINTS).read_text("utf-8").splitlines(keepends=True)))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{folder / CHECKPOINTS} cannot be read: {error}") from None
    if not texts:
        raise StoreError(f"{folder} has no checkpoint yet")
    return texts[-1]


def _open(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
