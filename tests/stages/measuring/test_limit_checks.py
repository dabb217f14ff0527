"""What was measured against every limit."""

from dataclasses import replace

import pytest

from paredown.stages.limits import Bound, Limits
from paredown.stages.measuring.limit_checks import limit_checks, missed_limit
from paredown.stages.products.evidence import AccuracyChange, Evidence, LatencyEvidence
from paredown.stages.products.interval import Interval
from paredown.stages.products.manifest import MeasureRatios
from paredown.stages.products.measure_check import MeasureCheck


def made(p50: float, p95: float, size: float, memory: float, points: float) -> Evidence:
    accuracy = {"validation": 0.0, "test": points}
    return Evidence(LatencyEvidence(p50, p95, 0.1, 100, 5), size, memory, accuracy, {}, "exact", {})


def ratios(p50: float) -> MeasureRatios:
    return MeasureRatios(p50, 0.25, 0.7)


BEFORE, AFTER = made(10, 12, 8, 100, 90), made(99, 6, 2, 70, 89)
ALL = Limits(
    latency_p50=Bound(value=0.5, unit="x"),
    latency_p95=Bound(value=6, unit="ms"),
    size=Bound(value=0.25, unit="x"),
    peak_memory=Bound(value=70, unit="MiB"),
    accuracy_drop=1.0,
)


def test_limits_are_held_up_to_and_with_their_value() -> None:
    table = {check.name: check for check in limit_checks(ALL, BEFORE, AFTER, ratios(0.5))}
    assert {name: check.holds for name, check in table.items()} == dict.fromkeys(table, True)
    assert {name: check.limit for name, check in table.items()} == {
        "latency p50": 5.0,
        "latency p95": 6.0,
        "size": 2.0,
        "peak memory": 70.0,
        "test accuracy": 89.0,
    }


def test_the_latency_is_the_paired_ratio_times_the_baseline() -> None:
    (latency, *_) = limit_checks(ALL, BEFORE, AFTER, ratios(0.4))
    assert (latency.before, latency.after) == (10, 4)


@pytest.mark.parametrize(
    ("worse", "name"),
    [
        ({"p95": 6.1}, "latency p95"),
        ({"size": 2.1}, "size"),
        ({"memory": 70.1}, "peak memory"),
        ({"points": 88.9}, "test accuracy"),
    ],
    ids=str,
)
def test_one_missed_limit_is_one_missed_check(worse: dict[str, float], name: str) -> None:
    after = made(**{"p50": 99, "p95": 6, "size": 2, "memory": 70, "points": 89, **worse})
    checks = limit_checks(ALL, BEFORE, after, ratios(0.5))
    assert [check.name for check in checks if check.holds is False] == [name]


def test_without_a_limit_there_is_no_verdict() -> None:
    none = Limits(size=Bound(value=1, unit="x"))
    verdicts = {check.name: check.holds for check in limit_checks(none, BEFORE, AFTER, ratios(2.0))}
    assert verdicts.pop("size") is True
    assert set(verdicts.values()) == {None}


def test_a_limit_that_is_missed_by_little_is_written_so_that_it_shows() -> None:
    after = made(p50=99, p95=6, size=2.0000001, memory=70, points=88.9996)
    missed = [missed_limit(check) for check in limit_checks(ALL, BEFORE, after, ratios(0.5)) if check.holds is False]
    assert missed[0] == "size 2.0000001 MiB is over its limit of 2 MiB"
    assert missed[1].startswith("test accuracy 88.9996 % is under its floor of 89.0000 %;")


SURE = MeasureRatios(
    0.45,
    0.25,
    0.7,
    latency_p50_ends=(0.42, 0.52),
    latency_p95=0.5,
    latency_p95_ends=(0.4, 0.6),
    peak_memory_ends=(0.69, 0.71),
)
LESS = AccuracyChange(Interval(-0.5, -2.0, 1.0), lost=13, gained=10, images=656)


def measured(limits: Limits, change: AccuracyChange = LESS) -> dict[str, MeasureCheck]:
    """Checks of measures that have intervals, by name."""
    timed = LatencyEvidence(10, 12, 0.1, 100, 5, p50_ends=(9.0, 11.0), p95_ends=(11.5, 12.5))
    faster = LatencyEvidence(4.5, 6, 0.1, 100, 5, p50_ends=(4.0, 5.1), p95_ends=(5.5, 6.5))
    before = replace(BEFORE, latency=timed, accuracy_ends={"test": (86.0, 93.0)})
    after = replace(AFTER, latency=faster, peak_memory_ends=(69.0, 71.0), accuracy={"test": 89.5})
    return {check.name: check for check in limit_checks(limits, before, after, SURE, change)}


def test_every_measure_has_its_interval_or_is_exact() -> None:
    checks = measured(ALL)
    assert {name for name, check in checks.items() if check.exact} == {"size"}
    assert (checks["latency p50"].before_ends, checks["latency p50"].after_ends) == ((9.0, 11.0), (4.0, 5.1))
    assert {name: check.change and check.change.ends for name, check in checks.items()} == {
        "latency p50": (0.42, 0.52),
        "latency p95": (0.4, 0.6),
        "size": (0.25, 0.25),
        "peak memory": (0.69, 0.71),
        "test accuracy": (-2.0, 1.0),
    }


def test_without_a_confidence_values_decide_and_what_reaches_over_is_told() -> None:
    checks = measured(ALL)
    assert {check.holds for check in checks.values()} == {True}
    assert {name: check.remark for name, check in checks.items()} == {
        "latency p50": "holds, but its interval reaches 0.52x, which is over 0.5x",
        "latency p95": "holds, but its interval reaches 6.5 ms, which is over 6 ms",
        "size": "",
        "peak memory": "holds, but its interval reaches 71 MiB, which is over 70 MiB",
        "test accuracy": (
            "holds, but its interval reaches -2.00 points; 656 images cannot tell 1 point; about 4,300 could"
        ),
    }


def test_with_a_confidence_the_far_end_decides() -> None:
    checks = measured(ALL.model_copy(update={"confidence": 0.95}))
    assert {name for name, check in checks.items() if check.holds} == {"size"}
    assert missed_limit(checks["latency p50"]).startswith(
        "latency p50 4.5 ms is within its limit of 5 ms, but its interval reaches 5.2 ms, and limits.confidence asks"
    )
    assert missed_limit(checks["test accuracy"]).startswith(
        "test accuracy 89.50 % is over its floor of 89.00 %, but its interval reaches 88.00 %, and limits.confidence"
    )
    assert "656 images cannot tell 1 point" in missed_limit(checks["test accuracy"])


@pytest.mark.parametrize(("factor", "holds"), [(0.52, True), (0.519, False)])
def test_a_factor_is_compared_with_the_end_of_the_ratio_and_not_of_the_times(factor: float, holds: bool) -> None:
    limits = Limits(latency_p50=Bound(value=factor, unit="x"), confidence=0.9)
    assert measured(limits)["latency p50"].holds is holds


def test_limits_that_hold_with_both_ends_need_no_remark() -> None:
    limits = Limits(latency_p50=Bound(value=0.6, unit="x"), accuracy_drop=3.0)
    change = AccuracyChange(Interval(0.0, -1.0, 1.0), lost=100, gained=100, images=10**5)
    for confidence in (None, 0.99):
        checks = measured(limits.model_copy(update={"confidence": confidence}), change)
        assert {check.remark for check in checks.values()} == {""}
        assert checks["latency p50"].holds and checks["test accuracy"].holds
