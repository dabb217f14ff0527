"""The outcome as a table that people read at a terminal; also with 80 columns, and without colours."""

import re
import sys
from collections.abc import Iterator
from io import StringIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from paredown.models.printable import printable
from paredown.pipeline.gate.amounts import machine_in_words
from paredown.pipeline.gate.formats.wording import (
    change_cell,
    check_sentence,
    headline,
    limit_in_words,
    model_cell,
    shortened_text,
    value_cell,
    value_with_unit,
)
from paredown.pipeline.gate.outcome import WARNING, BudgetCheck, GateOutcome, OutcomeTable, Verdict

STYLES: dict[Verdict, str] = {"pass": "green", "fail": "bold red"}
UNDECIDED = "yellow"
FLAT = ("check", "verdict", "limit")
"""Columns of text; the others hold numbers and are set right."""


def as_table(outcome: GateOutcome) -> str:
    """The checks, a sentence for each that did not pass, the outcome's further tables, and the verdict in one line."""
    file = StringIO()
    console = Console(file=file, force_terminal=sys.stdout.isatty() or None, highlight=False, emoji=False)
    console.print(_checks(outcome))
    for check in outcome.checks:
        if check.verdict != "pass":
            console.print(Padding(Text(check_sentence(check)), (1, 0, 0, 0)))
    for one in outcome.tables:
        console.print(Padding(_listed(one), (1, 0, 0, 0)))
    console.print()
    for line in _facts(outcome):
        console.print(Text(line, style=UNDECIDED if line.startswith(WARNING) else "dim"))
    console.print(Text(headline(outcome), style=_style(outcome.verdict)))
    return without_commands("\n".join(line.rstrip() for line in file.getvalue().splitlines())) + "\n"


def without_commands(text: str) -> str:
    """The text with a space inside of what CI systems take for a command: `::` that starts a line, and `##`."""
    return re.sub(r"(?m)^(\s*):(?=:)", r"\1: ", text.replace("##", "# #"))


def _facts(outcome: GateOutcome) -> Iterator[str]:
    yield from (printable(fact, 1000) for fact in outcome.facts)
    where = [
        part for part in (shortened_text(outcome.runtime), printable(machine_in_words(outcome.machine), 1000)) if part
    ]
    yield "; ".join([*where, f"{outcome.seconds:.1f} s"])


def _checks(outcome: GateOutcome) -> Grid:
    grid = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("check", "baseline", "model", "change", "limit", "verdict"):
        grid.add_column(name, justify="left" if name in FLAT else "right", overflow="fold")
    for check in outcome.checks:
        grid.add_row(*map(Text, _row(check)), Text(check.verdict, style=_style(check.verdict)))
    return grid


def _row(check: BudgetCheck) -> tuple[str, ...]:
    values = value_with_unit(check.before, check.unit), model_cell(check)
    return (shortened_text(check.name), *values, change_cell(check), limit_in_words(check))


def _listed(one: OutcomeTable) -> Grid:
    grid = Grid(
        title=Text(shortened_text(one.title)), title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False
    )
    keys = tuple(one.rows[0]) if one.rows else ()
    for key in keys:
        number = any(isinstance(row.get(key), int | float) for row in one.rows)
        grid.add_column(Text(shortened_text(key)), justify="right" if number else "left", overflow="fold")
    for row in one.rows:
        grid.add_row(*(Text(value_cell(key, row.get(key))) for key in keys))
    return grid


def _style(verdict: Verdict) -> str:
    return STYLES.get(verdict, UNDECIDED)
