"""Replay: a recorded session against a sandbox, as a server for an agent, or against other rules.

Each mode is a plain function, so that a recorded session can be a regression test: docs/replay.md has examples.
"""

from .answers import Answer, Answers, Miss
from .decide import Changed, Redecided, redecide
from .secrets import Secrets
from .send import Compared, replay_to
from .serve import Server, serving

__all__ = [
    "Answer",
    "Answers",
    "Changed",
    "Compared",
    "Miss",
    "Redecided",
    "Secrets",
    "Server",
    "redecide",
    "replay_to",
    "serving",
]
