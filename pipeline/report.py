"""The report of a run: one offline HTML file that people read, and the table that closes a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from paredown.models.files import write_whole
from paredown.pipeline import comparison, provenance, sections
from paredown.pipeline.blocks import became, told
from paredown.pipeline.errors import machine
from paredown.pipeline.figures import gauge
from paredown.pipeline.layers import LayerRow, pictures, rows_of, summary
from paredown.pipeline.products import DOCUMENTS, STAGES, Run, read_run, told_as_damage
from paredown.pipeline.svg import short

OPTIONAL = ("original", "library")
"""Products that many recipes do without."""


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


@dataclass(frozen=True)
class Verdict:
    """`kind` is held, missed or open."""

    kind: str
    headline: str
    detail: str


def closing_table(folder: Path) -> tuple[Row, ...]:
    """What the run in `folder` proved; where it has no artifact, what is known of the original and of the plan."""
    with told_as_damage(folder):
        return table_of(read_run(folder))


def render(folder: Path) -> Path:
    """Writes `folder/report.html`, in one step, and returns it. Raises MachineError where it cannot be written."""
    with told_as_damage(folder):
        page = _page(read_run(folder))
    path = folder / "report.html"
    with machine(path):
        write_whole(path, page)
    return path


def table_of(run: Run) -> tuple[Row, ...]:
    """See `closing_table`."""
    checks = run.document("artifact").get("checks")
    if checks:
        return tuple(Row(**{field.name: check[field.name] for field in fields(Row)}) for check in checks)
    return tuple(_planned(run)) if run.document("baseline") else ()


def plan_rows(run: Run) -> tuple[LayerRow, ...]:
    """The plan's layers in order of depth."""
    return rows_of(run.document("plan"), tuple(run.document("profile").get("layers", ())))


def _planned(run: Run) -> Iterator[Row]:
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


def _fits(after: float | None, limit: float | None, run: Run) -> bool | None:
    if not after or limit is None:
        return None
    return True if after <= limit else False if "plan" in run.refusals else None


def _page(run: Run) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"short": short, "duration": sections.duration, "compared": comparison.words}
    table, rows = table_of(run), plan_rows(run)
    return environment.get_template("report.html").render(
        run=run,
        verdict=verdict(run, table),
        gains=gains(table) if run.document("artifact") else [],
        after="artifact" if run.document("artifact") else "plan",
        note=_note(run),
        table=[(row, gauge(row.before, row.after, row.limit, row.holds), change(row)) for row in table],
        rows=rows,
        summary=summary(rows),
        pictures=pictures(rows),
        sections=sections.all_of(run),
        compared=comparison.lines(run),
        facts=provenance.facts(run),
        blocks=became(run),
        told=told(became(run)),
        absent=[STAGES.get(name, name) for name in DOCUMENTS if name not in run.present and name not in OPTIONAL],
    )


def verdict(run: Run, table: Sequence[Row]) -> Verdict:
    """The line at the head: whether every limit holds, and which one does not."""
    missed = [row for row in table if row.holds is False]
    limited = [row for row in table if row.limit is not None]
    ended = " ".join(f"{line[:1].upper()}{line[1:]}." for line in run.refusals.values())
    if run.refusals and not run.document("artifact"):
        stage = STAGES.get(next(iter(run.refusals)), next(iter(run.refusals)))
        return Verdict("missed", "The limits cannot be held" if stage == "search" else f"Refused by {stage}", ended)
    if not run.document("artifact"):
        return Verdict(
            "open", "Not finished", "There is no verified artifact yet; the same command goes on with the run."
        )
    if missed:
        names = " and ".join(row.name for row in missed)
        return Verdict(
            "missed", f"{len(missed)} of {len(limited)} limits missed: {names}", " ".join(map(_miss, missed))
        )
    if ended:
        return Verdict("missed", "Refused by verify", ended)
    if not limited:
        return Verdict("open", "No limit was set", "The artifact was measured, but the recipe limits nothing.")
    count = "The one limit holds" if len(limited) == 1 else f"All {len(limited)} limits hold"
    return Verdict(
        "held", count, "Measured on the finished artifact, in turns with the original, on the runtime that ships."
    )


def _note(run: Run) -> str:
    """What the table's numbers are."""
    if run.document("artifact"):
        return "Original and artifact were measured in turns, on the same machine, by the same run."
    if run.document("plan"):
        return (
            "There is no artifact: the numbers after are the plan's, and its limits are the recipe's less the margin "
            "that the search keeps free."
        )
    return "There is neither an artifact nor a plan yet."


def _miss(row: Row) -> str:
    assert row.after is not None and row.limit is not None
    side = "under its floor" if row.unit == "%" else "over its limit"
    numbers = (
        f"{row.name[0].upper()}{row.name[1:]} is {short(row.after)} {row.unit}, {side} of {short(row.limit)} {row.unit}"
    )
    return f"{numbers}." if row.unit == "%" else f"{numbers} by {100 * (row.after / row.limit - 1):.1f} %."


def gains(table: Sequence[Row]) -> list[tuple[str, str]]:
    """The large numbers under the headline: (number, what it says)."""
    named: Mapping[str, Row] = {row.name: row for row in table if row.before and row.after}
    words = {
        "latency p50": ("faster", "slower"),
        "size": ("smaller file", "larger file"),
        "peak memory": ("less peak memory", "more peak memory"),
    }
    factors = [(_factor(named[name]), said) for name, said in words.items() if name in named]
    found = [(f"{max(factor, 1 / factor):.2f}x", said[factor < 1]) for factor, said in factors]
    if accuracy := named.get("test accuracy"):
        found.append((_signed(accuracy), "points of test accuracy"))
    return found


def _factor(row: Row) -> float:
    assert row.before and row.after
    return row.before / row.after


def _signed(row: Row) -> str:
    """The difference in points."""
    assert row.before is not None and row.after is not None
    return f"{row.after - row.before:+.2f}"


def change(row: Row) -> str:
    """After over before, or for an accuracy the difference in points."""
    if not row.before or row.after is None:
        return "-"
    return f"{_signed(row)} points" if row.unit == "%" else f"{row.after / row.before:.3f}x"
