"""The tables that `paredown plan` prints."""

from dataclasses import replace
from pathlib import Path

from paredown.pipeline.report.plan_rows import budget_rows, kept_to_note, read_plan, site_rows
from paredown.stages.limits import Bound, Limits
from paredown.stages.products.costs import CostSummary
from paredown.stages.products.evidence import Evidence, LatencyEvidence
from paredown.stages.products.loss_check import LossCheck
from paredown.stages.products.plan import Plan

PLAN = Plan(
    choice={"conv1": "int8", "block.width": "keep 48"},
    limits={"latency": 4.9, "size": 2.0},
    predicted=CostSummary(4.71234, 1.5, memory=9.0, loss=0.125),
    measured=CostSummary(4.8, 1.5),
    margin=0.02,
    baseline=Evidence(LatencyEvidence(10.0, 12.0, 0.1, 100, 5), 8.0, 90.0, {}, {}, "exact", {}),
)
LIMITS = Limits(latency_p50=Bound(value=0.5, unit="x"), size=Bound(value=2.1, unit="MiB"))


def test_budgets_and_sites(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    PLAN.save(tmp_path / "plan")
    plan = read_plan(tmp_path)
    assert [list(row.values()) for row in budget_rows(plan, LIMITS)] == [
        ["latency (ms)", "4.712", "4.8", "5", "4.9"],
        ["loss (nats)", "0.125", "-", "-", "-"],
        ["memory (MiB)", "9", "-", "-", "-"],
        ["size (MiB)", "1.5", "1.5", "2.1", "2"],
    ]
    assert [list(row.values()) for row in site_rows(plan)] == [["block.width", "keep 48"], ["conv1", "int8"]]


def test_a_plan_that_could_not_be_measured() -> None:
    rows = budget_rows(replace(PLAN, measured=None), LIMITS)
    assert {row["measured"] for row in rows} == {"-"}


def test_a_search_that_kept_nothing(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    assert budget_rows(None, LIMITS) == site_rows(None) == []


def test_the_measured_loss_stands_beside_the_expected_one() -> None:
    check = LossCheck(
        predicted=0.125,
        spread=0.1,
        most=2.0,
        measured=0.25,
        error=0.01,
        images=64,
        before=80.0,
        points=-3.0,
        points_error=2.0,
    )
    rows = {row["budget"]: row for row in budget_rows(replace(PLAN, loss_check=check), LIMITS)}
    assert (rows["loss (nats)"]["predicted"], rows["loss (nats)"]["measured"]) == ("0.125", "0.25")


def test_the_two_limits_are_explained() -> None:
    note = kept_to_note(PLAN, LIMITS)
    assert "2 % under the limit (search.margin)" in note and "limits.confidence" not in note
    assert "limits.confidence" in kept_to_note(PLAN, LIMITS.model_copy(update={"confidence": 0.95}))
    assert kept_to_note(None, LIMITS) == kept_to_note(replace(PLAN, limits={}), LIMITS) == ""
