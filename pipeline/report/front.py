"""Finished models along the Pareto front, one per latency limit, side by side for people to choose from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paredown.pipeline.recipe.recipe import Recipe
from paredown.pipeline.report.closing_table import closing_table_of
from paredown.pipeline.report.written_measures import change_of_measure
from paredown.pipeline.run.run_folder import as_damage, read_run_folder
from paredown.stages.products.measure_check import MeasureCheck

Row = dict[str, Any]
"""Heading to value."""

MEASURES = {
    "latency p50": "latency p50",
    "size": "size",
    "peak memory": "peak memory",
    "test accuracy, points": "test accuracy",
}
"""Heading to measure."""


def front_rows(recipes: Sequence[Recipe], out: Path, words: bool = False) -> list[Row]:
    """One row per model: its limit, what it measures as factors of the original, and whether all its limits hold.

    Values are numbers, with the ends of their intervals in a mapping of their own; in `words`, texts with both.
    """
    return [_row(recipe, out / recipe.name, words) for recipe in recipes]


def _row(recipe: Recipe, folder: Path, words: bool) -> Row:
    with as_damage(folder):
        run = read_run_folder(folder)
        checks = {check.name: check for check in closing_table_of(run)}
    done = run.manifest is not None
    measures = {heading: checks[name] if done else None for heading, name in MEASURES.items()}
    shown: Row = {
        heading: check and (change_of_measure if words else _change)(check) for heading, check in measures.items()
    }
    if not words:
        ends = {heading: check.change.ends for heading, check in measures.items() if check and check.change}
        shown["intervals"] = ends
    return {
        "limit": str(recipe.limits.latency_p50),
        **shown,
        "all limits hold": done and not run.refusals and all(check.holds is not False for check in checks.values()),
        "folder": str(folder),
    }


def _change(check: MeasureCheck) -> float | None:
    if not (check.after and check.before):
        return None
    return check.after - check.before if check.unit == "%" else check.after / check.before
