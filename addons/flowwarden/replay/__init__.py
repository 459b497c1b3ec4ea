"""Replay: a recorded session against a sandbox, as a server for an agent, or against other rules.

Each mode is a plain function, so that a recorded session can be a regression test in a pytest of one's own:

    from pathlib import Path
    from flowwarden import replay

    RECORDINGS, SESSION = Path("recordings"), "0199aaaa-0000-7000-8000-000000000001"

    def test_the_sandbox_still_answers_alike(moto_url):
        assert [one.diff for one in replay.replay_to(RECORDINGS, SESSION, moto_url) if one.verdict == "different"] == []

    def test_the_agent_still_makes_these_calls(monkeypatch):
        with replay.serving(RECORDINGS, SESSION) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
            run_my_agent()
            assert server.answers.misses == []

    def test_tomorrows_rules_let_it_run():
        assert replay.redecide(RECORDINGS, Path("rules"), session=SESSION).refused == []
"""

from .answers import Answer, Answers, Miss
from .decide import Changed, Redecided, redecide
from .send import Compared, replay_to
from .serve import Server, serving

__all__ = [
    "Answer",
    "Answers",
    "Changed",
    "Compared",
    "Miss",
    "Redecided",
    "Server",
    "redecide",
    "replay_to",
    "serving",
]
