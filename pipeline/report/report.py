"""The report of a run: one offline HTML file that people read, and the table that closes a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from paredown.models.files import write_whole
from paredown.models.quantity import told_apart
from paredown.pipeline.machine_errors import machine_errors
from paredown.pipeline.report import provenance, sections
from paredown.pipeline.report.bars import gauge_chart
from paredown.pipeline.report.closing_table import closing_table_of
from paredown.pipeline.report.layer_rows import LayerRow, layer_rows, plan_summary
from paredown.pipeline.report.plan_drawing import layer_pictures
from paredown.pipeline.report.replaced_blocks import replaced_blocks, replacement_sentence
from paredown.pipeline.report.svg import short_number
from paredown.pipeline.report.written_measures import (
    artifact_in_words,
    change_of_measure,
    interval_note,
    limit_in_words,
    original_in_words,
    remarks,
    with_ends,
)
from paredown.pipeline.run.run_folder import RunFolder, as_damage, read_run_folder
from paredown.stages.products.measure_check import MeasureCheck
from paredown.stages.products.product_files import PRODUCTS, stage_of_product

OPTIONAL = ("original", "library")
"""Products that many recipes do without."""


@dataclass(frozen=True)
class RunVerdict:
    """`kind` is held, missed or open."""

    kind: str
    headline: str
    detail: str


def render_report(folder: Path) -> Path:
    """Writes `folder/report.html`, in one step, and returns it. Raises MachineError where it cannot be written."""
    with as_damage(folder):
        page = _page(read_run_folder(folder))
    path = folder / "report.html"
    with machine_errors(path):
        write_whole(path, page)
    return path


def plan_rows(run: RunFolder) -> tuple[LayerRow, ...]:
    """The plan's layers in order of depth; none without a plan."""
    order = tuple(run.profile.costs.layers) if run.profile and run.profile.costs else ()
    return layer_rows(run.plan, order) if run.plan else ()


def _page(run: RunFolder) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "short": short_number,
        "duration": sections.readable_duration,
        "fastest": provenance.fastest_runtime,
        "original": original_in_words,
        "artifact": artifact_in_words,
        "limit": limit_in_words,
        "change": change_of_measure,
    }
    table, rows, blocks = closing_table_of(run), plan_rows(run), replaced_blocks(run)
    return environment.get_template("report.html").render(
        run=run,
        verdict=run_verdict(run, table),
        headline_numbers=headline_numbers(table) if run.manifest else [],
        after="artifact" if run.manifest else "plan",
        note=_note(run),
        table=[(check, gauge_chart(check.before, check.after, check.limit, check.holds)) for check in table],
        remarks=[*remarks(table)],
        brackets=interval_note(table, run.confidence),
        rows=rows,
        summary=plan_summary(rows),
        pictures=layer_pictures(rows),
        sections=sections.report_sections(run),
        runtimes=provenance.runtime_comparisons(run),
        facts=provenance.provenance_facts(run),
        blocks=blocks,
        replacements=replacement_sentence(blocks),
        absent=[stage_of_product(name) for name in PRODUCTS if name not in run.present and name not in OPTIONAL],
    )


def run_verdict(run: RunFolder, table: Sequence[MeasureCheck]) -> RunVerdict:
    """The line at the head: whether every limit holds, and which one does not."""
    missed = [row for row in table if row.holds is False]
    limited = [row for row in table if row.limit is not None]
    ended = " ".join(map(_sentence, run.refusals.values()))
    if run.refusals and not run.manifest:
        stage = stage_of_product(next(iter(run.refusals)))
        return RunVerdict("missed", "The limits cannot be held" if stage == "search" else f"Refused by {stage}", ended)
    if not run.manifest:
        return RunVerdict(
            "open", "Not finished", "There is no verified artifact yet; the same command goes on with the run."
        )
    if missed:
        names = " and ".join(row.name for row in missed)
        return RunVerdict(
            "missed",
            f"{len(missed)} of {len(limited)} limits missed: {names}",
            " ".join([*map(_miss, missed), *_other_refusals(run)]),
        )
    if ended:
        return RunVerdict("missed", f"Refused by {stage_of_product(next(iter(run.refusals)))}", ended)
    if not limited:
        return RunVerdict("open", "No limit was set", "The artifact was measured, but the recipe limits nothing.")
    count = "The one limit holds" if len(limited) == 1 else f"All {len(limited)} limits hold"
    return RunVerdict(
        "held", count, "Measured on the finished artifact, in turns with the original, on the runtime that ships."
    )


def _other_refusals(run: RunFolder) -> Iterator[str]:
    """What stages before `verify` missed and let it go on."""
    return (_sentence(line) for name, line in run.refusals.items() if stage_of_product(name) != "verify")


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


def _note(run: RunFolder) -> str:
    """What the table's numbers are."""
    if run.manifest:
        return "Original and artifact were measured in turns, on the same machine, by the same run."
    if run.plan:
        return (
            "There is no artifact: the numbers after are the plan's, and its limits are the recipe's less the margin "
            "that the search keeps free."
        )
    return "There is neither an artifact nor a plan yet."


def _miss(row: MeasureCheck) -> str:
    assert row.after is not None and row.limit is not None
    side = "under its floor" if row.unit == "%" else "over its limit"
    if row.worst is not None and (row.after >= row.limit if row.unit == "%" else row.after <= row.limit):
        return f"{row.name[0].upper()}{row.name[1:]} holds as measured, but not with the end of its interval."
    after, limit = told_apart(row.after, row.limit, short_number)
    numbers = f"{row.name[0].upper()}{row.name[1:]} is {after} {row.unit}, {side} of {limit} {row.unit}"
    share = 100 * (row.after / row.limit - 1)
    return f"{numbers}." if row.unit == "%" else f"{numbers} by {share:{'.1f' if share >= 0.05 else '.1g'}} %."


def headline_numbers(table: Sequence[MeasureCheck]) -> list[tuple[str, str]]:
    """The large numbers under the headline: (number, what it says)."""
    named: Mapping[str, MeasureCheck] = {row.name: row for row in table if row.before and row.after}
    words = {
        "latency p50": ("faster", "slower"),
        "size": ("smaller file", "larger file"),
        "peak memory": ("less peak memory", "more peak memory"),
    }
    numbers = [_gain(named[name], *pair) for name, pair in words.items() if name in named]
    if accuracy := named.get("test accuracy"):
        gained = change_of_measure(accuracy).replace(" points", "")
        numbers.append((gained, "points of test accuracy"))
    return numbers


def _gain(row: MeasureCheck, better: str, worse: str) -> tuple[str, str]:
    """`3.64x (3.56 to 3.70)`, and what that is."""
    assert row.before and row.after
    factor, ends = row.before / row.after, (1 / row.change.high, 1 / row.change.low) if row.change else None
    if factor < 1:
        factor, ends = 1 / factor, row.change.ends if row.change else None
    words = worse if row.after > row.before else better
    return with_ends(factor, ends, row.exact, lambda value: f"{value:.2f}", "x"), words
