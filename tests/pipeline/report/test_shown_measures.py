"""What a terminal, the report and the model card show is what the manifest holds, and every number has its interval or
is exact."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paredown.models.printable import harmless
from paredown.pipeline.commands.output import print_measures
from paredown.pipeline.recipe.recipe import CardDetails
from paredown.pipeline.report.closing_table import closing_table
from paredown.pipeline.report.front import front_rows
from paredown.pipeline.report.model_card import write_card
from paredown.pipeline.report.report import render_report
from paredown.pipeline.report.written_measures import closing_rows
from paredown.stages.base import State
from paredown.stages.verify import Verify

NUMBER = r"[-+]?[\d.]+(?:e-?\d+)?"
CELL = re.compile(rf"({NUMBER})(?:x| points)? \((?:(exact)|({NUMBER}) to ({NUMBER}))\)")
MEASURES = (
    "latency p50 (ms)",
    "latency p95 (ms)",
    "latency p50, hot caches (ms)",
    "latency p95, hot caches (ms)",
    "size (MiB)",
    "peak memory (MiB)",
    "test accuracy (%)",
)

Shown = dict[str, tuple[str, str, str]]
"""Measure to its cells: the original's, the artifact's, and their ratio or difference."""


@pytest.fixture(scope="module")
def folder(finished: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a real artifact, compared on a second runtime; its sessions differ in time."""
    made = tmp_path_factory.mktemp("shown") / "demo"
    made.mkdir()
    for name in ("baseline", "plan", "recovered", "exported"):
        (made / name).mkdir()
        for file in finished.product(name).glob("*.json"):
            (made / name / file.name).write_bytes(file.read_bytes())
    text = (finished.root / "exact.py").read_text()
    times = "[[[0.01 + sum(times(model).values())] * runs] * rounds for model in models]"
    assert times in text
    noisy = times.replace("] * runs] * rounds", " + 0.001 * (i * j % 7) for j in range(runs)] for i in range(rounds)]")
    for name in ("noisy", "other"):
        (finished.root / f"{name}.py").write_text(text.replace(times, noisy))
    (made / "artifact").mkdir()
    target = finished.target.model_copy(update={"runtime": "noisy.py"})
    Verify(rounds=5, runs=4).run(replace(finished, target=target, compare=("other.py",), out=made / "artifact"))
    return made


@pytest.fixture
def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "artifact" / "manifest.json").read_text())
    return found


@dataclass(frozen=True)
class Cell:
    """A number with its interval; an exact one has no ends."""

    value: float
    ends: tuple[float, float] | None


def parsed(text: str) -> Cell:
    match = CELL.fullmatch(text)
    assert match, f"{text!r} has neither an interval nor is it exact"
    value, exact, low, high = match.groups()
    return Cell(float(value), None if exact else (float(low), float(high)))


def expected(manifest: dict[str, Any]) -> dict[str, tuple[Cell, Cell, Cell]]:
    """Measure to the numbers of the original, of the artifact, and of both, as the manifest has them."""

    def of(model: dict[str, Any], hot: dict[str, Any]) -> Iterator[Cell]:
        for timed in (model["latency"], hot):
            yield Cell(timed["p50"], tuple(timed["p50_ends"]))
            yield Cell(timed["p95"], tuple(timed["p95_ends"]))
        yield Cell(model["size"], None)
        yield Cell(model["peak_memory"], tuple(model["peak_memory_ends"]))
        yield Cell(model["accuracy"]["test"], tuple(model["accuracy_ends"]["test"]))

    ratios, points = manifest["ratios"], manifest["accuracy_change"]["test"]["points"]
    hot, (tail,) = (
        manifest["other_caches"],
        [one for one in manifest["checks"] if one["name"].startswith("latency p95,")],
    )
    both = (
        *(Cell(ratios[name], tuple(ratios[f"{name}_ends"])) for name in ("latency_p50", "latency_p95")),
        Cell(hot["ratio"], tuple(hot["ratio_ends"])),
        Cell(hot["after"]["p95"] / hot["before"]["p95"], (tail["change"]["low"], tail["change"]["high"])),
        Cell(ratios["size"], None),
        Cell(ratios["peak_memory"], tuple(ratios["peak_memory_ends"])),
        Cell(points["value"], (points["low"], points["high"])),
    )
    before, after = of(manifest["baseline"], hot["before"]), of(manifest["artifact"], hot["after"])
    return dict(zip(MEASURES, zip(before, after, both, strict=True), strict=True))


class Page(HTMLParser):
    """The rows of a page's tables, the large numbers at its head, and the terms of its lists with what they say."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.gains: list[str] = []
        self.facts: list[list[str]] = []
        self.into: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag == "dt":
            self.facts.append([])
        places = {"td": self.rows, "th": self.rows, "dt": self.facts, "dd": self.facts}
        if tag in places or tag == "b":
            self.into = places[tag][-1] if tag in places else self.gains
            self.into.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "dt", "dd", "b"):
            self.into = None

    def handle_data(self, data: str) -> None:
        if self.into:
            self.into[-1] = " ".join(f"{self.into[-1]} {data}".split())


def page_of(folder: Path) -> Page:
    return Page(render_report(folder).read_text(encoding="utf-8"))


def in_terminal(folder: Path) -> Shown:
    rows = closing_rows(closing_table(folder))
    return {row["measure"]: (row["before"], row["after"], row["change"]) for row in rows}


def in_report(folder: Path) -> Shown:
    named = {re.sub(r" (\S+)$", r" (\1)", row[0]): row for row in page_of(folder).rows}
    return {name: (named[name][1], named[name][2], named[name][5]) for name in MEASURES}


def in_card(folder: Path) -> Shown:
    path = write_card(CardDetails(), folder)
    assert path
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in path.read_text().splitlines() if "|" in line]
    return {row[0]: (row[1], row[2], row[3]) for row in rows if row[0] in MEASURES}


@pytest.mark.parametrize("shown", [in_terminal, in_report, in_card], ids=lambda shown: shown.__name__)
def test_tables_show_the_numbers_of_the_manifest(
    folder: Path, manifest: dict[str, Any], shown: Callable[[Path], Shown]
) -> None:
    table, numbers = shown(folder), expected(manifest)
    assert tuple(table) == MEASURES
    for name, cells in table.items():
        for text, number in zip(cells, numbers[name], strict=True):
            got = parsed(text)
            near = {"rel": 1e-3, "abs": 0.006 if "accuracy" in name else 6e-4 if "x" in text else 1e-9}
            assert got.value == pytest.approx(number.value, **near), (name, text)
            assert (got.ends is None) == (number.ends is None), (name, text)
            if got.ends and number.ends:
                assert got.ends == pytest.approx(number.ends, **near), (name, text)


def test_intervals_hold_their_value(manifest: dict[str, Any]) -> None:
    for name, cells in expected(manifest).items():
        for cell in cells:
            assert cell.ends is None or cell.ends[0] <= cell.value <= cell.ends[1], name


def test_the_large_numbers_and_other_runtimes_have_theirs(folder: Path, manifest: dict[str, Any]) -> None:
    page, numbers = page_of(folder), expected(manifest)
    assert len(page.gains) == 4
    faster, *_, points = map(parsed, page.gains)
    low, high = numbers["latency p50 (ms)"][2].ends or (0, 0)
    assert faster.ends == pytest.approx((1 / high, 1 / low), abs=0.006)
    assert points.ends == pytest.approx(numbers["test accuracy (%)"][2].ends, abs=0.006)
    (other,) = manifest["compare"]
    target, compared = [row[1:] for row in page.rows if row[0].startswith("exact 1")]
    for cells, ratio in ((target, manifest["ratios"]["latency_p50_ends"]), (compared, other["ratio_ends"])):
        assert parsed(cells[2]).ends == pytest.approx(ratio, abs=6e-4)
    assert [parsed(cell).value for cell in compared[:2]] == pytest.approx(
        [other["before"]["p50"], other["after"]["p50"]], rel=1e-3
    )


def test_a_model_has_one_p50_wherever_it_is_shown(folder: Path, manifest: dict[str, Any]) -> None:
    facts = dict(map(tuple, page_of(folder).facts))  # type: ignore[arg-type]
    for whose, model in (("original", "baseline"), ("artifact", "artifact")):
        (told,) = re.findall(rf"p50 ({NUMBER} \({NUMBER} to {NUMBER}\)) ms", facts[whose])
        assert parsed(told).value == pytest.approx(manifest[model]["latency"]["p50"], rel=1e-3)
    p50, ratio = (manifest[model]["latency"]["p50"] for model in ("artifact", "baseline"))
    assert manifest["ratios"]["latency_p50"] == pytest.approx(p50 / ratio)
    page = render_report(folder).read_text()
    baseline = json.loads((folder / "baseline" / "evidence.json").read_text())["latency"]["p50"]
    assert baseline != ratio and "Milliseconds here are the search" in page


def test_what_else_was_measured_has_its_interval(folder: Path) -> None:
    facts = dict(map(tuple, page_of(folder).facts))  # type: ignore[arg-type]
    for name in ("original on test", "artifact on validation", "difference on test", "same answer"):
        assert re.search(rf"\({NUMBER} to {NUMBER}\)", facts[name]), facts[name]
    assert facts["confidence"].startswith("99 %")


@pytest.mark.parametrize("columns", [60, 100, 160])
def test_the_table_is_whole_in_narrow_terminals_too(
    folder: Path, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = closing_rows(closing_table(folder))
    print_measures(rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert (len(lines) == 1 + len(rows)) == (columns == 160)
    for row in rows if columns >= 100 else ():
        for cell in [*row.values()][1:]:
            number, _, ends = harmless(cell).partition(" (")
            assert any(number in line for line in lines) and any(ends in line for line in lines)
    assert "…" not in "".join(lines)


def test_a_model_of_a_front_that_a_stage_refused_does_not_count_as_held(
    folder: Path, tmp_path: Path, finished: State
) -> None:
    made = tmp_path / "demo"
    shutil.copytree(folder, made)
    recipes: list[Any] = [SimpleNamespace(name="demo", limits=finished.limits)]
    (row,) = front_rows(recipes, tmp_path)
    assert row["all limits hold"] is True
    (made / "exported" / "limit.txt").write_text("parity: the logits differ by 20.0 %")
    (row,) = front_rows(recipes, tmp_path)
    assert row["all limits hold"] is False and row["size"] < 1
