"""The tables that `paredown plan` prints."""

import json
from pathlib import Path

from paredown.pipeline.report.plan_rows import budget_rows, read_plan, site_rows

PLAN = {
    "limits": {"latency": 4.9, "size": 2.0},
    "predicted": {"latency": 4.71234, "size": 1.5, "memory": 9.0, "loss": 0.125},
    "measured": {"latency": 4.8, "size": 1.5, "memory": None},
    "choice": {"conv1": "int8", "block.width": "keep 48"},
}


def test_budgets_and_sites(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_text(json.dumps(PLAN))
    plan = read_plan(tmp_path)
    assert [list(row.values()) for row in budget_rows(plan)] == [
        ["latency (ms)", "4.712", "4.8", "4.9"],
        ["size (MiB)", "1.5", "1.5", "2"],
        ["memory (MiB)", "9", "-", "-"],
        ["loss (nats)", "0.125", "-", "-"],
    ]
    assert [list(row.values()) for row in site_rows(plan)] == [["conv1", "int8"], ["block.width", "keep 48"]]


def test_a_plan_that_could_not_be_measured() -> None:
    rows = budget_rows({**PLAN, "measured": None})
    assert {row["measured"] for row in rows} == {"-"}


def test_a_search_that_kept_nothing(tmp_path: Path) -> None:
    assert read_plan(tmp_path) == {}
    assert budget_rows({}) == site_rows({}) == []
