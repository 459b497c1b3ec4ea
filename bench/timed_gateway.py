"""`flowwarden run` with a stopwatch on every station's hooks. Writes {station: [seconds, calls]} when it is told to (SIGUSR1)."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

from flowwarden import chain, run

spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])


class Timed:
    """An awaitable that counts only the time in which it runs, not that in which it waits."""

    def __init__(self, name: str, inner: Coroutine[Any, Any, Any]) -> None:
        self.name, self.inner = name, inner

    def __await__(self) -> Generator[Any, Any, Any]:
        sent = None
        while True:
            began = time.perf_counter()
            try:
                wanted = self.inner.send(sent)
            except StopIteration as done:
                return done.value
            finally:
                spent[self.name][0] += time.perf_counter() - began
            sent = yield wanted


def timed(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        began = time.perf_counter()
        try:
            made = hook(*args)
        finally:
            spent[name][0] += time.perf_counter() - began
            spent[name][1] += 1
        return Timed(name, made) if made is not None else None

    return run


def main() -> None:
    make = chain.guard

    def guard(services: Any) -> Any:
        made = make(services)
        for event in ("requestheaders", "request", "responseheaders", "response"):
            made.table[event] = tuple((station, timed(station.name, hook)) for station, hook in made.table[event])
        for name in ("sign", "dial"):
            setattr(made.signer, name, _timed_value("sign", getattr(made.signer, name)))
        made.seal = _timed_value("seal", made.seal)  # type: ignore[method-assign]
        return made

    run.chain.guard = guard  # type: ignore[attr-defined]
    out = Path(sys.argv[2])
    signal.signal(
        signal.SIGUSR1,
        lambda *_: (out.with_suffix(".tmp").write_text(json.dumps(spent)), out.with_suffix(".tmp").replace(out)),
    )
    signal.signal(signal.SIGUSR2, lambda *_: spent.clear())
    raise SystemExit(asyncio.run(run.run(Path(sys.argv[1]))))


def _timed_value(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args)
        finally:
            spent[name][0] += time.perf_counter() - began

    return run


if __name__ == "__main__":
    main()
