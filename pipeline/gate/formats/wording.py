"""A gate's outcome in words, for all forms of output. Names that come out of a model's file are made printable here."""

import re
from math import isfinite

from paredown.models.printable import printable
from paredown.pipeline.gate.amounts import amounts_told_apart, readable_amount
from paredown.pipeline.gate.outcome import BudgetCheck, GateOutcome
from paredown.stages.products.interval import Ends

LONGEST = 160
"""Characters of one name; of a longer one the middle is left out."""
NAMED = 6
"""Layers that a sentence names; the JSON form has all that the check has."""
IN_HEADLINE = 3
"""Checks that the headline names."""
_MORE = re.compile(r"and (\d+) more")
"""How a check ends a list of layers that it shortened."""


def shortened_text(text: object) -> str:
    """The text on one line, printable, and without its middle where it is longer than a name should be."""
    return printable(text, LONGEST)


def value_with_unit(value: float | None, unit: str, signed: bool = False) -> str:
    """A value with its unit; a dash where there is none."""
    if value is None:
        return "-"
    if not isfinite(value):
        return f"{value} {unit}".strip()
    return f"{'+' if signed and value > 0 else ''}{readable_amount(value, unit)}"


def change_in_words(check: BudgetCheck) -> str:
    """From the baseline to the model: a factor, or a difference where a factor says nothing."""
    if check.before is None or check.after is None:
        return ""
    if check.unit == "%" or check.ratio is None:
        return value_with_unit(check.after - check.before, check.unit, signed=True)
    return f"{check.ratio:,.3f}x"


def model_cell(check: BudgetCheck) -> str:
    """The model's value; with its interval where no change has one, which is then what the verdict is about."""
    value = value_and_limit(check)[0]
    return f"{value}{_between(check.after_ends, check.unit)}" if check.after_ends and not check.change else value


def change_cell(check: BudgetCheck) -> str:
    """The change, with its interval; a ratio that was measured in turns is the one that the verdict rests on."""
    if check.change is None:
        return change_in_words(check)
    if check.unit == "%":
        return f"{change_in_words(check)}{_between(check.change.ends, '%')}"
    value, low, high = (f"{one:,.3f}" for one in (check.change.value, *check.change.ends))
    return f"{value}x ({low} to {high})"


def _between(ends: Ends, unit: str) -> str:
    low, high = (value_with_unit(end, unit).removesuffix(f" {unit}") for end in ends)
    return f" ({low} to {high})"


def limit_in_words(check: BudgetCheck) -> str:
    """The limit as it is written; of one that is a floor, the floor."""
    return f"≥ {value_and_limit(check)[1]}" if check.least else shortened_text(check.limit)


def check_sentence(check: BudgetCheck) -> str:
    """A check in one sentence: by how much it misses, how sure that is, and which layers are responsible."""
    why = printable(check.because, 1000).rstrip(".")
    if check.verdict == "fail" and (check.least or not why):
        why = "; ".join(part for part in (missed_by(check), why) if part)
    layers = f"; layers: {layers_in_words(check)}" if check.layers else ""
    return f"{shortened_text(check.name)}: {why or check.verdict}{layers}"


def layers_in_words(check: BudgetCheck, most: int = NAMED) -> str:
    """The responsible layers, worst first."""
    listed, more = list(check.layers), 0
    if listed and (shortened := _MORE.fullmatch(listed[-1])):
        more = int(shortened[1])
        listed.pop()
    named = [shortened_text(layer) for layer in listed[:most]]
    more += len(listed) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def missed_by(check: BudgetCheck) -> str:
    """By how much, in one phrase; empty where the values are not known."""
    if check.after is None or check.allowed is None:
        return ""
    factor = f"{change_in_words(check)}, " if check.ratio is not None and check.unit != "%" else ""
    by = check.allowed - check.after if check.least else check.after - check.allowed
    written = f"({factor}limit {shortened_text(check.limit)})"
    value, allowed = value_and_limit(check)
    if by <= 0:  # the model's own value may be within while an interval is not
        return f"{value} {written}"
    amount = difference_in_words(by, check.unit)
    if check.least or amount == allowed:  # else `4 MiB over 4 MiB` reads as if nothing was wrong
        amount = f"{value}, {amount}"
    return f"{amount} {'under' if check.least else 'over'} {allowed} {written}"


def difference_in_words(by: float, unit: str) -> str:
    """`1.50 points` between shares in %, else the amount with its unit."""
    if unit != "%" or not isfinite(by):
        return value_with_unit(by, unit)
    return f"{by:.2f} points" if by >= 0.005 else f"{by:.1g} points"


def value_and_limit(check: BudgetCheck) -> tuple[str, str]:
    """The model's value and what is allowed; where they differ, so do the texts."""
    after, allowed = check.after, check.allowed
    if after is None or allowed is None or not (isfinite(after) and isfinite(allowed)) or check.verdict != "fail":
        return value_with_unit(after, check.unit), value_with_unit(allowed, check.unit)
    return amounts_told_apart(check.unit, after, allowed)


def headline(outcome: GateOutcome) -> str:
    """The verdict in one line: what failed, by how much, and which layers; or what is undecided."""
    verdict, model, count = outcome.verdict, shortened_text(outcome.model), len(outcome.checks)
    against = f" against {shortened_text(outcome.baseline)}" if outcome.baseline else ""
    failed = [check for check in outcome.checks if check.verdict == "fail"]
    named = failed or [check for check in outcome.checks if check.verdict != "pass"]
    if not named:
        held = {0: "no budget is checked here", 1: f"{model} holds its one check"}
        return f"{verdict}: {held.get(count, f'{model} holds all {count:,} checks')}{against if count else ''}"
    did = "fails" if failed else "is undecided in"
    parts = [_brief(check) for check in named[:IN_HEADLINE]] + (
        [f"{len(named) - IN_HEADLINE:,} more"] if named[IN_HEADLINE:] else []
    )
    share = "its one check" if count == 1 else f"{len(named):,} of {count:,} checks"
    return f"{verdict}: {model} {did} {share}{against}: {'; '.join(parts)}"


def _brief(check: BudgetCheck) -> str:
    if check.verdict != "fail":
        return f"{shortened_text(check.name)} {check.verdict}"
    parts = [shortened_text(check.name), missed_by(check), f"in {layers_in_words(check, 2)}" if check.layers else ""]
    return " ".join(part for part in parts if part)


UNITS = {"bytes": "B", "ms": "ms"}


def value_cell(key: str, value: object) -> str:
    """A value of a table: the last word of its column's name says the unit (`bytes`, `ms`), and `more …` is signed."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return value_with_unit(value, UNITS.get(key.split(" ")[-1], ""), signed=key.startswith("more"))
    return shortened_text(value)
