"""Tables for people: columns where the terminal has the width for them, else each row as a few lines of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

NARROWEST = 16  # characters of a column below which ids, operations and ARNs are no longer read
GAP = "  "


class Fitting(Table):
    """A table that is drawn as lines (`name value  name value`, what is empty left out) where its columns would be crushed."""

    names: tuple[str, ...] = ()
    cells: list[tuple[Text, ...]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._least(console) <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        yield Text(str(self.title), style="italic")
        for row in self.cells:
            yield from _lines(tuple(zip(self.names, row, strict=True)), console, options.max_width)

    def _least(self, console: Console) -> int:
        """The width at which every column still has its longest word, or NARROWEST."""
        columns = zip(self.names, *self.cells, strict=True) if self.cells else ()
        widths = (
            max(Text(str(cell)).__rich_measure__(console, console.options).minimum for cell in c) for c in columns
        )
        return sum(min(width, NARROWEST) + 3 for width in widths) + 1


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """A table whose cells are plain text: what an agent wrote is never read as markup."""
    names = tuple(columns)
    made = Fitting(title=title, title_justify="left", expand=False, show_header=any(names))
    made.names, made.cells = names, [tuple(_cell(cell) for cell in row) for row in rows]
    for name in names:
        made.add_column(name, overflow="fold")
    for row in made.cells:
        made.add_row(*row)
    return made


def _lines(row: tuple[tuple[str, Text], ...], console: Console, width: int) -> Iterator[Text]:
    """The first cell, then the others with their names, as many on a line as fit; lines after the first are set in."""
    lines, empty = [Text()], True
    for at, (name, cell) in enumerate(row):
        if not cell.plain:
            continue
        value = Text(", ".join(cell.plain.splitlines()))
        part = value if at == 0 else Text.assemble((f"{name} " if name else "", "dim"), value)
        if not empty and lines[-1].cell_len + len(GAP) + part.cell_len > width - len(GAP):
            lines.append(Text())
            empty = True
        lines[-1] = part if empty else Text.assemble(lines[-1], GAP, part)
        empty = False
    folded = [each for line in lines for each in line.wrap(console, width - len(GAP), overflow="fold")]
    yield from (Text.assemble(GAP if at else "", each) for at, each in enumerate(folded))


def _cell(value: object) -> Text:
    text = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text))
