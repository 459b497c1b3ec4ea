"""The journal: small batches become durable here with one cheap sync, before the files that they belong to are synced.

An fdatasync of a file that grows writes the file system's own journal too, and a batch touches several files. So frames
and log lines are written into their files as usual, where every reader sees them, and their bytes once more into a file
of fixed size, which alone is synced. Now and then the files are synced and the journal begins anew. A start puts back
into the files what a power cut took from them.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

from .disk import Disk

FILE = ".journal"
SIZE = 8 << 20
LARGEST = 1 << 20  # bytes of a batch that goes through the journal; above it one sync of each file is cheaper
_HEAD = struct.Struct(">4sQII")  # magic, generation, number within it, length of what follows
_CRC = struct.Struct(">I")
_MAGIC = b"FWJ1"
_OURS = re.compile(r"evidence\.ndjson|flows/\d{4}-\d\d-\d\d/[A-Za-z0-9][A-Za-z0-9._-]*\.mitm")

Piece = tuple[str, int, bytes]  # file below recordings/, offset, data


class Journal:
    """An open journal. Every method raises OSError."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._disk = disk
        self._path = folder / FILE
        self._generation = max((entry[0] for entry in _entries(self._path)), default=0) + 1
        self._number = self._offset = 0
        self._handle = disk.prepare(self._path, SIZE)
        disk.sync_folder(folder)

    def takes(self, pieces: Sequence[Piece]) -> bool:
        """Whether a batch is small enough, and there is room for it; if not, sync the files and call `reset`."""
        size = sum(len(data) + len(name) + 48 for name, _, data in pieces)
        return size <= LARGEST and self._offset + size + _HEAD.size + _CRC.size + 64 <= SIZE

    def put(self, pieces: Sequence[Piece]) -> None:
        """Makes a batch durable."""
        where = json.dumps([(name, offset, len(data)) for name, offset, data in pieces]).encode()
        body = b"".join((where, b"\n", *(data for _, _, data in pieces)))
        head = _HEAD.pack(_MAGIC, self._generation, self._number, len(body))
        entry = b"".join((head, body, _CRC.pack(crc32(body, crc32(head)))))
        self._disk.overwrite(self._handle, entry, self._offset)
        self._offset += len(entry)
        self._number += 1

    def reset(self) -> None:
        """Begins anew; all that was put must be durable in its files by now."""
        if self._number:
            self._generation += 1
            self._number = self._offset = 0

    def close(self, done: bool) -> None:
        """Closes; with `done` all is durable in its files and the journal goes."""
        self._disk.close(self._handle)
        if done:
            self._path.unlink(missing_ok=True)


def replay(folder: Path) -> None:
    """Puts back what the files lack of the journal's batches, durably. OSError."""
    touched: set[Path] = set()
    for _, pieces in _entries(folder / FILE):
        for name, offset, data in pieces:
            path = folder / name
            if _restore(path, offset, data):
                touched.add(path)
    for path in touched:
        handle = os.open(path, os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _restore(path: Path, offset: int, data: bytes) -> bool:
    """Writes data into a file unless it is there; whether it was missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        if os.pread(handle, len(data), offset) == data:
            return False
        os.pwrite(handle, data, offset)
        return True
    finally:
        os.close(handle)


def _entries(path: Path) -> Iterator[tuple[int, list[Piece]]]:
    """The journal's whole entries of its newest generation: (generation, pieces), up to the first that is torn."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    at = number = generation = 0
    while at + _HEAD.size <= len(data):
        magic, found, count, length = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        if magic != _MAGIC or count != number or end + _CRC.size > len(data) or (number and found != generation):
            return
        if _CRC.unpack_from(data, end)[0] != crc32(data[at:end]):
            return
        generation = found
        yield generation, _pieces(data[at + _HEAD.size : end])
        at = end + _CRC.size
        number += 1


def _pieces(body: bytes) -> list[Piece]:
    where, _, data = body.partition(b"\n")
    pieces: list[Piece] = []
    at = 0
    for name, offset, length in json.loads(where):
        if _OURS.fullmatch(name):  # nothing that stands in a file makes the gateway write anywhere else
            pieces.append((name, offset, data[at : at + length]))
        at += length
    return pieces
