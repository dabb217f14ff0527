"""The table that closes a run: every measure of the original and of the artifact, against its limit."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from paredown.pipeline.run.run_folder import RunFolder, as_damage, read_run_folder
from paredown.stages.products.evidence import Evidence
from paredown.stages.products.interval import Ends
from paredown.stages.products.measure_check import MeasureCheck
from paredown.stages.products.plan import Plan


def closing_table(folder: Path) -> tuple[MeasureCheck, ...]:
    """What the run in `folder` proved; where it has no artifact, what is known of the original and of the plan."""
    with as_damage(folder):
        return closing_table_of(read_run_folder(folder))


def closing_table_of(run: RunFolder) -> tuple[MeasureCheck, ...]:
    """See `closing_table`."""
    if run.manifest and run.manifest.checks:
        return run.manifest.checks
    return tuple(_planned(run.baseline, run.plan, refused="plan" in run.refusals)) if run.baseline else ()


def _planned(before: Evidence, plan: Plan | None, refused: bool) -> Iterator[MeasureCheck]:
    """The original's rows, with the plan's own numbers and limits where a search has ended.

    The plan's limits are those of the recipe less the search's margin, so a plan over them may still hold those of the
    recipe; a refused one does not.
    """
    costs, how = (plan.measured, "plan, measured") if plan else (None, "")
    if plan and not costs:
        costs, how = plan.predicted, "nearest plan, predicted"
    for check, limited in _originals(before):
        after = (costs.named().get(limited) if costs else None) or None
        limit = plan.limits.get(limited) if plan else None
        named = f"{check.name} ({how})" if after else check.name
        exact = limited == "size" and (plan is None or plan.measured is not None)
        holds = _fits(after, limit, refused)
        yield replace(check, name=named, after=after, limit=limit, holds=holds, exact=exact)


def _originals(before: Evidence) -> Iterator[tuple[MeasureCheck, str]]:
    """The original's rows, each with what a plan calls this measure, empty where it does not know it."""
    timed, points = before.latency, before.accuracy.get("test")
    p50, p95 = (timed.p50, timed.p95) if timed else (None, None)
    p50_ends, p95_ends = (timed.p50_ends, timed.p95_ends) if timed else (None, None)
    test_ends = (before.accuracy_ends or {}).get("test")
    yield _original("latency p50", "ms", p50, p50_ends), "latency"
    yield _original("latency p95", "ms", p95, p95_ends), ""
    yield _original("size", "MiB", before.size, None), "size"
    yield _original("peak memory", "MiB", before.peak_memory, before.peak_memory_ends), "memory"
    yield _original("test accuracy", "%", points, test_ends), ""


def _original(name: str, unit: str, value: float | None, ends: Ends | None) -> MeasureCheck:
    return MeasureCheck(name, unit, before=value, after=None, limit=None, holds=None, before_ends=ends)


def _fits(after: float | None, limit: float | None, refused: bool) -> bool | None:
    if after is None or limit is None:
        return None
    return True if after <= limit else False if refused else None
