"""A found plan as tables: what it costs against the limits, and what it does at every site."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paredown.models.errors import InputError
from paredown.pipeline.run.run_folder import read_json

Rows = list[dict[str, str]]

_UNITS = {"latency": "ms", "size": "MiB", "memory": "MiB", "loss": "nats"}


def read_plan(folder: Path) -> Mapping[str, Any]:
    """What the search of the run in `folder` found; empty where it kept nothing."""
    file = folder / "plan" / "plan.json"
    found = read_json(file) if file.is_file() else {}
    if not isinstance(found, dict):
        raise InputError(f"{file}: damaged, it holds no plan")
    return found


def budget_rows(plan: Mapping[str, Any]) -> Rows:
    """One row per budget: predicted, measured (`-` where it was not), and the limit that the search kept to."""
    predicted, measured, limits = (plan.get(name) or {} for name in ("predicted", "measured", "limits"))
    return [
        {
            "budget": f"{name} ({_UNITS.get(name, '')})",
            "predicted": _number(predicted.get(name)),
            "measured": _number(measured.get(name)),
            "limit with margin": _number(limits.get(name)),
        }
        for name in predicted
        if name in _UNITS
    ]


def site_rows(plan: Mapping[str, Any]) -> Rows:
    """One row per site: the candidate that the plan picks there."""
    return [{"site": site, "candidate": candidate} for site, candidate in plan.get("choice", {}).items()]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
