"""What several verbs share: their arguments, and how lines and tables are printed."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from paredown.models.printable import harmless
from paredown.pipeline.commands.exit_codes import show_tracebacks

RECIPE_ARGUMENT = click.argument("recipe", type=click.Path(path_type=Path))
OUT_OPTION = click.option(
    "--out", default="runs", show_default=True, type=click.Path(path_type=Path), help="Folder of all runs."
)
TRACEBACK_OPTION = click.Option(
    ["-v", "--verbose"],
    is_flag=True,
    expose_value=False,
    callback=lambda context, option, given: show_tracebacks(True) if given else None,
    help="Show where in the code a failure came from.",
)


NAME_WIDTH = 14
"""Characters that the names in a table of measures need at least, with the space behind them."""
WIDEST = 10_000
"""Characters of a table, as if a terminal had no end."""


def show_rows(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Prints rows of equal keys to stdout, as JSON or as a table."""
    if as_json:
        click.echo(json.dumps(list(rows), indent=2))
    else:
        print_table(rows)


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*(rows[0] if rows else ()), box=None)
    for row in rows:
        table.add_row(*(escape(_cell(cell)) for cell in row.values()))
    Console(file=sys.stdout).print(table)


def print_measures(rows: Sequence[dict[str, str]]) -> None:
    """Prints a table of names and of numbers with their intervals in brackets; these go below their numbers where the
    terminal has no room for them beside: `2.02 (2.001 to 2.043)`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout)

    def table(between: str, whole: bool) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for number, heading in enumerate(rows[0] if rows else ()):
            made.add_column(heading, no_wrap=whole and number > 0)
        for row in rows:
            made.add_row(*(Text(harmless(cell).replace(" (", f"{between}(")) for cell in row.values()))
        return made

    room = console.options.update(max_width=WIDEST)
    beside = table(" ", whole=True)
    if console.measure(beside, options=room).maximum <= console.width:
        console.print(beside)
    else:
        console.print(table("\n", whole=NAME_WIDTH + _width_below(rows) <= console.width))


def _width_below(rows: Sequence[dict[str, str]]) -> int:
    """Characters of all columns but the first, with what is in brackets below the numbers."""
    columns = [[heading, *(row[heading] for row in rows)] for heading in [*rows[0]][1:]]
    return sum(
        1 + max(len(line) for cell in column for line in cell.replace(" (", "\n(").split("\n")) for column in columns
    )


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
    return harmless(str(value))


def tell(line: str) -> None:
    """Prints a line for people to stderr: stdout is for results."""
    click.echo(line, err=True)
