"""Replay: a recorded session against a sandbox, as a server for an agent, or against other rules.

Each mode is a plain function, so that a recorded session can be a regression test:

    from pathlib import Path
    from flowwarden import replay

    def test_session_still_works(moto_url: str) -> None:
        compared = replay.replay_to(Path("recordings"), "0198c0de-…", moto_url)
        assert [one for one in compared if one.verdict != "same"] == []
"""

from .send import Compared, replay_to

__all__ = ["Compared", "replay_to"]
