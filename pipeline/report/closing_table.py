"""The table that closes a run: every measure of the original and of the artifact, against its limit."""

from collections.abc import Iterator
from pathlib import Path

from paredown.pipeline.run.run_folder import RunFolder, as_damage, read_run_folder
from paredown.stages.products.evidence import Evidence
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
    p50, p95 = (before.latency.p50, before.latency.p95) if before.latency else (None, None)
    measures = [
        ("latency p50", "ms", p50, "latency"),
        ("latency p95", "ms", p95, ""),
        ("size", "MiB", before.size, "size"),
        ("peak memory", "MiB", before.peak_memory, "memory"),
        ("test accuracy", "%", before.accuracy.get("test"), ""),
    ]
    for name, unit, original, limited in measures:
        after = (costs.named().get(limited) if costs else None) or None
        limit = plan.limits.get(limited) if plan else None
        named = f"{name} ({how})" if after else name
        yield MeasureCheck(named, unit, before=original, after=after, limit=limit, holds=_fits(after, limit, refused))


def _fits(after: float | None, limit: float | None, refused: bool) -> bool | None:
    if after is None or limit is None:
        return None
    return True if after <= limit else False if refused else None


def points_gained(check: MeasureCheck) -> str:
    """The difference in points, with its sign."""
    assert check.before is not None and check.after is not None
    return f"{check.after - check.before:+.2f}"


def change_of_measure(check: MeasureCheck) -> str:
    """After over before, or for an accuracy the difference in points."""
    if not check.before or check.after is None:
        return "-"
    return f"{points_gained(check)} points" if check.unit == "%" else f"{check.after / check.before:.3f}x"
