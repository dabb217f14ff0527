"""What was measured against every limit."""

import pytest

from paredown.stages.limits import Bound, Limits
from paredown.stages.measuring.limit_checks import limit_checks, missed_limit
from paredown.stages.products.evidence import Evidence, LatencyEvidence
from paredown.stages.products.manifest import MeasureRatios


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
