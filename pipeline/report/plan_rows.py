"""A plan as tables for the terminal: what it costs against the limits, and what it does at every site."""

from pathlib import Path

from paredown.pipeline.run.run_folder import load_product
from paredown.stages.limits import Limits
from paredown.stages.planning.problem_builder import search_limits
from paredown.stages.products.costs import UNITS
from paredown.stages.products.plan import Plan

Rows = list[dict[str, str]]
"""Heading to cell, for every row."""


def read_plan(folder: Path) -> Plan | None:
    """The plan of the run in `folder`; None where the search kept nothing. Raises InputError where it is damaged."""
    return load_product(folder, "plan", Plan)


KEPT_TO = (
    "limit: what the recipe asks of the finished artifact, a factor being of the original as the stage baseline "
    "measured it. kept to: what the search keeps to. It is {margin:g} % under the limit (search.margin), as prediction "
    "and measurement differ, and as later measurements do: a measured plan may use half of that up."
)
"""What two columns of a plan's table are."""
MORE_SURE = " limits.confidence keeps half as much more free, for the interval that verify will find."
ALSO = " Of a size limit room for the artifact's metadata is left too; one of p95 is kept through p50."


def kept_to_note(plan: Plan | None, limits: Limits) -> str:
    """What `limit` and `kept to` are, in words; empty without limits."""
    if plan is None or not plan.limits or plan.margin is None:
        return ""
    also = ALSO if limits.size or limits.latency_p95 else ""
    return KEPT_TO.format(margin=100 * plan.margin) + (MORE_SURE if limits.confidence else "") + also


def recipe_limits(plan: Plan, limits: Limits) -> dict[str, float]:
    """The recipe's limits as the search names them, in ms and MiB."""
    return search_limits(limits, plan.baseline, margin=0) if plan.baseline and plan.baseline.latency else {}


def budget_rows(plan: Plan | None, limits: Limits) -> Rows:
    """One row per budget: predicted, measured (`-` where it was not), the recipe's limit, and what the search kept to,
    which `kept_to_note` explains."""
    if plan is None or plan.predicted is None:
        return []
    measured, asked = plan.measured.named() if plan.measured else {}, recipe_limits(plan, limits)
    measured |= {"loss": plan.loss_check.measured} if plan.loss_check else {}
    return [
        {
            "budget": f"{name} ({UNITS[name]})",
            "predicted": _number(predicted),
            "measured": _number(measured.get(name)),
            "limit": _number(asked.get(name)),
            "kept to": _number(plan.limits.get(name)),
        }
        for name, predicted in sorted(plan.predicted.named().items())
    ]


def site_rows(plan: Plan | None) -> Rows:
    """One row per site: the candidate that the plan picks there."""
    return [{"site": site, "candidate": candidate} for site, candidate in plan.choice.items()] if plan else []


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
