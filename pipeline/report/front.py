"""Finished models along the Pareto front, one per latency limit, side by side for people to choose from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paredown.pipeline.recipe.recipe import Recipe
from paredown.pipeline.report.closing_table import Row, closing_table

Told = dict[str, Any]


def compared(recipes: Sequence[Recipe], out: Path) -> list[Told]:
    """One row per model: its limit, what it measures as factors of the original, and whether all its limits hold."""
    return [_row(recipe, out / recipe.name) for recipe in recipes]


def _row(recipe: Recipe, folder: Path) -> Told:
    rows = {row.name: row for row in closing_table(folder)}
    done = (folder / "artifact" / "manifest.json").exists()
    drop = rows["test accuracy"] if done else None
    return {
        "limit": str(recipe.limits.latency_p50),
        "latency p50": _factor(rows["latency p50"]) if done else None,
        "size": _factor(rows["size"]) if done else None,
        "peak memory": _factor(rows["peak memory"]) if done else None,
        "test accuracy, points": drop.after - drop.before if drop and drop.after and drop.before else None,
        "all limits hold": all(row.holds is not False for row in rows.values()) if done else False,
        "folder": str(folder),
    }


def _factor(row: Row) -> float | None:
    return row.after / row.before if row.after and row.before else None
