"""RFC 6962 Merkle tree over evidence records: a frontier that grows a leaf at a time, and inclusion proofs."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x00 || data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the perfect subtrees of a growing tree, largest first: all that is needed to grow it and to sign it."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)

    def add(self, leaf: bytes) -> None:
        """Grows the tree by one leaf hash."""
        size = self.size
        while size & 1:
            leaf = sha256(b"\x01" + self.peaks.pop() + leaf).digest()
            size >>= 1
        self.peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The tree head for the present size (32 bytes)."""
        if not self.peaks:
            return EMPTY_ROOT
        result = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            result = node_hash(peak, result)
        return result

    def copy(self) -> Frontier:
        return Frontier(self.size, self.peaks)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The tree head over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf)
    return frontier.root()


class Tree:
    """A tree that is kept whole, 64 bytes a leaf, for the audit paths of many leaves."""

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray()]
        self._built = False

    def __len__(self) -> int:
        return len(self._levels[0]) // 32

    def add(self, leaf: bytes) -> None:
        """Adds a leaf hash."""
        self._levels[0] += leaf
        self._built = False

    def _build(self) -> None:
        """All levels above the leaves: what has no sibling moves up as it is."""
        if self._built:
            return
        levels = self._levels = self._levels[:1]
        while len(levels[-1]) > 32:
            below, above = levels[-1], bytearray()
            for at in range(0, len(below), 64):
                pair = bytes(below[at : at + 64])
                above += sha256(b"\x01" + pair).digest() if len(pair) == 64 else pair
            levels.append(above)
        self._built = True

    def root(self) -> bytes:
        """The tree head."""
        self._build()
        return bytes(self._levels[-1]) or EMPTY_ROOT

    def path(self, index: int) -> list[bytes]:
        """The audit path of a leaf (RFC 6962 section 2.1.1), lowest node first; IndexError beyond the tree."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        self._build()
        path: list[bytes] = []
        for level in self._levels[:-1]:
            sibling = bytes(level[(index ^ 1) * 32 : (index ^ 1) * 32 + 32])
            if sibling:
                path.append(sibling)
            index >>= 1
        return path


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of one leaf."""
    tree = Tree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.path(index)


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The tree head that an audit path leads to (RFC 9162 section 2.1.3.2), None for a path of the wrong shape."""
    if index >= size:
        return None
    node, last = index, size - 1
    result = leaf
    for sibling in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            result = node_hash(result, sibling)
        node >>= 1
        last >>= 1
    return result if last == 0 else None
