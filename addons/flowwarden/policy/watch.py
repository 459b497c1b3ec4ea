"""Rules: the set in force, taken up anew when its files change; a set that does not check leaves the last good one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import RuleError
from . import check
from .ruleset import RuleSet, files, load


class Rules:
    """Holds `current`. Call `reload_if_changed` from a timer, off the hot path, at least once a second.

    `alarm` is empty, or says why the files on disk are not what is in force. The constructor raises RuleError: without
    one good set there is nothing to decide by.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alarm = ""
        self._contents = _contents(folder)
        self.current: RuleSet = _checked(folder)

    def reload_if_changed(self) -> bool:
        """Whether a new set is in force now. Never raises.

        Goes by contents: a change within the grain of the file system's clock leaves size and time as they were.
        """
        contents = _contents(self.folder)
        if contents == self._contents:
            return False
        self._contents = contents
        try:
            found = _checked(self.folder)
        except RuleError as error:
            self.alarm = str(error)
            return False
        except Exception as error:  # a fault here neither takes the gate down nor opens it
            self.alarm = f"the rules cannot be read: {error!r}"
            return False
        self.alarm = ""
        changed = found.digest != self.current.digest
        self.current = found
        return changed


def _checked(folder: Path) -> RuleSet:
    """Rules that load and have no finding of severity error; else RuleError."""
    found = load(folder)
    for finding in check.findings(found):
        if finding.severity == "error":
            raise RuleError(finding.message, finding.file, finding.line)
    return found


def _contents(folder: Path) -> str:
    """A digest of all rule files; a word for what keeps them from being read."""
    digest = hashlib.sha256()
    try:
        for path in files(folder):
            data = path.read_bytes()
            digest.update(f"{path}\0{len(data)}\0".encode() + data)
    except (OSError, RuleError) as error:
        return f"unreadable: {error}"
    return digest.hexdigest()
