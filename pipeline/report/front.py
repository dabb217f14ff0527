"""Finished models along the Pareto front, one per latency limit, side by side for people to choose from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paredown.pipeline.recipe.recipe import Recipe
from paredown.pipeline.report.closing_table import closing_table
from paredown.stages.products.manifest import Manifest
from paredown.stages.products.measure_check import MeasureCheck

Row = dict[str, Any]
"""Heading to value."""


def front_rows(recipes: Sequence[Recipe], out: Path) -> list[Row]:
    """One row per model: its limit, what it measures as factors of the original, and whether all its limits hold."""
    return [_row(recipe, out / recipe.name) for recipe in recipes]


def _row(recipe: Recipe, folder: Path) -> Row:
    checks = {check.name: check for check in closing_table(folder)}
    done = (folder / "artifact" / Manifest.FILE).exists()
    accuracy = checks["test accuracy"] if done else None
    return {
        "limit": str(recipe.limits.latency_p50),
        "latency p50": _factor(checks["latency p50"]) if done else None,
        "size": _factor(checks["size"]) if done else None,
        "peak memory": _factor(checks["peak memory"]) if done else None,
        "test accuracy, points": (
            accuracy.after - accuracy.before if accuracy and accuracy.after and accuracy.before else None
        ),
        "all limits hold": all(check.holds is not False for check in checks.values()) if done else False,
        "folder": str(folder),
    }


def _factor(check: MeasureCheck) -> float | None:
    return check.after / check.before if check.after and check.before else None
