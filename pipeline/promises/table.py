"""A verification as a table that people read at a terminal, in the form of the gate's."""

import sys
from dataclasses import asdict
from io import StringIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from paredown.models.printable import printable
from paredown.pipeline.gate.amounts import machine_in_words, readable_amount
from paredown.pipeline.gate.formats.table import UNDECIDED, without_commands
from paredown.pipeline.gate.formats.wording import shortened_text
from paredown.pipeline.gate.formats.write import json_text
from paredown.pipeline.gate.outcome import WARNING
from paredown.pipeline.promises.promise import Finding, Promise, Unit, Verification

STYLES: dict[Finding, str] = {"pass": "green", "fail": "bold red", "no limit": "dim"}
COLUMNS = ("promise", "original", "artifact", "manifest", "here", "limit", "found")
TEXTS = ("promise", "limit", "found")
VERSION = 1
"""Of the JSON form; it grows when a field goes or changes its meaning."""
LONGEST = 1000
"""Characters of a sentence."""


def as_table(verification: Verification) -> str:
    """The promises, a sentence for each that is not simply kept, how it was measured, and the verdict in one line."""
    file = StringIO()
    console = Console(file=file, force_terminal=sys.stdout.isatty() or None, highlight=False, emoji=False)
    console.print(_grid(verification))
    for one in verification.promises:
        if one.finding not in ("pass", "no limit") and one.because:
            text = Text(f"{shortened_text(one.name)}: {printable(one.because, LONGEST)}")
            console.print(Padding(text, (1, 0, 0, 0)))
    console.print()
    for line in verification.facts:
        style = UNDECIDED if line.startswith(WARNING) else "dim"
        console.print(Text(printable(line, LONGEST), style=style))
    if where := _where(verification):
        console.print(Text(where, style="dim"))
    console.print(Text(headline(verification), style=STYLES.get(verification.verdict, UNDECIDED)))
    return without_commands("\n".join(line.rstrip() for line in file.getvalue().splitlines())) + "\n"


def as_json(verification: Verification) -> str:
    """Everything, keys sorted; what is no number (a value that is not finite) is null."""
    content = {**asdict(verification), "verdict": verification.verdict, "version": VERSION}
    return json_text(content)


def headline(verification: Verification) -> str:
    """The verdict in one line: how many promises hold, which are broken, which could not be checked or decided."""
    counted = [one for one in verification.promises if one.counts]
    parts = [f"{sum(one.finding == 'pass' for one in counted)} of {len(counted)} promises hold"]
    for words, findings in _GROUPS.items():
        if names := [shortened_text(one.name) for one in counted if one.finding in findings]:
            parts.append(f"{words}: {', '.join(names)}")
    return f"{verification.verdict}: {shortened_text(verification.artifact)}: {'; '.join(parts)}"


_GROUPS: dict[str, tuple[Finding, ...]] = {
    "broken": ("fail",),
    "undecided": ("inconclusive",),
    "not comparable": ("not comparable",),
    "not checked": ("not checked",),
}


def _where(verification: Verification) -> str:
    parts = [verification.runtime, machine_in_words(verification.machine)]
    return "; ".join([*(printable(part, LONGEST) for part in parts if part), f"{verification.seconds:.1f} s"])


def _grid(verification: Verification) -> Grid:
    grid = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in COLUMNS:
        grid.add_column(name, justify="left" if name in TEXTS else "right", overflow="fold")
    for one in verification.promises:
        grid.add_row(*map(Text, _row(one)), Text(one.finding, style=STYLES.get(one.finding, UNDECIDED)))
    return grid


def _row(one: Promise) -> tuple[str, ...]:
    before, after = (amount(value, one.measure) for value in (one.before, one.after))
    return (shortened_text(one.name), before, after, amount(one.told, one.unit), value_and_ends(one), one.limit)


def value_and_ends(promise: Promise) -> str:
    """`0.281x (0.276 to 0.287)`; without ends where it is exact; empty where nothing was measured."""
    if promise.value is None:
        return ""
    text = amount(promise.value, promise.unit)
    if promise.ends is None:
        return text
    low, high = (amount(end, promise.unit).removesuffix(promise.unit).strip() for end in promise.ends)
    return f"{text} ({low} to {high})"


def amount(value: float | None, unit: Unit) -> str:
    """A value with its unit; empty where there is none."""
    match unit:
        case _ if value is None:
            return ""
        case "x":
            return f"{value:.3f}x"
        case "points":
            return f"{value:.2f}"
        case _:
            return readable_amount(value, unit)
