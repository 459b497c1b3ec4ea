"""Made examples: `ghp_<alnum:36>` becomes random text of that form, so that no rule file holds anything like a real secret."""

from __future__ import annotations

import random
import re
import string
import uuid

_LOWER_HEX = "0123456789abcdef"
SETS = {
    "alnum": string.ascii_letters + string.digits,
    "ALNUM": string.ascii_uppercase + string.digits,
    "lalnum": string.ascii_lowercase + string.digits,
    "alpha": string.ascii_letters,
    "digit": string.digits,
    "hex": _LOWER_HEX,
    "HEX": _LOWER_HEX.upper(),
    "b64": string.ascii_letters + string.digits + "+/",
    "b64url": string.ascii_letters + string.digits + "-_",
    "b32": string.ascii_uppercase + "234567",
    "bech": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
}
_PLACE = re.compile(r"<(uuid4?|[A-Za-z0-9]+:\d+)>")


def random_text(name: str, count: int, rng: random.Random) -> str:
    """`count` characters of a set. Letters and digits begin and end it; sets with digits and letters hold both."""
    if name == "digit9":
        return rng.choice("123456789") + "".join(rng.choices(string.digits, k=count - 1))
    chars = SETS[name]
    inner = [c for c in chars if c.isalnum()]
    while True:
        made = (
            rng.choice(inner)
            + "".join(rng.choices(chars, k=max(0, count - 2)))
            + (rng.choice(inner) if count > 1 else "")
        )
        kinds = [kind for kind in (str.isdigit, str.islower, str.isupper) if any(kind(c) for c in chars)]
        if count < 8 or all(any(kind(c) for c in made) for kind in kinds):
            return made


def places(template: str) -> list[str]:
    """The places of a template, each a template of its own."""
    return [match.group() for match in _PLACE.finditer(template)]


def fill(template: str, rng: random.Random) -> str:
    """A template with random text in its places; ValueError for a place nobody knows."""

    def place(match: re.Match[str]) -> str:
        what = match.group(1)
        if what.startswith("uuid"):
            return str(uuid.UUID(int=rng.getrandbits(128), version=4))
        name, _, count = what.partition(":")
        if name not in SETS and name != "digit9":
            raise ValueError(f"there is no set of characters called {name!r}: {', '.join(sorted(SETS))}")
        return random_text(name, int(count), rng)

    return _PLACE.sub(place, template)
