"""The table that closes a run: every measure of the original and of the artifact, against its limit."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from paredown.pipeline.run.run_folder import RunFolder, as_damage, read_run_folder


@dataclass(frozen=True)
class Row:
    """One measure of original and artifact, in `unit`; None is what was not measured or not limited.

    `limit` is absolute; `holds` is None where nothing is proved: no limit, or no artifact yet.
    """

    name: str
    unit: str
    before: float | None
    after: float | None
    limit: float | None
    holds: bool | None


def closing_table(folder: Path) -> tuple[Row, ...]:
    """What the run in `folder` proved; where it has no artifact, what is known of the original and of the plan."""
    with as_damage(folder):
        return table_of(read_run_folder(folder))


def table_of(run: RunFolder) -> tuple[Row, ...]:
    """See `closing_table`."""
    checks = run.document("artifact").get("checks")
    if checks:
        return tuple(Row(**{field.name: check[field.name] for field in fields(Row)}) for check in checks)
    return tuple(_planned(run)) if run.document("baseline") else ()


def _planned(run: RunFolder) -> Iterator[Row]:
    """The original's rows, with the plan's own numbers and limits where a search has ended.

    The plan's limits are those of the recipe less the search's margin, so a plan over them may still hold those of the
    recipe; a refused one does not.
    """
    before, plan = run.document("baseline"), run.document("plan")
    found, how = plan.get("measured"), "plan, measured"
    if plan and not found:
        found, how = plan["predicted"], "nearest plan, predicted"
    latency = before.get("latency") or {}
    measures = [
        ("latency p50", "ms", latency.get("p50"), "latency"),
        ("latency p95", "ms", latency.get("p95"), ""),
        ("size", "MiB", before["size"], "size"),
        ("peak memory", "MiB", before["peak_memory"], "memory"),
        ("test accuracy", "%", before["accuracy"].get("test"), ""),
    ]
    for name, unit, original, budget in measures:
        after, limit = ((source or {}).get(budget) for source in (found, plan.get("limits")))
        named = f"{name} ({how})" if after else name
        yield Row(
            name=named, unit=unit, before=original, after=after or None, limit=limit, holds=_fits(after, limit, run)
        )


def _fits(after: float | None, limit: float | None, run: RunFolder) -> bool | None:
    if not after or limit is None:
        return None
    return True if after <= limit else False if "plan" in run.refusals else None


def _signed(row: Row) -> str:
    """The difference in points."""
    assert row.before is not None and row.after is not None
    return f"{row.after - row.before:+.2f}"


def change(row: Row) -> str:
    """After over before, or for an accuracy the difference in points."""
    if not row.before or row.after is None:
        return "-"
    return f"{_signed(row)} points" if row.unit == "%" else f"{row.after / row.before:.3f}x"
