"""What the tests of masking share: made secrets, calls, headers, and the shipped rules loaded once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import random
import string
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from awscrt import checksums

from flowwarden.masking import rules
from flowwarden.masking.masker import Masker
from flowwarden.types import Action, Call, Headers, Operation

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "rules" / "masks.yaml"
EVERYTHING = {
    "default": "deny",
    "rules": [{"id": "all", "effect": "allow", "groups": ["developers"], "actions": ["*"]}],
}  # what masks are tried with must not be refused for another reason
_ALNUM = string.ascii_letters + string.digits


def _b64(number: int, size: int) -> str:
    return base64.b64encode(number.to_bytes(size, "big")).decode()


SUMS: dict[str, Callable[[bytes], str]] = {
    "crc32": lambda data: _b64(binascii.crc32(data), 4),
    "crc32c": lambda data: _b64(checksums.crc32c(data), 4),
    "crc64nvme": lambda data: _b64(checksums.crc64nvme(data), 8),
    "sha1": lambda data: base64.b64encode(hashlib.sha1(data).digest()).decode(),
    "sha256": lambda data: base64.b64encode(hashlib.sha256(data).digest()).decode(),
}
"""The checksums of S3, as their header fields have them."""


def alnum(count: int, seed: int = 7) -> str:
    """Random letters and digits, the same for the same seed; never a real secret."""
    return "".join(random.Random(seed).choices(_ALNUM, k=count))


def github(seed: int = 1) -> str:
    """A token in GitHub's form."""
    return "ghp" + "_" + alnum(36, seed)


def aws_secret(seed: int = 2) -> str:
    """Something in the form of an AWS secret access key."""
    return "aB3/" + alnum(36, seed)


def call(operation: str = "", protocol: str = "json", **more: object) -> Call:
    """A recognised call such as `logs:GetLogEvents`; plain HTTP without an operation."""
    service, _, name = operation.partition(":")
    return Call(
        aws=bool(operation),
        operation=Operation(service, name) if operation else None,
        protocol=protocol if operation else "",
        actions=(Action(operation),) if operation else (),
        **more,  # type: ignore[arg-type]
    )


def headers(content_type: str = "application/x-amz-json-1.1", **more: str) -> Headers:
    """Header fields; underscores in names stand for dashes."""
    fields = {"content-type": content_type, **{name.replace("_", "-"): value for name, value in more.items()}}
    return tuple((name.encode(), value.encode()) for name, value in fields.items())


@lru_cache
def shipped() -> Masker:
    """The masker of the shipped rules for someone in no group."""
    return rules.load(SHIPPED).for_groups(frozenset())


def masker(tmp_path: Path, text: str, *groups: str) -> Masker:
    """A masker of a rule text."""
    file = tmp_path / "masks.yaml"
    file.write_text(text, encoding="utf-8")
    return rules.load(file).for_groups(frozenset(groups))
