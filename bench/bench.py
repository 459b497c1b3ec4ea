"""`make bench`: the gateway beside a bare mitmdump, what each station costs, and what each part does alone. No test."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

PARTS = ("start", "recognition", "policy", "signing", "masking", "recording", "upload", "download")


def main() -> None:
    import gate

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    quick = bool(os.environ.get("QUICK"))
    runs = gate.measure(rounds=1 if quick else 5, requests=1000 if quick else 4000)
    plain = runs["mitmdump"]
    table = Table(
        "", "CPU µs a call", "ratio", "calls a second", "p50 ms", "p99 ms", title="A small call, 8 connections"
    )
    for name, run in runs.items():
        ratio = f"{run.cpu / plain.cpu:.2f}"
        table.add_row(name, f"{run.cpu:.0f}", ratio, f"{run.rate:.0f}", f"{run.p50:.2f}", f"{run.p99:.2f}")
    console.print(table)
    spent = gate.stations(1000 if quick else 4000)
    table = Table("station", "µs a small call", title="What each station takes, one connection, all of them on")
    for name, micros in spent.items():
        table.add_row(name, f"{micros:.1f}")
    table.add_row("together", f"{sum(spent.values()):.1f}")
    console.print(table)
    for part in sys.argv[1:] or PARTS:
        table = Table("", "", title=part)
        for name, value in importlib.import_module(part).measure().items():
            table.add_row(name, f"{value:,.2f}")
        console.print(table)


if __name__ == "__main__":
    main()
