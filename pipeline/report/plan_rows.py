"""A plan as tables for the terminal: what it costs against the limits, and what it does at every site."""

from pathlib import Path

from paredown.pipeline.run.run_folder import load_product
from paredown.stages.products.costs import UNITS
from paredown.stages.products.plan import Plan

Rows = list[dict[str, str]]
"""Heading to cell, for every row."""


def read_plan(folder: Path) -> Plan | None:
    """The plan of the run in `folder`; None where the search kept nothing. Raises InputError where it is damaged."""
    return load_product(folder, "plan", Plan)


def budget_rows(plan: Plan | None) -> Rows:
    """One row per budget: predicted, measured (`-` where it was not), and the limit that the search kept to."""
    if plan is None or plan.predicted is None:
        return []
    measured = plan.measured.named() if plan.measured else {}
    measured |= {"loss": plan.loss_check.measured} if plan.loss_check else {}
    return [
        {
            "budget": f"{name} ({UNITS[name]})",
            "predicted": _number(predicted),
            "measured": _number(measured.get(name)),
            "limit with margin": _number(plan.limits.get(name)),
        }
        for name, predicted in sorted(plan.predicted.named().items())
    ]


def site_rows(plan: Plan | None) -> Rows:
    """One row per site: the candidate that the plan picks there."""
    return [{"site": site, "candidate": candidate} for site, candidate in plan.choice.items()] if plan else []


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
