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
