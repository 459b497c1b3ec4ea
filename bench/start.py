"""Seconds from starting `flowwarden run` until it listens: without any cache of recognition's tables, and with it."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import gate
from load import free_port


def measure(rounds: int = 3) -> dict[str, float]:
    """The best of a few rounds; the last of the files that Python reads are in the page cache."""
    with TemporaryDirectory(prefix="flowwarden-bench-") as cache:
        cold = min(_once(Path(cache) / str(number)) for number in range(rounds))
        warm = min(_once(Path(cache) / "0") for _ in range(rounds))
    return {"listens after, without cache, s": cold, "listens after, with cache, s": warm}


def _once(cache: Path) -> float:
    cache.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="flowwarden-bench-")))
        gate.token(folder)
        port = free_port()
        began = time.perf_counter()
        process = gate.start(
            folder, port, free_port(), "http://127.0.0.1:9", {**os.environ, "XDG_CACHE_HOME": str(cache)}
        )
        stack.callback(gate._stop, process)
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return time.perf_counter() - began
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError("the gateway ended") from None
                time.sleep(0.005)


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:34} {value:.2f}")
